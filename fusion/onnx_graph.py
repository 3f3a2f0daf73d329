"""Cut the graph that :mod:`models.export` wrote into the steps of the cascade, and unroll them.

Steps need graphs of their own, since ONNX Runtime computes all of a graph, requested or not.

:func:`unroll` rewrites a graph for any number of photographs to one for N, with a tensor for each
photograph; what they have in common is computed once. ONNX Runtime then keeps features in the
layout its convolutions prefer, and adds within them: it does so where it knows that shapes are
equal, so they are told. It also reduces very slowly over a short first axis.

A layer that convolves each photograph and their mean is linear: it takes the mean to the mean, and
deviations from it to deviations, of which the last is given by the others. So it takes N
convolutions instead of N + 1, and features stay in this form where all that follows is linear.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, helper, numpy_helper
from onnx.utils import Extractor

from utils.errors import UserError, os_errors

SETS = "photographs"  # name that models.export gives the axis of all photographs
BLOCKED = ("Add", "Sum", "Relu", "Resize")  # what keeps the layout of convolutions
LINEAR = {"Add": 2, "Resize": 1}  # with that many sets as inputs
SAME_SIZE = ("Add", "Sum", "Relu", "Sub", "Mul", "Div", "Neg", "Abs", "Clip", "LeakyRelu")


def cut(path: str | Path, parts: Mapping[str, list[str]]) -> dict[str, bytes]:
    """Cut parts out of an ONNX file, each serialised, by output and inputs; parts that it does not
    have are left out. Raises :class:`UserError` if the file is missing, broken or not of
    :mod:`models.export`."""
    try:
        with os_errors(f"read weights {path}"):
            model = onnx.load(path)
        outputs, extract = {output.name for output in model.graph.output}, Extractor(model)
        graphs = {
            name: extract.extract_model(inputs, [name]).SerializeToString()
            for name, inputs in parts.items()
            if outputs >= {name, *inputs[1:]}
        }
    except (DecodeError, ValueError) as error:
        raise not_ours(path) from error
    if "initial" not in graphs:
        raise not_ours(path)
    return graphs


def unroll(graph: bytes, count: int) -> bytes:
    """A graph of :func:`cut` for ``count`` photographs; unchanged if their number is fixed.

    An input with an axis of photographs becomes one for each: ``name.0``, ``name.1`` …, (1, C, H,
    W); outputs stay as they are.
    """
    model = onnx.load_from_string(graph)
    if any(x.type.tensor_type.shape.dim[0].dim_param != SETS for x in model.graph.input):
        return graph
    _Unrolling(model, count).rewrite()
    return model.SerializeToString()


class _Unrolling:
    """Rewrites the nodes of a model in order."""

    def __init__(self, model: onnx.ModelProto, count: int):
        self.model, self.count = model, count
        # Of each tensor with an axis of photographs, the tensors of single photographs.
        self.pieces: dict[str, list[str]] = {}
        # The same, or instead: their mean, and how all but the last deviate from it.
        self.parts: dict[str, list[str]] = {}
        self.means: dict[str, str] = {}  # of which set a tensor is the mean
        # By output: convolutions alike of each photograph and of their mean, which are added; of
        # the outputs of the convolutions: None.
        self.layers: dict[str, tuple[NodeProto, NodeProto] | None] = {}
        self.flat: set[str] = set()  # tensors (N, H, W), in which photographs are the channels
        self.blocked: set[str] = set()  # tensors in the layout of convolutions
        # Channels, a tensor of the original graph, and how often its height and width are halved.
        self.sizes: dict[str, tuple[int, str, int]] = {}
        self.done: set[str] = set()  # what is computed when it is needed
        self.nodes: list[NodeProto] = []
        self.arrays = {x.name: x for x in model.graph.initializer}
        self.made = {name: node for node in model.graph.node for name in node.output}

    def rewrite(self) -> None:
        """Rewrite the model in place."""
        graph = self.model.graph
        aliases = {  # equal weights are stored once
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Identity" and node.input[0] in self.arrays
        }
        nodes = [node for node in graph.node if node.output[0] not in aliases]
        for node in nodes:
            node.input[:] = [aliases.get(name, name) for name in node.input]
        given = list(graph.input)
        del graph.input[:]
        for entry in given:
            for piece in self._split(entry.name):
                entry.name, entry.type.tensor_type.shape.dim[0].dim_value = piece, 1
                graph.input.append(entry)
        self._find_layers(nodes)
        for node in nodes:
            self._rewrite_node(node)
        for entry in graph.output:
            if self._is_set(entry.name):
                self._emit("Concat", self._photographs(entry.name), entry.name, axis=0)
        used = {name for node in self.nodes for name in node.input}
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(x for name, x in self.arrays.items() if name in used)
        for name in sorted(self.blocked):
            channels, origin, level = self.sizes[name]
            shape = [1, channels, *(f"{side} of {origin} / 2^{level}" for side in ("H", "W"))]
            entry = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            graph.value_info.append(entry)

    def _array(self, name: str) -> np.ndarray:
        """A constant."""
        made = self.made.get(name)
        return numpy_helper.to_array(_attributes(made)["value"] if made else self.arrays[name])

    def _find_layers(self, nodes: Sequence[NodeProto]) -> None:
        linear: set[str] = set()  # tensors that stay as mean and deviations
        for node in nodes:
            if node.op_type in LINEAR and linear.issuperset(node.input[: LINEAR[node.op_type]]):
                linear |= {*node.output}
            parts = [self.made.get(name) for name in node.input]
            if node.op_type != "Add" or [x and x.op_type for x in parts] != ["Conv", "Conv"]:
                continue
            for own, common in (parts, parts[::-1]):
                mean = self.made.get(common.input[0])
                if not mean or mean.op_type != "ReduceMean" or mean.input[0] != own.input[0]:
                    continue
                if not {own.input[1], common.input[1]} <= self.arrays.keys():
                    continue  # its weights are computed
                shape, other = (self.arrays[x.input[1]].dims for x in (own, common))
                worth = shape[-1] > 1 or own.input[0] in linear
                if worth and shape == other and _attributes(own) == _attributes(common):
                    self.layers |= {own.output[0]: None, common.output[0]: None}
                    self.layers[node.output[0]] = own, common
                    linear |= {*node.output}

    def _emit_layer(self, output: str, own: NodeProto, common: NodeProto) -> None:
        given, scale = self._parts_of(own.input[0])
        weight = self._array(own.input[1]) + self._array(common.input[1])
        both = self._constant(f"{output}.weight", scale * weight)
        self.parts[output] = [f"{output}.part.{i}" for i in range(self.count)]
        mean, *deviations = self.parts[output]
        self._repeat(own, [given[0], both, *own.input[2:]], [mean])
        for goes_in, deviation in zip(given[1:], deviations, strict=True):
            self._repeat(own, [goes_in, own.input[1]], [deviation])

    def _parts_of(self, name: str) -> tuple[list[str], float]:
        """Mean of the photographs, up to the factor that is returned too, and deviations."""
        if name in self.parts:
            return self.parts[name], 1
        total = self._sum(name)
        deviations = [f"{name}.deviation.{i}" for i in range(self.count - 1)]
        for piece, deviation in zip(self.pieces[name], deviations, strict=False):
            if deviation not in self.done:
                self.done.add(deviation)
                self._emit_sum(piece, total, -1 / self.count, deviation)
        return [total, *deviations], 1 / self.count

    def _photographs(self, name: str) -> list[str]:
        """The tensors of single photographs."""
        if name not in self.pieces:
            mean, *deviations = self.parts[name]
            *pieces, last = self._split(name)
            for piece, deviation in zip(pieces, deviations, strict=True):
                self._emit("Add", [mean, deviation], piece)
            if self.count == 2:  # in a pass less
                self._emit_sum(*pieces, *deviations, -2, last)
            else:
                rest = self._emit("Sum", deviations, f"{name}.rest")
                self._emit_sum(mean, rest, -1, last)
        return self.pieces[name]

    def _emit_sum(self, one: str, two: str, factor: float, output: str) -> None:
        """one + factor·two."""
        self._emit("Add", [self._scale(two, factor, f"{output}.scaled"), one], output)

    def _scale(self, name: str, factor: float, output: str) -> str:
        """factor·tensor; of features by a convolution, which keeps their layout."""
        if name not in self.blocked:
            return self._emit("Mul", [name, self._constant(f"{factor}", np.array(factor))], output)
        channels = self.sizes[name][0]
        weight = self._constant(f"{factor}.{channels}", np.full((channels, 1, 1, 1), factor))
        return self._emit("Conv", [name, weight], output, group=channels)

    def _is_set(self, name: str) -> bool:
        return name in self.pieces or name in self.parts

    def _split(self, name: str) -> list[str]:
        """Name the tensors of single photographs."""
        self.pieces[name] = [f"{name}.{i}" for i in range(self.count)]
        return self.pieces[name]

    def _emit(self, kind: str, inputs: Sequence[str], output: str, **attributes) -> str:
        self._append(helper.make_node(kind, inputs, [output], **attributes), output)
        return output

    def _append(self, node: NodeProto, origin: str) -> None:
        """Append a node. What is not known to have a size of others has that of ``origin``."""
        self.nodes.append(node)
        known = [self.sizes[name] for name in node.input if name in self.sizes]
        (output, *_), kind = node.output, node.op_type
        if kind == "Conv" and node.input[1] in self.arrays:
            _, origin, level = known[0] if known else (0, origin, 0)
            level += _stride(node) - 1
            self.sizes[output] = self.arrays[node.input[1]].dims[0], origin, level
        elif known and kind == "Resize":
            channels, origin, level = known[0]
            self.sizes[output] = channels, origin, level - 1
        elif known and kind in SAME_SIZE:
            self.sizes[output] = max(known)
        features = kind == "Conv" or (kind in BLOCKED and {*node.input} & self.blocked)
        if features and output in self.sizes:
            self.blocked.add(output)

    def _constant(self, name: str, array: np.ndarray) -> str:
        if name not in self.arrays:
            self.arrays[name] = numpy_helper.from_array(array.astype("f4"), name)
        return name

    def _rewrite_node(self, node: NodeProto) -> None:
        (output, *_), about = node.output, _attributes(node)
        sets = {name for name in node.input if self._is_set(name)}
        linear = self.parts.keys() >= sets
        over = about.get("axes") in ([0], [-4]) or node.op_type == "ReduceSum"
        flat = bool(self.flat & sets)
        if output in self.layers:
            if layer := self.layers[output]:
                self._emit_layer(output, *layer)
        elif not sets:
            inputs = list(node.input)
            of_mean = node.op_type == "Conv" and inputs[0] in self.means
            if of_mean and inputs[1] in self.arrays:  # of the sum, so that no mean is made
                inputs[:2] = self._sum(self.means[inputs[0]]), f"{inputs[1]} / {self.count}"
                self._constant(inputs[1], self._array(node.input[1]) / self.count)
            self._repeat(node, inputs, node.output)
        elif node.op_type == "Shape":  # only height and width are used
            self._repeat_for(node, 0, node.output)
        elif node.op_type == "ReduceMean" and over:
            self.means[output] = node.input[0]
        elif node.op_type.startswith("Reduce") and over:
            kind = node.op_type.removeprefix("Reduce")
            self._emit(kind, self._photographs(node.input[0]), output)
        elif node.op_type == "TopK" and self._array(node.input[1]) == 2:
            self._emit_two_best(self._photographs(node.input[0]), output)
        elif node.op_type == "Concat" and flat:
            pieces = [x for name in node.input for x in self.pieces.get(name, [name])]
            self._repeat(node, pieces, node.output)
        elif linear and LINEAR.get(node.op_type) == len(sets):
            self.parts[output] = [f"{output}.part.{i}" for i in range(self.count)]
            for i, part in enumerate(self.parts[output]):
                inputs = [self.parts[x][i] if x in sets else x for x in node.input]
                self._repeat(node, inputs, [part])
        else:
            for i, outputs in enumerate(zip(*map(self._split, node.output), strict=True)):
                self._repeat_for(node, i, outputs)
            if node.op_type in ("Gather", "Slice") and (flat or about.get("axis") in (1, -3)):
                self.flat |= {*node.output}

    def _repeat_for(self, node: NodeProto, i: int, outputs: Sequence[str]) -> None:
        """Repeat a node for photograph ``i``."""
        inputs = [self._photographs(x)[i] if self._is_set(x) else x for x in node.input]
        self._repeat(node, inputs, outputs)

    def _repeat(self, node: NodeProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name, copy.input[:], copy.output[:] = outputs[0], map(self._need, inputs), outputs
        self._append(copy, node.output[0])

    def _sum(self, name: str) -> str:
        """The sum of a set."""
        total = f"{name}.sum"
        if total not in self.done:
            self.done.add(total)
            self._emit("Sum", self._photographs(name), total)
        return total

    def _need(self, name: str) -> str:
        """The tensor of a name; a mean is computed before its first use."""
        if name not in self.means:
            return name
        if (same := self.means[name]) in self.parts:
            return self.parts[same][0]
        if name not in self.done:
            self.done.add(name)
            self._scale(self._sum(same), 1 / self.count, name)
        return name

    def _emit_two_best(self, pieces: Sequence[str], output: str) -> None:
        """The two largest values of each pixel, which is much faster than TopK."""
        best, second = pieces[0], None
        for i, piece in enumerate(pieces[1:]):
            less = self._emit("Min", [best, piece], f"{output}.less.{i}")
            second = self._emit("Max", [second, less], f"{output}.2.{i}") if second else less
            best = self._emit("Max", [best, piece], f"{output}.1.{i}")
        self._emit("Concat", [best, second], output, axis=0)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {x.name: helper.get_attribute_value(x) for x in node.attribute}


def _stride(conv: NodeProto) -> int:
    return _attributes(conv).get("strides", [1])[0]


def not_ours(path: str | Path) -> UserError:
    """The error for a file that is broken or not ours."""
    way = "write it with python -m models.export"
    return UserError(f"{path} is not a whole ONNX file of ours; {way}")
