"""The exported graph against PyTorch, and what reads it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchmarks import backends
from benchmarks.measure import Cost
from fusion.backends import ONNX, OnnxBackend, TorchBackend, load_backend
from fusion.onnx_graph import cut, unroll
from models import export
from models.build import build, load_model, save_weights
from models.layers import SetConv
from models.mmfnet import Fusion
from tests.conftest import ROOT
from utils.errors import UserError

NETS = {
    "set": {
        "initial": {"name": "SetInitialFusion", "args": {"widths": [4, 6, 8]}},
        "boundary": {
            "name": "SetBoundaryFusion",
            "args": {"widths": [4, 6], "blocks": [1, 2]},
        },
    },
    "paper": {
        "initial": {"name": "InitialFusion", "args": {"channels": 6, "blocks": 2, "sigmoid": True}},
        "boundary": {"name": "BoundaryFusion", "args": {"channels": 6, "blocks": 2}},
    },
    "initial alone": {
        "initial": {"name": "SetInitialFusion", "args": {"widths": [4, 6]}},
        "boundary": None,
    },
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Weights of each net, and what the command made of them."""
    folder = tmp_path_factory.mktemp("onnx")
    made = {}
    for name, config in NETS.items():
        torch.manual_seed(5)
        model = build(config).eval().requires_grad_(False)
        weights, path = folder / f"{name}.safetensors", folder / f"{name}.onnx"
        save_weights(weights, model.state_dict(), config)
        assert export.main(["--onnx", str(path), "--weights", str(weights)]) == 0
        made[name] = model, weights, path
    return made


def make(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("shape", [(2, 3, 97, 130), (4, 3, 64, 96), (7, 3, 16, 51)])
def test_one_graph_for_all_numbers_and_sizes_agrees_with_pytorch(exported, name, shape):
    if name == "paper":
        shape = (2, *shape[1:])
    model, _, path = exported[name]
    photographs = make(*shape)
    outputs = ["fused", "initial", "guidance", "boundary"]
    session = onnxruntime.InferenceSession(path)
    result = session.run(outputs, {"photographs": photographs.numpy()})
    found = model(photographs[None])
    expected = found.fused.clamp(0, 1), found.initial, found.guidance, found.boundary
    for x, y in zip(result, expected, strict=True):
        np.testing.assert_allclose(x, y[0], atol=export.TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["set", "initial alone"])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_unrolled_graphs_compute_the_same(exported, name, count):
    photographs = make(count, 3, 61, 83).numpy()
    guidance = make(count, 1, 61, 83).softmax(0).numpy()
    given = {"photographs": photographs, "guidance": guidance}
    for part, graph in cut(exported[name][2], OnnxBackend.PARTS).items():
        if part not in ("guidance", "coefficients"):
            continue
        feed = {key: given[key] for key in OnnxBackend.PARTS[part]}
        expected = onnxruntime.InferenceSession(graph).run(None, feed)[0]
        each = {f"{key}.{i}": x[i : i + 1] for key, x in feed.items() for i in range(count)}
        found = onnxruntime.InferenceSession(unroll(graph, count)).run(None, each)[0]
        assert found.shape == expected.shape and np.ptp(expected) > 1e-3
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("count", [2, 5])
def test_sizes_that_unrolled_graphs_declare_are_true(exported, count):
    """ONNX Runtime adds in place what is said to be equal: a wrong size would break it."""
    graph = cut(exported["set"][2], OnnxBackend.PARTS)["guidance"]
    model = onnx.load_from_string(unroll(graph, count))
    declared = {x.name: x.type.tensor_type.shape.dim for x in model.graph.value_info}
    del model.graph.value_info[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in declared)
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), plain)
    feed = {f"photographs.{i}": make(1, 3, 61, 83).numpy() for i in range(count)}
    found = dict(zip(declared, session.run(list(declared), feed), strict=True))
    meant: dict[str, set[int]] = {}
    for name, dims in declared.items():
        assert dims[1].dim_value == found[name].shape[1]
        for dim, size in zip(dims[2:], found[name].shape[2:], strict=True):
            meant.setdefault(dim.dim_param, set()).add(size)
    assert len(meant) >= 2 * 3 and all(len(sizes) == 1 for sizes in meant.values())


