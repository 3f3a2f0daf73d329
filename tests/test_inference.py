"""The script on good and bad input, with a small random cascade."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NETS
from focus_stacks import focus_stack
from image_files import SRGB
from PIL import Image

from fusion.backends import load_backend
from fusion.fuse import fuse
from models.build import save_weights
from run_inference import main
from tests.hostile import fault_files
from utils.images import read_photo


@pytest.fixture
def run(tmp_path, weights):
    """Run the script on ``tmp_path/in``; exit code."""

    def runner(*args: str, output: Path = tmp_path / "out", input=(tmp_path / "in",)) -> int:
        given = [] if "--weights" in args else ["--weights", weights]
        return main(["--input", *map(str, input), "--output", str(output), *given, *args])

    return runner


def noise(height: int = 40, width: int = 56, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save_pair(folder: Path, name: str = "x", ext: str = ".png", **options) -> None:
    folder.mkdir(exist_ok=True)
    for seed, mark in enumerate("AB"):
        Image.fromarray(noise(seed=seed, **options)).save(folder / f"{name}-{mark}{ext}")


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


KINDS = ("Fusion", "Guidance", "Boundary", "Index", "Depth", "Confidence")


def written(map_: np.ndarray) -> np.ndarray:
    """A map in [0, 1] as its file has it."""
    return np.round(map_.astype(np.float32) * 255)


# Good input


def test_folder_with_maps_and_summary(tmp_path, run, weights, capsys):
    save_pair(tmp_path / "in", "one")
    save_pair(tmp_path / "in", "two", ".bmp", height=33, width=47)
    assert run("--maps", "--json", str(tmp_path / "s.json")) == 0
    kinds = sorted(KINDS)
    assert files(tmp_path / "out") == [f"{n}-{k}.png" for n in ("one", "two") for k in kinds]
    pair = [noise(33, 47), noise(33, 47, seed=1)]
    expected = fuse(pair, load_backend(weights), align=False)
    out = tmp_path / "out"
    assert np.array_equal(pixels(out / "two-Fusion.png"), expected.image)
    assert np.array_equal(pixels(out / "two-Guidance.png"), written(expected.guidance))
    assert np.array_equal(pixels(out / "two-Boundary.png"), written(expected.boundary))
    assert np.array_equal(pixels(out / "two-Index.png"), expected.index)
    summary = json.loads((tmp_path / "s.json").read_text())
    assert [(p["name"], p["width"], p["height"]) for p in summary["pairs"]] == [
        ("one", 56, 40),
        ("two", 47, 33),
    ]
    assert summary["errors"] == [] and summary["device"] == "cpu"
    assert summary["weights"] == weights and summary["torch"] == torch.__version__
    mean = np.mean([p["seconds"] for p in summary["pairs"]])
    assert summary["mean_seconds"] == pytest.approx(mean) and mean > 0
    assert "2 fused" in capsys.readouterr().out


def test_summary_on_standard_output_stands_alone(tmp_path, run, capsys):
    save_pair(tmp_path / "in")
    assert run("--json", "-") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["pairs"][0]["fused"].endswith("x-Fusion.png")
    assert "1 fused" in captured.err


def test_two_files_of_different_types_and_the_swap(tmp_path, run):
    save_pair(tmp_path / "in")
    one, two = tmp_path / "in/x-A.png", tmp_path / "in/far.tiff"
    Image.open(tmp_path / "in/x-B.png").save(two)
    assert run("--maps", input=(one, two), output=tmp_path / "12") == 0
    assert run("--maps", input=(two, one), output=tmp_path / "21") == 0
    fused = [
        pixels(tmp_path / d).astype(int) for d in ("12/x-A-far-Fusion.png", "21/far-x-A-Fusion.png")
    ]
    assert abs(fused[0] - fused[1]).max() <= 1
    maps = [
        pixels(tmp_path / d).astype(int)
        for d in ("12/x-A-far-Guidance.png", "21/far-x-A-Guidance.png")
    ]
    assert abs(maps[0] + maps[1] - 255).max() <= 1


def test_a_pair_is_a_stack_of_two(tmp_path, run, weights):
    """By every way to ask for it; and it can be asked to be aligned."""
    save_pair(tmp_path / "in", height=70, width=90)
    files_ = [str(tmp_path / f"in/x-{mark}.png") for mark in "AB"]
    assert run() == 0
    expected = pixels(tmp_path / "out/x-Fusion.png").astype(int)
    stack = ["--stack", *files_, "--output", str(tmp_path / "stack"), "--weights", weights]
    assert main([*stack, "--no-align", "--no-exposure"]) == 0
    assert abs(pixels(tmp_path / "stack/x-Fusion.png") - expected).max() <= 1
    assert run("--align", output=tmp_path / "moved") == 2  # of noise nothing matches


def test_pairs_are_aligned_when_asked_to(tmp_path, run):
    near, far = (focus_stack(2)[i] for i in range(2))
    (tmp_path / "in").mkdir()
    for mark, frame in (("A", near), ("B", np.roll(far, 3, 1))):
        Image.fromarray(frame).save(tmp_path / f"in/x-{mark}.png")
    assert run("--align", "--json", str(tmp_path / "s.json")) == 0
    (pair,) = json.loads((tmp_path / "s.json").read_text())["pairs"]
    shift = np.subtract(*(np.array(frame["matrix"])[0, 2] for frame in pair["frames"]))
    assert abs(abs(shift) - 3) < 0.3 and pair["width"] < near.shape[1]
    assert pixels(tmp_path / "out/x-Fusion.png").shape[1] == pair["width"]


def test_backends_agree(tmp_path, run, onnx_weights):
    save_pair(tmp_path / "in", height=70, width=90)
    assert run() == run("--weights", onnx_weights, output=tmp_path / "onnx") == 0
    results = [pixels(tmp_path / d / "x-Fusion.png").astype(int) for d in ("out", "onnx")]
    assert abs(results[0] - results[1]).max() <= 1 and results[0].std() > 10


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (16, 131), (37, 41)])
def test_sizes(tmp_path, run, size):
    save_pair(tmp_path / "in", height=size[0], width=size[1])
    assert run() == 0
    assert pixels(tmp_path / "out/x-Fusion.png").shape == (*size, 3)


def test_grey_stays_grey(tmp_path, run):
    save_pair(tmp_path / "in", channels=1)
    assert run() == 0
    assert Image.open(tmp_path / "out/x-Fusion.png").mode == "L"
    save_pair(tmp_path / "in", "y", channels=1)
    Image.fromarray(noise()).save(tmp_path / "in/y-B.png")
    assert run() == 0
    assert Image.open(tmp_path / "out/y-Fusion.png").mode == "RGB"


def test_alpha(tmp_path, run):
    save_pair(tmp_path / "in", "plain")
    save_pair(tmp_path / "in", "cut", channels=4)
    for mark, seed in (("A", 0), ("B", 1)):  # the colours of "plain", all opaque
        image = Image.fromarray(noise(seed=seed))
        image.putalpha(255)
        image.save(tmp_path / f"in/opaque-{mark}.png")
    assert run() == 0
    out = tmp_path / "out"
    assert np.array_equal(pixels(out / "opaque-Fusion.png"), pixels(out / "plain-Fusion.png"))
    alpha = np.minimum(noise(channels=4)[..., 3], noise(channels=4, seed=1)[..., 3])
    assert np.array_equal(pixels(out / "cut-Fusion.png")[..., 3], alpha)


def test_exif_orientation_and_profile(tmp_path, run):
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn clockwise by 90° to see it
    Image.fromarray(noise()).save(tmp_path / "in/x-A.png", exif=exif, icc_profile=SRGB)
    Image.fromarray(np.rot90(noise(), -1)).save(tmp_path / "in/x-B.png")
    assert np.array_equal(read_photo(tmp_path / "in/x-A.png").rgb, np.rot90(noise(), -1))
    assert run() == 0
    result = Image.open(tmp_path / "out/x-Fusion.png")
    assert result.size == (40, 56) and result.info["icc_profile"] == SRGB
    assert result.getexif().get(0x0112, 1) == 1


# Bad input


BAD = {
    "half.png": (fault_files.png(64, 64, bytes(1000)), "cut short"),
    "zero.png": (b"", "zero bytes"),
    "bomb.png": (fault_files.png(40000, 40000, bytes(100)), "megapixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_photographs_are_named_and_the_rest_is_fused(tmp_path, run, capsys, name):
    save_pair(tmp_path / "in", "good")
    content, said = BAD[name]
    bad = tmp_path / "in" / f"bad-A{Path(name).suffix}"
    bad.write_bytes(content)
    bad.with_stem("bad-B").write_bytes(content)
    assert run("--maps", "--json", str(tmp_path / "s.json")) == 2
    error = capsys.readouterr().err
    assert str(bad) in error and said in error and "Traceback" not in error
    assert files(tmp_path / "out") == [f"good-{kind}.png" for kind in sorted(KINDS)]
    summary = json.loads((tmp_path / "s.json").read_text())
    assert [pair["name"] for pair in summary["pairs"]] == ["good"]
    (problem,) = summary["errors"]
    assert str(bad) in problem["files"] and said in problem["error"]


def test_pairs_that_do_not_fit(tmp_path, run, capsys):
    save_pair(tmp_path / "in", "small", height=15, width=30)
    save_pair(tmp_path / "in", "good")
    save_pair(tmp_path / "in", "differ")
    Image.fromarray(noise(41, 56)).save(tmp_path / "in/differ-B.png")
    Image.fromarray(noise()).save(tmp_path / "in/alone-A.png")
    assert run() == 2
    error = capsys.readouterr().err
    assert "56×40" in error and "56×41" in error and "differ-B.png" in error
    assert "small-A.png has 30×15 pixels" in error and "16×16" in error
    assert "alone-A.png has no partner" in error
    assert files(tmp_path / "out") == ["good-Fusion.png"]


def pickled(path: Path) -> None:
    torch.save({"x": torch.zeros(3)}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"x": 1}))


def other_tensors(path: Path) -> None:
    save_weights(path, {"x": torch.zeros(3)}, NETS)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (pickled, "safetensors"),
        (bare_pickle, "safetensors"),
        (Path.touch, "safetensors"),
        (Path.mkdir, "cannot read weights"),
        (lambda path: None, "cannot read weights"),
        (other_tensors, "do not fit"),
    ],
)
def test_bad_weights(tmp_path, run, capsys, make, said):
    save_pair(tmp_path / "in")
    make(tmp_path / "w.safetensors")
    assert run("--weights", str(tmp_path / "w.safetensors")) == 2
    error = capsys.readouterr().err
    assert said in error and "w.safetensors" in error
    assert files(tmp_path / "out") == []


def test_truncated_weights(tmp_path, run, weights, capsys):
    save_pair(tmp_path / "in")
    (tmp_path / "w.safetensors").write_bytes(Path(weights).read_bytes()[:-100])
    assert run("--weights", str(tmp_path / "w.safetensors")) == 2
    assert "w.safetensors" in capsys.readouterr().err


def test_a_device_that_is_not_there(tmp_path, run, capsys):
    save_pair(tmp_path / "in")
    assert run("--device", "quantum") == 2
    assert "quantum" in capsys.readouterr().err
    assert files(tmp_path / "out") == []


def test_bad_folders_and_files(tmp_path, run, capsys):
    (tmp_path / "empty").mkdir()
    save_pair(tmp_path / "in")
    one = tmp_path / "in/x-A.png"
    for given, said in (
        ([tmp_path / "absent"], "there is no folder"),
        ([tmp_path / "empty"], "no images"),
        ([one], "one file"),
        ([one, one, one], "two files, not 3"),
        ([one, tmp_path / "x.xyz"], ".xyz"),
        ([one, tmp_path / "in/none.png"], "none.png: No such file"),
    ):
        assert run(input=given) == 2
        assert said in capsys.readouterr().err
    assert files(tmp_path / "out") == []


def test_unwritable_output(tmp_path, run, capsys):
    save_pair(tmp_path / "in")
    (tmp_path / "file").write_text("keep me")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run(output=output) == 2
        assert str(output) in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "keep me"
    assert run("--json", str(tmp_path / "file" / "s.json")) == 2
    assert f"cannot write to folder {tmp_path / 'file'}" in capsys.readouterr().err
