"""The exported graph against PyTorch, and what reads it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from models.fuse import fuse
from models.onnx_backend import PARTS, load_onnx

from benchmarks import backends
from fusion.backends import ONNX
from models import export
from models.build import build, load_model, save_weights
from utils.errors import UserError
from utils.images import read_photo

ROOT = Path(__file__).parents[1]
NETS = {
    "pair": {
        "initial": {"name": "PairInitialFusion", "args": {"widths": [4, 6, 8]}},
        "boundary": {
            "name": "PairBoundaryFusion",
            "args": {"half": 4, "quarter": 6, "blocks": [1, 2, 1]},
        },
    },
    "paper": {
        "initial": {"name": "InitialFusion", "args": {"channels": 6, "blocks": 2}},
        "boundary": {"name": "BoundaryFusion", "args": {"channels": 6, "blocks": 2}},
    },
    "initial alone": {
        "initial": {"name": "PairInitialFusion", "args": {"widths": [4, 6]}},
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


def make_images(*shape: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(sum(shape))
    return [torch.rand(*shape, generator=random) for _ in range(2)]


def run(path: Path, outputs: list[str], images: list[torch.Tensor], **more) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    return session.run(outputs, {"image1": images[0].numpy(), "image2": images[1].numpy(), **more})


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("shape", [(1, 3, 97, 130), (1, 3, 64, 96), (2, 3, 16, 51)])
def test_one_graph_for_all_sizes_agrees_with_pytorch(exported, name, shape):
    model, _, path = exported[name]
    images = make_images(*shape)
    result = run(path, ["fused", "guidance", "boundary"], images)
    expected = model(*images)
    expected = expected.fused.clamp(0, 1), expected.guidance, expected.boundary
    for x, y in zip(result, expected, strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, atol=1e-4, rtol=0)


def test_shipped_weights_agree_on_photographs(tmp_path):
    """On the sample pairs, whole (384×512) and cropped to sizes off the grids of the nets."""
    model = load_model(export.WEIGHTS)
    path = tmp_path / "out.onnx"
    onnx.save(export.to_onnx(model, export.about(export.WEIGHTS)), path)
    photos = [read_photo(ROOT / f"data/samples/cat-{half}.png").rgb for half in "AB"]
    for height, width in ((384, 512), (211, 333), (97, 130)):
        images = [
            torch.from_numpy(x[:height, :width] / np.float32(255)).permute(2, 0, 1)[None]
            for x in photos
        ]
        expected = model(*images)
        result = run(path, ["fused", "guidance", "boundary"], images)
        for x, y in zip(
            result, (expected.fused, expected.guidance, expected.boundary), strict=True
        ):
            np.testing.assert_allclose(x, y.clamp(0, 1), atol=1e-4, rtol=0)


def test_the_shipped_file_is_of_the_shipped_weights():
    about = {entry.key: entry.value for entry in onnx.load(ONNX).metadata_props}
    assert about["weights_sha256"] == hashlib.sha256(export.WEIGHTS.read_bytes()).hexdigest()
    assert max(export.check(onnx.load(ONNX), load_model(export.WEIGHTS))) <= 1e-4


def test_sharpness_makes_clear_decisions_clearer(exported):
    model, _, path = exported["pair"]
    images = make_images(1, 3, 40, 56)
    logits = model.initial(*images)
    sharpness = 1 / float(logits.abs().median())  # so that it acts on half of the pixels
    guidance, coefficients = run(
        path, ["guidance", "coefficients"], images, sharpness=np.array(sharpness, np.float32)
    )
    expected = torch.sigmoid(
        torch.where(logits.abs() * sharpness > 1, sharpness * logits * logits.abs(), logits)
    )
    np.testing.assert_allclose(guidance, expected, atol=1e-5)
    expected = model.boundary.coefficients(*images, expected)
    np.testing.assert_allclose(coefficients, expected, atol=1e-5)


def test_the_file_tells_what_it_is(exported):
    _, weights, path = exported["pair"]
    proto = onnx.load(path, load_external_data=False)
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert about["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert json.loads(about["model"]) == NETS["pair"]
    assert "not stated" in about["terms"] and "BSDS500" in export.about(export.WEIGHTS)["terms"]
    assert [opset.version for opset in proto.opset_import] == [export.OPSET]
    assert [x.name for x in proto.graph.output] == [
        "fused",
        "guidance",
        "boundary",
        "coefficients",
    ]
    sizes = [axis.dim_param for axis in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", "", "height", "width"]
    assert str(ROOT).encode() not in path.read_bytes()  # no traces of this machine
    assert list(path.parent.glob("pair.onnx*")) == [path]  # and the weights are inside


def test_a_graph_that_disagrees_is_not_written(tmp_path, exported, monkeypatch, capsys):
    _, weights, _ = exported["pair"]
    monkeypatch.setattr(export, "boundary_map", lambda guidance: guidance)
    out = tmp_path / "out.onnx"
    assert export.main(["--onnx", str(out), "--weights", str(weights)]) == 2
    assert "from PyTorch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NETS)
def test_backend_gives_an_ordinary_model(exported, name):
    """Whole and in tiles, where each sub-net is asked separately."""
    model, _, path = exported[name]
    images = make_images(1, 3, 131, 205)
    ours = load_onnx(path, threads=1)
    for tile in (32, 4096):
        result, expected = fuse(ours, *images, tile=tile), fuse(model, *images, tile=tile)
        torch.testing.assert_close(result.fused, expected.fused, atol=1e-5, rtol=0)
        torch.testing.assert_close(result.guidance, expected.guidance, atol=1e-5, rtol=0)


def test_each_part_holds_its_own_weights_only(exported):
    """Cut apart, the graphs together take no more than the whole."""
    _, _, path = exported["pair"]
    extractor = onnx.utils.Extractor(onnx.load(path))
    parts = [extractor.extract_model(i, [o]).ByteSize() for i, o in PARTS.values()]
    assert sum(parts) < 1.02 * path.stat().st_size


def test_benchmark_of_backends(exported, capsys, monkeypatch):
    """Both fuse alike; the ratio is that of the times."""
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # of the other tests
    _, weights, path = exported["pair"]
    arguments = ["--weights", str(weights), "--onnx", str(path), "--rounds", "2", "--threads", "1"]
    assert backends.main(arguments) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [row[0].strip() for row in rows] == ["PyTorch", "ONNX Runtime"]
    assert int(rows[1][3]) <= 1
    found = {"PyTorch": (0.3, 0), "ONNX Runtime": (0.2, 1)}
    assert "| ONNX Runtime | 0.200 | 1.50 | 1 |" in backends.table(found)


def test_bad_files_are_named(tmp_path, exported):
    _, weights, path = exported["pair"]
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:3000])
    (tmp_path / "text.onnx").write_text("no graph")
    foreign = onnx.load(path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for name in ("cut", "text", "foreign", "absent"):
        with pytest.raises(UserError, match=f"{name}.onnx"):
            load_onnx(tmp_path / f"{name}.onnx")
    with pytest.raises(UserError, match="ends in .onnx"):
        export.main.__wrapped__(["--onnx", "out.bin", "--weights", str(weights)])