@pytest.mark.parametrize("count", [2, 5])
def test_a_layer_takes_a_convolution_for_each_photograph(exported, count):
    """And none for their mean."""
    model, _, path = exported["set"]
    graph = cut(path, OnnxBackend.PARTS)["coefficients"]
    groups = [
        onnx.helper.get_node_attr_value(node, "group")
        for node in onnx.load_from_string(unroll(graph, count)).graph.node
        if node.op_type == "Conv"
    ]
    layers = sum(isinstance(layer, SetConv) for layer in model.boundary.modules())
    last = 1 + count  # of what the photographs share, and of each
    assert groups.count(1) == count * layers + last


@pytest.mark.parametrize("count", [2, 4])
def test_weights_may_be_computed(exported, count):
    """As those of a network of one's own may be, which nobody folded."""
    graph = cut(exported["set"][2], OnnxBackend.PARTS)["coefficients"]
    model = onnx.load_from_string(graph)
    for array in [x for x in model.graph.initializer if len(x.dims) == 4]:
        node = onnx.helper.make_node("Neg", [f"{array.name}.negative"], [array.name])
        model.graph.node.insert(0, node)
        negative = -onnx.numpy_helper.to_array(array)
        array.CopyFrom(onnx.numpy_helper.from_array(negative, node.input[0]))
    feed = {}
    for i in range(count):
        feed[f"photographs.{i}"] = make(1 + i, 3, 32, 40)[-1:].numpy()
        feed[f"guidance.{i}"] = np.full((1, 1, 32, 40), 1 / count, np.float32)
    found = [
        onnxruntime.InferenceSession(unroll(data, count)).run(None, feed)[0]
        for data in (graph, model.SerializeToString())
    ]
    np.testing.assert_allclose(*found, atol=1e-5)


def test_graphs_for_two_alone_stay_as_they_are(exported):
    for graph in cut(exported["paper"][2], OnnxBackend.PARTS).values():
        assert unroll(graph, 2) == graph


def test_the_shipped_file_is_of_the_shipped_weights():
    about = {entry.key: entry.value for entry in onnx.load(ONNX).metadata_props}
    assert about["weights_sha256"] == hashlib.sha256(export.WEIGHTS.read_bytes()).hexdigest()
    assert max(export.check(onnx.load(ONNX), load_model(export.WEIGHTS))) <= export.TOLERANCE


