"""Cut the graph that :mod:`models.export` wrote into the steps of the cascade, and unroll them.

Steps need graphs of their own, since ONNX Runtime computes all of a graph, requested or not.

:func:`unroll` rewrites a graph for any number of photographs to one for N, with a tensor for each
photograph; what they have in common is computed once. ONNX Runtime then keeps features in the
layout its convolutions prefer; it also reduces very slowly over a short first axis. Together this
halves the time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, helper, numpy_helper
from onnx.utils import Extractor

from utils.errors import UserError, os_errors

SETS = "photographs"  # name that models.export gives the axis of all photographs


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
        self.sums: dict[str, str] = {}  # sum over all photographs, by their mean
        # For two photographs, by output: a convolution of each and one of their mean, of one kernel
        # size, that are added; of the outputs of the convolutions: None.
        self.layers: dict[str, tuple[NodeProto, NodeProto] | None] = {}
        self.flat: set[str] = set()  # tensors (N, H, W), in which photographs are the channels
        self.known: set[str] = set()  # means and differences computed already
        self.nodes: list[NodeProto] = []
        self.arrays = {x.name: x for x in model.graph.initializer}

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

    def _array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.arrays[name])

    def _find_layers(self, nodes: Sequence[NodeProto]) -> None:
        """Find layers that take two convolutions for two photographs instead of three."""
        made = {name: node for node in nodes for name in node.output}
        for node in nodes:
            parts = [made[name] for name in node.input if name in made]
            if node.op_type != "Add" or [part.op_type for part in parts] != ["Conv", "Conv"]:
                continue
            for own, common in (parts, parts[::-1]):
                mean = made.get(common.input[0])
                if not mean or mean.op_type != "ReduceMean" or mean.input[0] != own.input[0]:
                    continue
                shapes = {self._array(part.input[1]).shape for part in parts}
                if len(shapes) == 1 and shapes.pop()[-1] > 1:  # otherwise it saves nothing
                    self.layers |= {own.output[0]: None, common.output[0]: None}
                    self.layers[node.output[0]] = own, common

    def _emit_layer(self, output: str, own: NodeProto, common: NodeProto) -> None:
        """Compute a layer from the sum and the difference of two photographs: the difference of
        its outputs depends on that of its inputs alone."""
        first, second = self.pieces[own.input[0]]
        weight, other = (self._array(node.input[1]) for node in (own, common))
        changes = f"{own.input[0]}.difference"
        if changes not in self.known:
            self.known.add(changes)
            self._emit_sum(first, second, -1, weight.shape[1], changes)
        same, less = f"{output}.same", f"{output}.less"
        for name, goes_in, w, bias in (
            (same, self.sums[common.input[0]], (weight + other) / 2, own.input[2:]),
            (less, changes, weight / 2, []),
        ):
            self._repeat(own, [goes_in, self._constant(f"{name}.weight", w), *bias], [name])
        for sign, name in zip((1, -1), self._split(output), strict=True):
            self._emit_sum(same, less, sign, len(weight), name)

    def _emit_sum(self, one: str, two: str, sign: int, channels: int, output: str) -> None:
        """one + sign·two by a convolution, which keeps the layout that convolutions prefer."""
        weight = self._constant(f"{sign}.{channels}", np.full((channels, 1, 1, 1), sign))
        signed = self._emit("Conv", [two, weight], f"{output}.signed", group=channels)
        self._emit("Add", [signed, one], output)

    def _split(self, name: str) -> list[str]:
        """Name the tensors of single photographs."""
        self.pieces[name] = [f"{name}.{i}" for i in range(self.count)]
        return self.pieces[name]

    def _emit(self, kind: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, array: np.ndarray) -> str:
        if name not in self.arrays:
            self.arrays[name] = numpy_helper.from_array(array.astype("f4"), name)
        return name

    def _rewrite_node(self, node: NodeProto) -> None:
        sets = {*node.input} & {*self.pieces}
        about = {x.name: helper.get_attribute_value(x) for x in node.attribute}
        over = about.get("axes") in ([0], [-4]) or node.op_type == "ReduceSum"
        flat = bool(self.flat & sets)
        if node.output[0] in self.layers:
            if layer := self.layers[node.output[0]]:
                self._emit_layer(node.output[0], *layer)
        elif not sets:
            self._repeat_common(node)
        elif node.op_type == "Shape":  # only height and width are used
            self._repeat_for(node, 0, node.output)
        elif node.op_type.startswith("Reduce") and over:
            self._reduce(node)
        elif node.op_type == "TopK" or (node.op_type == "Concat" and flat):
            self._repeat_joined(node)
        else:
            for i, outputs in enumerate(zip(*map(self._split, node.output), strict=True)):
                self._repeat_for(node, i, outputs)
            if node.op_type in ("Gather", "Slice") and (flat or about.get("axis") in (1, -3)):
                self.flat |= {*node.output}

    def _repeat_for(self, node: NodeProto, i: int, outputs: Sequence[str]) -> None:
        """Repeat a node for photograph ``i``."""
        inputs = [self.pieces[name][i] if name in self.pieces else name for name in node.input]
        self._repeat(node, inputs, outputs)

    def _repeat(self, node: NodeProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name, copy.input[:], copy.output[:] = outputs[0], map(self._need, inputs), outputs
        self.nodes.append(copy)

    def _reduce(self, node: NodeProto) -> None:
        kind = node.op_type.removeprefix("Reduce").replace("Mean", "Sum")
        (output,) = node.output
        if node.op_type == "ReduceMean":
            self.sums[output] = output = f"{output}.sum"
        self._emit(kind, self.pieces[node.input[0]], output)

    def _need(self, name: str) -> str:
        """Emit the node of a mean before its first use; returns the name."""
        if name in self.sums and name not in self.known:
            self.known.add(name)
            part = self._constant("one part", np.array(1 / self.count))
            self._emit("Mul", [self.sums[name], part], name)
        return name

    def _repeat_common(self, node: NodeProto) -> None:
        inputs = list(node.input)
        if node.op_type == "Conv" and inputs[0] in self.sums:  # of the sum, with smaller weights
            weight = self._array(inputs[1]) / self.count
            inputs[:2] = self.sums[inputs[0]], self._constant(f"{inputs[1]}/{self.count}", weight)
        self._repeat(node, inputs, node.output)

    def _repeat_joined(self, node: NodeProto) -> None:
        """A node that needs all photographs in one tensor."""
        inputs = [piece for name in node.input for piece in self.pieces.get(name, [name])]
        if node.op_type == "TopK":
            inputs[:-1] = [self._emit("Concat", inputs[:-1], f"{node.output[0]}.all", axis=0)]
        self._repeat(node, inputs, node.output)


def not_ours(path: str | Path) -> UserError:
    """The error for a file that is broken or not ours."""
    way = "write it with python -m models.export"
    return UserError(f"{path} is not a whole ONNX file of ours; {way}")
