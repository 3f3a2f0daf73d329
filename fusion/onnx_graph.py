"""Cut the graph that :mod:`models.export` wrote into the steps of the cascade, and unroll them.

Steps need graphs of their own, since ONNX Runtime computes all of a graph, requested or not.

:func:`unroll` rewrites a graph for any number of photographs to one for N, with a tensor for each
photograph; what they have in common is computed once. ONNX Runtime then keeps features in the
layout its convolutions prefer, and adds within them: it does so where it knows that shapes are
equal, so they are told. It also reduces very slowly over a short first axis. Of two photographs,
features are computed as half of their sum and half of their difference: two convolutions for each
layer instead of three, since what they have in common is nothing but the half sum.
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
BLOCKED = ("Add", "Sum", "Relu", "Resize")  # ONNX Runtime computes these in any layout
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
        # Of two photographs, half of their sum and half of their difference; either or both.
        self.pairs: dict[str, tuple[str, str]] = {}
        self.means: dict[str, str] = {}  # of which set a tensor is the mean
        # For two photographs, by output: a convolution of each and one of their mean that are
        # added; of the outputs of the convolutions: None.
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
        if self.count == 2:
            self._find_layers(nodes)
        for node in nodes:
            self._rewrite_node(node)
        for entry in graph.output:
            if entry.name in self.pieces:
                self._emit("Concat", self.pieces[entry.name], entry.name, axis=0)
        used = {name for node in self.nodes for name in node.input}
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(x for name, x in self.arrays.items() if name in used)
        for name in self.blocked:
            channels, origin, level = self.sizes[name]
            shape = [1, channels, *(f"{side} of {origin} / 2^{level}" for side in ("H", "W"))]
            entry = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            graph.value_info.append(entry)

    def _array(self, name: str) -> np.ndarray:
        """A constant."""
        made = self.made.get(name)
        return numpy_helper.to_array(_attributes(made)["value"] if made else self.arrays[name])

    def _find_layers(self, nodes: Sequence[NodeProto]) -> None:
        """Find layers that take two convolutions for two photographs instead of three."""
        for node in nodes:
            parts = [self.made.get(name) for name in node.input]
            if node.op_type != "Add" or [x and x.op_type for x in parts] != ["Conv", "Conv"]:
                continue
            for own, common in (parts, parts[::-1]):
                mean, stride = self.made.get(common.input[0]), _stride(common)
                while mean and mean.op_type == "Slice":  # of the pixels that a stride leaves
                    stride *= int(self._array(mean.input[4]).max())
                    mean = self.made.get(mean.input[0])
                if not mean or mean.op_type != "ReduceMean" or mean.input[0] != own.input[0]:
                    continue
                weight, other = (self._array(x.input[1]).shape for x in (own, common))
                if stride == _stride(own) and weight[:2] == other[:2] and weight >= other:
                    self.layers |= {own.output[0]: None, common.output[0]: None}
                    self.layers[node.output[0]] = own, common

    def _emit_layer(self, output: str, own: NodeProto, common: NodeProto) -> None:
        """Compute a layer of two photographs: half the sum and half the difference of its outputs
        depend on those of its inputs alone."""
        total, difference, scale = self._halves(own.input[0])
        weight, other = (self._array(node.input[1]) for node in (own, common))
        # The kernel of the mean may be smaller, with the same centre.
        top, left = (more - less for more, less in zip(_pads(own), _pads(common), strict=True))
        both = weight.copy()
        both[:, :, top : top + other.shape[2], left : left + other.shape[3]] += other
        self.pairs[output] = f"{output}.same", f"{output}.less"
        for name, goes_in, w, bias in zip(
            self.pairs[output],
            (total, difference),
            (both, weight),
            (own.input[2:], []),
            strict=True,
        ):
            inputs = [goes_in, self._constant(f"{name}.weight", scale * w), *bias]
            self._repeat(own, inputs, [name])

    def _halves(self, name: str) -> tuple[str, str, float]:
        """Sum and difference of two photographs, and the factor that makes halves of them."""
        if name in self.pairs:
            return *self.pairs[name], 1
        same, less = f"{name}.sum", f"{name}.difference"
        if same not in self.done:
            self.done.add(same)
            self._emit("Add", self.pieces[name], same)
            self._emit_sum(*self.pieces[name], -1, less)
        return same, less, 0.5

    def _photographs(self, name: str) -> list[str]:
        """The tensors of single photographs."""
        if name not in self.pieces:
            same, less = self.pairs[name]
            first, second = self._split(name)
            self._emit("Add", [same, less], first)
            self._emit_sum(first, less, -2, second)
        return self.pieces[name]

    def _emit_sum(self, one: str, two: str, factor: int, output: str) -> None:
        """one + factor·two; by a convolution if that keeps the layout."""
        if two in self.blocked:
            channels = self.sizes[two][0]
            weight = self._constant(f"{factor}.{channels}", np.full((channels, 1, 1, 1), factor))
            two = self._emit("Conv", [two, weight], f"{output}.part", group=channels)
            self._emit("Add", [two, one], output)
        else:
            self._emit("Sub", [one, two], output)

    def _is_set(self, name: str) -> bool:
        return name in self.pieces or name in self.pairs

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
        if kind == "Conv":
            _, origin, level = known[0] if known else (0, origin, 0)
            level += _stride(node) - 1
            self.sizes[output] = self.arrays[node.input[1]].dims[0], origin, level
        elif known and kind == "Resize":
            channels, origin, level = known[0]
            self.sizes[output] = channels, origin, level - 1
        elif known and kind in SAME_SIZE:
            self.sizes[output] = max(known)
        if kind == "Conv" or (kind in BLOCKED and {*node.input} & self.blocked):
            self.blocked.add(output)

    def _constant(self, name: str, array: np.ndarray) -> str:
        if name not in self.arrays:
            self.arrays[name] = numpy_helper.from_array(array.astype("f4"), name)
        return name

    def _rewrite_node(self, node: NodeProto) -> None:
        (output, *_), about = node.output, _attributes(node)
        sets = {name for name in node.input if self._is_set(name)}
        paired = self.pairs.keys() >= sets
        over = about.get("axes") in ([0], [-4]) or node.op_type == "ReduceSum"
        flat = bool(self.flat & sets)
        if output in self.layers:
            if layer := self.layers[output]:
                self._emit_layer(output, *layer)
        elif not sets:
            inputs = list(node.input)
            if node.op_type == "Conv" and inputs[0] in self.means:  # of the sum, so no mean is made
                inputs[:2] = self._sum(inputs[0]), f"{inputs[1]} / {self.count}"
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
            self._emit_two_best(*node.input[:1], output)
        elif node.op_type == "Concat" and flat:
            pieces = [x for name in node.input for x in self.pieces.get(name, [name])]
            self._repeat(node, pieces, node.output)
        elif paired and (node.op_type, len(sets)) in (("Resize", 1), ("Add", 2)):
            self.pairs[output] = f"{output}.same", f"{output}.less"
            for i, half in enumerate(self.pairs[output]):  # of a linear map, it is that of halves
                inputs = [self.pairs[x][i] if x in sets else x for x in node.input]
                self._repeat(node, inputs, [half])
        elif paired and node.op_type == "Sub" and self.means.get(node.input[1]) in sets:
            less = self.pairs[node.input[0]][1]  # how photographs differ from their mean
            self.pieces[output] = [less, self._emit("Neg", [less], f"{output}.1")]
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

    def _sum(self, mean: str) -> str:
        """The sum of the set that has this mean."""
        same, total = self.means[mean], f"{mean}.sum"
        if total not in self.done:
            self.done.add(total)
            self._emit("Sum", self._photographs(same), total)
        return total

    def _need(self, name: str) -> str:
        """The tensor of a name; a mean is computed before its first use."""
        if name not in self.means:
            return name
        if (same := self.means[name]) in self.pairs:
            return self.pairs[same][0]
        if name not in self.done:
            self.done.add(name)
            part = self._constant("one part", np.array(1 / self.count))
            self._emit("Mul", [self._sum(name), part], name)
        return name

    def _emit_two_best(self, scores: str, output: str) -> None:
        """The two largest values of each pixel, which is much faster than TopK."""
        best, second = self.pieces[scores][0], None
        for i, piece in enumerate(self.pieces[scores][1:]):
            less = self._emit("Min", [best, piece], f"{output}.less.{i}")
            second = self._emit("Max", [second, less], f"{output}.2.{i}") if second else less
            best = self._emit("Max", [best, piece], f"{output}.1.{i}")
        self._emit("Concat", [best, second], output, axis=0)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {x.name: helper.get_attribute_value(x) for x in node.attribute}


def _stride(conv: NodeProto) -> int:
    return _attributes(conv).get("strides", [1])[0]


def _pads(conv: NodeProto) -> list[int]:
    """Rows above and columns left of a picture that a convolution sees."""
    return _attributes(conv).get("pads", [0, 0])[:2]


def not_ours(path: str | Path) -> UserError:
    """The error for a file that is broken or not ours."""
    way = "write it with python -m models.export"
    return UserError(f"{path} is not a whole ONNX file of ours; {way}")
