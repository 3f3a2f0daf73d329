"""The script on good and bad input, with a small random cascade."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NETS
from focus_stacks import focus_stack
from PIL import Image, ImageCms

from fusion.backends import load_backend
from fusion.fuse import fuse
from models.build import save_weights
from run_inference import main
from utils.errors import UserError
from utils.images import Metadata, Photo, read_photo, write_photo

ROOT = Path(__file__).parent.parent


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
    """By every way to ask for it, on either back end; and it can be aligned."""
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


def deep_pair(dtype: type) -> list[np.ndarray]:
    """Two images of 16 bits or floating point that 8 bits cannot hold."""
    rng = np.random.default_rng(5)
    values = [rng.random((40, 56, 3)) for _ in range(2)]
    scale = 1 if dtype == np.float32 else 65535
    return [(x * scale).astype(dtype) for x in values]


@pytest.mark.parametrize(("dtype", "extension"), [(np.uint16, ".png"), (np.float32, ".tif")])
def test_full_depth_and_metadata(tmp_path, run, weights, dtype, extension):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    metadata = Metadata(None, exif.tobytes(), (300.0, 300.0))
    pair = deep_pair(dtype)
    for mark, image in zip("AB", pair, strict=True):
        write_photo(tmp_path / f"in/x-{mark}.tif", Photo(image, metadata=metadata))
    assert run() == 0
    result = read_photo(tmp_path / f"out/x-Fusion{extension}")
    assert np.array_equal(result.rgb, fuse(pair, load_backend(weights), align=False).image)
    assert result.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    read = Image.Exif()
    read.load(result.metadata.exif)
    assert read[0x010F] == "Maker"


def test_mixed_depths(tmp_path, run, weights, capsys):
    """8 bits beside 16 are widened; floating point, which has another white, is refused."""
    deep = deep_pair(np.uint16)[1]
    write_photo(tmp_path / "in/x-A.png", Photo(noise()))
    write_photo(tmp_path / "in/x-B.png", Photo(deep))
    assert run() == 0
    wide = [noise().astype(np.uint16) * 257, deep]
    expected = fuse(wide, load_backend(weights), align=False).image
    assert np.array_equal(read_photo(tmp_path / "out/x-Fusion.png").rgb, expected)
    write_photo(tmp_path / "in/y-A.tif", Photo(deep_pair(np.float32)[0]))
    write_photo(tmp_path / "in/y-B.png", Photo(deep))
    assert run() == 2
    assert "y-B.png is uint16" in capsys.readouterr().err
    assert files(tmp_path / "out") == ["x-Fusion.png"]


def test_format(tmp_path, run):
    save_pair(tmp_path / "in")
    assert run() == run("--format", "tiff") == 0
    assert files(tmp_path / "out") == ["x-Fusion.png", "x-Fusion.tif"]
    one, two = (pixels(tmp_path / "out" / name) for name in files(tmp_path / "out"))
    assert np.array_equal(one, two)


def test_palette_images_are_colours(tmp_path):
    Image.fromarray(noise()).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    photo = read_photo(tmp_path / "p.png")
    expected = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    assert np.array_equal(photo.rgb, expected) and not photo.grey and photo.alpha is None


def test_exif_orientation_and_profile(tmp_path, run):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn clockwise by 90° to see it
    Image.fromarray(noise()).save(tmp_path / "in/x-A.png", exif=exif, icc_profile=profile)
    Image.fromarray(np.rot90(noise(), -1)).save(tmp_path / "in/x-B.png")
    assert np.array_equal(read_photo(tmp_path / "in/x-A.png").rgb, np.rot90(noise(), -1))
    assert run() == 0
    result = Image.open(tmp_path / "out/x-Fusion.png")
    assert result.size == (40, 56) and result.info["icc_profile"] == profile
    assert result.getexif().get(0x0112, 1) == 1


# Bad input


def png_head(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = (
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c))
        for c in (head, data, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def encoded(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


BAD = {
    "truncated.png": (encoded(noise(), "PNG")[:2000], "cut short"),
    "truncated.jpg": (encoded(noise(), "JPEG")[:1500], "cut short"),
    "truncated.webp": (encoded(noise(), "WEBP")[:800], "bad"),
    "truncated.tif": (encoded(noise(), "TIFF")[:3000], "bad"),
    "head-only.png": (encoded(noise(), "PNG")[:20], "bad"),
    "zero.png": (b"", "zero bytes"),
    "text.png": (b"not an image at all", "no image"),
    "bomb.png": (png_head(40000, 40000), "megapixels"),
    "lying.png": (png_head(4000, 4000), "cut short"),
    "int32.tif": (encoded(np.zeros((20, 20), np.int32), "TIFF"), "32-bit"),
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


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "webp"])
def test_a_file_cut_anywhere_is_refused_or_read(tmp_path, extension):
    """No cut ends in anything but a clear error (or in a whole image, if the end is a trailer)."""
    whole = encoded(
        noise(24, 24), {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}.get(extension, "WEBP")
    )
    path = tmp_path / f"x.{extension}"
    refused = 0
    for length in np.linspace(1, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        try:
            assert read_photo(path).rgb.shape == (24, 24, 3)
        except UserError as error:
            refused += str(path) in str(error)
    assert refused >= 36


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


def test_interrupt_leaves_whole_files(tmp_path, weights):
    """Ctrl-C during a run of many pairs: what is there is whole, and there is no traceback."""
    for i in range(150):
        save_pair(tmp_path / "in", f"{i:03}", height=300, width=300)
    command = [sys.executable, str(ROOT / "run_inference.py"), "--weights", weights]
    command += ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--maps"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        while process.poll() is None and not any(f[0] != "." for f in files(tmp_path / "out")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130 and b"Traceback" not in error
    names = files(tmp_path / "out")
    assert 0 < len(names) < 900
    for name in names:
        assert pixels(tmp_path / "out" / name).shape[:2] == (300, 300)