def test_the_file_tells_what_it_is(exported):
    _, weights, path = exported["set"]
    proto = onnx.load(path, load_external_data=False)
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert about["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert json.loads(about["model"]) == NETS["set"]
    assert "not stated" in about["terms"] and "BSDS500" in export.about(export.WEIGHTS)["terms"]
    assert [opset.version for opset in proto.opset_import] == [export.OPSET]
    assert [x.name for x in proto.graph.output] == [
        "fused",
        "initial",
        "guidance",
        "boundary",
        "coefficients",
    ]
    sizes = [axis.dim_param for axis in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["photographs", "", "height", "width"]
    assert str(ROOT).encode() not in path.read_bytes()  # no traces of this machine
    assert list(path.parent.glob("set.onnx*")) == [path]  # and the weights are inside


def test_a_graph_that_disagrees_is_not_written(tmp_path, exported, monkeypatch, capsys):
    _, weights, _ = exported["set"]
    monkeypatch.setattr(export, "boundary_map", lambda guidance: guidance[0])
    out = tmp_path / "out.onnx"
    assert export.main(["--onnx", str(out), "--weights", str(weights)]) == 2
    assert "from PyTorch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nan_is_a_disagreement(exported, monkeypatch):
    _, weights, path = exported["set"]
    model = load_model(weights)
    forward, calls = model.forward, []

    def spoiled(photographs: torch.Tensor) -> Fusion:
        """In the second picture the last of the outputs is NaN."""
        calls.append(photographs)
        fusion = forward(photographs)
        return fusion._replace(boundary=fusion.boundary * torch.nan) if len(calls) == 2 else fusion

    monkeypatch.setattr(model, "forward", spoiled)
    with pytest.raises(UserError, match="nan from PyTorch"):
        export.check(onnx.load(path), model)


@pytest.mark.parametrize("name", NETS)
def test_each_step_is_pytorchs(exported, name):
    model, _, path = exported[name]
    photographs = [(x * 255).byte().permute(1, 2, 0).numpy() for x in make(2, 3, 61, 75)]
    ours, theirs = OnnxBackend(path, 1), TorchBackend(model)
    inputs = [backend.load(photographs) for backend in (ours, theirs)]
    np.testing.assert_allclose(inputs[0], inputs[1], atol=1e-6)
    guidance = theirs.guide(inputs[1])
    np.testing.assert_allclose(ours.guide(inputs[0]), guidance, atol=1e-5)
    steps = ours.coefficients(inputs[0], guidance), theirs.coefficients(inputs[1], guidance)
    if name == "initial alone":
        assert steps == (None, None)
    else:
        np.testing.assert_allclose(*steps, atol=1e-5, rtol=1e-4)
    for coefficients in {id(x): x for x in (None, steps[1])}.values():
        fused = [
            b.blend(x, guidance, coefficients) for b, x in zip((ours, theirs), inputs, strict=True)
        ]
        np.testing.assert_allclose(fused[0], np.clip(fused[1], 0, 1), atol=1e-5)


def test_each_part_holds_its_own_weights_only(exported):
    """Cut apart, the graphs together take no more than the whole."""
    _, _, path = exported["set"]
    extractor = onnx.utils.Extractor(onnx.load(path))
    parts = [extractor.extract_model(i, [o]).ByteSize() for o, i in OnnxBackend.PARTS.items()]
    assert sum(parts) < 1.1 * path.stat().st_size


def test_benchmark_of_backends(exported, capsys, monkeypatch):
    """Both fuse alike; the ratio is that of the times."""
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # of the other tests
    _, weights, path = exported["set"]
    arguments = ["--weights", str(weights), "--onnx", str(path), "--rounds", "2", "--threads", "1"]
    assert backends.main(arguments) == 0
    *_, one, two, _, _, _, pair, more, whole = capsys.readouterr().out.splitlines()
    rows = [line.split("|")[1:-1] for line in (one, two)]
    assert [row[0].strip() for row in rows] == ["PyTorch", "ONNX Runtime"]
    assert int(rows[1][3]) <= 1
    assert "a pair in" in pair and "a photograph more" in more and "whole process" in whole
    found = {"PyTorch": (0.3, 0), "ONNX Runtime": (0.2, 1)}
    assert "| ONNX Runtime | 0.200 | 1.50 | 1 |" in backends.table(found)


def test_bars_of_pairs_scale_with_the_pixels_and_count_one_photograph():
    """Twice 520² pixels may take 0.12 s; two photographs more in twice the time are one of it."""
    whole = {"PyTorch": Cost(4, 6, 900), "ONNX Runtime": Cost(2, 3, 200)}
    pair, more, process = backends.bars(2 * 520**2, 0.125, 0.25, whole)
    assert not pair.held and "at most 0.120" in pair.text
    assert more.held and "0.50 of a pair" in more.text
    assert process.held and "2.00 s and 200 MB, 0.50 of" in process.text
    assert not backends.bars(520**2, 0.06, 0.15, whole)[1].held


def test_bad_files_are_named(tmp_path, exported):
    _, weights, path = exported["set"]
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:3000])
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "empty.onnx").touch()
    foreign = onnx.load(path)
    del foreign.graph.output[1:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for name in ("cut", "text", "empty", "foreign", "absent"):
        with pytest.raises(UserError, match=f"{name}.onnx"):
            load_backend(tmp_path / f"{name}.onnx")
    with pytest.raises(UserError, match="ends in .onnx"):
        export.main.__wrapped__(["--onnx", "out.bin", "--weights", str(weights)])
