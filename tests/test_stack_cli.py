"""Stacks on the command line, as a user meets them: results, options, and what can go wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from conftest import ROOT
from focus_stacks import focus_stack, save_stack
from image_files import GREY_PROFILE, SRGB
from PIL import Image
from test_inference import files, pixels

from fusion.backends import load_backend
from fusion.fuse import fuse
from fusion.fuse_files import fuse_stack
from fusion.outputs import Options
from fusion.stack_files import find_stack
from run_inference import amount, main
from tests.hostile.fault_files import png
from utils.errors import UserError
from utils.images import Metadata, Photo, read_photo, write_photo

FRAMES = focus_stack()
# Not 8 bits times 257.
DEEP = [frame.astype(np.uint16) * 257 - np.uint16(100) * (frame > 128) for frame in FRAMES]


@pytest.fixture
def run(tmp_path, weights):
    """Fuse ``tmp_path/in`` into ``tmp_path/out``; exit code."""

    def runner(*args: str, input=(tmp_path / "in",), output: Path = tmp_path / "out") -> int:
        stack = ["--stack", *map(str, input), "--output", str(output), "--weights", weights]
        return main([*stack, *args])

    return runner


@pytest.fixture
def said(capsys):
    """The one sentence on standard error, without bars."""

    def sentence() -> str:
        error = capsys.readouterr().err
        (line,) = [line for line in error.split("\n") if "error: " in line]
        return line[line.index("error: ") + 7 :]

    return sentence


def save_photos(folder: Path, frames, suffix: str = ".png", **about) -> None:
    for i, frame in enumerate(frames):
        write_photo(folder / f"f{i + 1}{suffix}", Photo(frame, **about))


# Results


def test_the_command_line_gives_what_the_library_gives(tmp_path, run, weights):
    save_stack(tmp_path / "in", FRAMES)
    report = tmp_path / "r.json"
    assert run("--maps", "--save-steps", "--preview", "--json", str(report)) == 0
    steps = []
    expected = fuse(FRAMES, load_backend(weights), observe=steps.append)
    out = tmp_path / "out"
    assert np.array_equal(pixels(out / "in-Fusion.png"), expected.image)
    index = pixels(out / "in-Index.png")
    assert index.dtype == np.uint16 and np.array_equal(index, expected.index)
    assert np.array_equal(pixels(out / "in-Confidence.png"), expected.confidence)
    depth = pixels(out / "in-Depth.png")
    assert len(np.unique(depth.reshape(-1, 3), axis=0)) == len(np.unique(index))
    for i, step in enumerate(steps):
        start = f"in-Steps/{i:03}"
        assert np.array_equal(pixels(out / f"{start}-Aligned.png"), step.aligned)
        for kind in ("guidance", "boundary"):
            map_ = pixels(out / f"{start}-{kind.capitalize()}.png")
            assert np.array_equal(map_, np.round(getattr(step, kind).astype(np.float32) * 255))
    with Image.open(out / "in-Preview.webp") as preview:
        assert preview.n_frames == len(FRAMES) + 1 and preview.size == expected.image.shape[1::-1]
        preview.seek(len(FRAMES))
        last = np.asarray(preview.convert("RGB"))
    shown = [expected.image, *(step.aligned for step in steps)]
    assert np.argmin([cv2.norm(last, image, cv2.NORM_L1) for image in shown]) == 0
    (stack,) = json.loads(report.read_text())["stacks"]
    assert (stack["width"], stack["height"]) == expected.image.shape[1::-1]
    shares = [np.mean(index == i) for i in range(len(FRAMES))]
    for i, (frame, told) in enumerate(zip(stack["frames"], expected.frames, strict=True)):
        assert Path(frame["file"]).name == f"f{i + 1}.png" and frame["used"]
        assert np.array_equal(frame["matrix"], told.matrix) and frame["gain"] == told.gain
        assert frame["share"] == pytest.approx(shares[i]) and frame["seconds"] >= 0
    assert 1e7 < stack["peak_memory"] < 1e11
    assert sorted(stack["files"].values()) == [f for f in files(out) if "Record" not in f]


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (["--no-align"], {"align": False}),
        (["--keep-size"], {"crop": False}),
        (["--motion", "translation"], {"motion": "translation"}),
        (["--no-exposure"], {"exposure": False}),
    ],
)
def test_options_reach_the_library(tmp_path, run, weights, flags, options):
    moved = [np.roll(frame, 2 * i, 0) for i, frame in enumerate(FRAMES)]
    moved[3] = cv2.convertScaleAbs(moved[3], alpha=0.8)
    save_stack(tmp_path / "in", moved)
    assert run(*flags) == 0
    backend = load_backend(weights)
    expected, other = fuse(moved, backend, **options).image, fuse(moved, backend).image
    assert np.array_equal(pixels(tmp_path / "out/in-Fusion.png"), expected)
    assert not np.array_equal(expected, other)


def test_order_by_focus_on_the_command_line(tmp_path, run, capsys):
    order = (2, 0, 3, 1)
    save_stack(tmp_path / "in", [FRAMES[i] for i in order])
    assert run("--order", "focus", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    found = [order[int(Path(line).stem[1:]) - 1] for line in lines]
    assert found in ([0, 1, 2, 3], [3, 2, 1, 0])


def test_16_bits_and_what_the_files_say_beside_their_pixels(tmp_path, run, weights):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    metadata = Metadata(SRGB, exif.tobytes(), (300.0, 300.0))
    save_photos(tmp_path / "in", DEEP, ".tif", metadata=metadata)
    for format, name in ((), "in-Fusion.png"), (("--format", "tiff"), "in-Fusion.tif"):
        assert run(*format) == 0
        result = read_photo(tmp_path / "out" / name)
        assert np.array_equal(result.rgb, fuse(DEEP, load_backend(weights)).image)
        assert result.metadata.icc == SRGB
        assert result.metadata.dpi == pytest.approx((300, 300), abs=0.1)
        read = Image.Exif()
        read.load(result.metadata.exif)
        assert read[0x010F] == "Maker"


def test_8_among_16_bits_are_widened(tmp_path, run, weights):
    mixed = [*FRAMES[:2], *DEEP[2:]]
    save_photos(tmp_path / "in", mixed)
    assert run("--no-align") == 0
    wide = [frame.astype(np.uint16) * 257 for frame in FRAMES[:2]] + DEEP[2:]
    expected = fuse(wide, load_backend(weights), align=False).image
    assert np.array_equal(read_photo(tmp_path / "out/in-Fusion.png").rgb, expected)


def test_floating_point(tmp_path, run, weights):
    frames = [(frame / 255).astype(np.float32) for frame in FRAMES]
    save_photos(tmp_path / "in", frames, ".tif")
    assert run("--no-align") == 0
    expected = fuse(frames, load_backend(weights), align=False).image
    assert np.array_equal(tifffile.imread(tmp_path / "out/in-Fusion.tif"), expected)


def test_multi_page_tiff_and_grey(tmp_path, run, weights):
    grey = np.stack([frame[..., 1] for frame in FRAMES])
    tifffile.imwrite(tmp_path / "scan.tif", grey, photometric="minisblack")
    assert run(input=(tmp_path / "scan.tif",)) == 0
    expected = fuse([np.repeat(x[..., None], 3, 2) for x in grey], load_backend(weights))
    result = pixels(tmp_path / "out/scan-Fusion.png")
    assert result.ndim == 2
    luma = cv2.cvtColor(expected.image, cv2.COLOR_RGB2GRAY)  # untrained weights colour it
    assert np.array_equal(result, luma)


@pytest.mark.parametrize("flags", [[], ["--no-align"]])
def test_transparency_moves_with_the_frames(tmp_path, run, flags):
    """The result shows what all frames show, where they lie."""
    save_stack(tmp_path / "in", [np.roll(frame, 3 * i, 1) for i, frame in enumerate(FRAMES)])
    hole = np.full((*FRAMES[0].shape[:2], 1), 255, np.uint8)
    hole[30:40, 40:60] = 0  # in the last frame
    moved = np.dstack([np.roll(FRAMES[3], 9, 1), hole])
    Image.fromarray(moved).save(tmp_path / "in/f4.png")
    assert run("--json", str(tmp_path / "r.json"), *flags) == 0
    (stack,) = json.loads((tmp_path / "r.json").read_text())["stacks"]
    alpha = pixels(tmp_path / "out/in-Fusion.png")[..., 3]
    rows, columns = np.nonzero(alpha < 128)
    there = np.array(stack["frames"][3]["matrix"])[:2, 2]  # to pixels of the last frame
    x, y = (columns.min() + stack["left"], rows.min() + stack["top"]) + there
    assert abs(x - 40) <= 1 and abs(y - 30) <= 1
    assert abs(len(rows) - 200) <= 30
    assert (abs(there[0]) < 0.1) == bool(flags)


def test_frames_that_are_opaque_are_read_no_more_often_than_others(tmp_path, run, monkeypatch):
    """Twice with alignment, once without, as documented."""
    opaque = np.full(FRAMES[0].shape[:2], 255, np.uint8)
    save_photos(tmp_path / "in", [np.dstack([frame, opaque]) for frame in FRAMES])
    read = []
    monkeypatch.setattr("fusion.frames.read_photo", lambda *at: read.append(at) or read_photo(*at))
    assert run() == run("--no-align") == 0
    assert len(read) == (2 + 1) * len(FRAMES)


def test_formats(tmp_path, run, said):
    save_stack(tmp_path / "in", FRAMES)
    assert run("--format", "jpg") == run("--format", "webp") == 0
    with Image.open(tmp_path / "out/in-Fusion.jpg") as jpg:
        lossy = np.asarray(jpg).astype(int)
    assert abs(lossy - pixels(tmp_path / "out/in-Fusion.webp")).mean() < 4
    save_photos(tmp_path / "deep", DEEP)
    assert run("--format", "jpg", input=(tmp_path / "deep",)) == 2
    assert "deep-Fusion.jpg" in (error := said()) and "16-bit" in error
    assert not [file for file in files(tmp_path / "out") if "deep" in file]


def test_dry_run_writes_nothing(tmp_path, run, capsys):
    paths = save_stack(tmp_path / "in", FRAMES)
    before = files(tmp_path)
    assert run("--dry-run") == 0
    plan = capsys.readouterr().out
    assert "4 frames of 96×72 pixels, uint8" in plan and "in-Fusion.png" in plan and "GB" in plan
    assert [line.split()[-1] for line in plan.splitlines()[1:]] == [str(path) for path in paths]
    assert files(tmp_path) == before


def test_dry_run_writes_the_report_that_is_asked_for(tmp_path, run, said, capsys):
    paths = save_stack(tmp_path / "in", FRAMES)
    paths[0].write_bytes(b"no image")
    before, report = files(tmp_path), tmp_path / "reports/r.json"
    assert run("--dry-run", "--json", "-") == run("--dry-run", "--json", str(report)) == 2
    told = json.loads(capsys.readouterr().out.partition("\n/")[0])
    assert told == json.loads(report.read_text())
    (stack,), (error,) = told["planned"], told["errors"]
    assert [frame["file"] for frame in stack["frames"]] == [str(path) for path in paths[1:]]
    assert stack["fused"] == str(tmp_path / "out/in-Fusion.png") and stack["memory"] > 1e6
    assert (stack["width"], stack["height"], stack["type"]) == (96, 72, "uint8")
    assert error["files"] == [str(paths[0])]
    assert files(tmp_path) == sorted([*before, "reports"])
    assert run("--dry-run", "--json", str(tmp_path / "in/f2.png")) == 2
    assert "has the name of a photograph" in said()


def test_dry_run_foretells_the_run(tmp_path, run, capsys):
    paths = save_stack(tmp_path / "in", FRAMES)
    assert run() == 0
    assert run("--resume", "--dry-run") == 0
    assert "in was finished before" in capsys.readouterr().out
    paths[0].write_bytes(b"no image")
    assert run("--dry-run") == run() == 2


def test_what_a_type_cannot_hold_is_refused_before_the_work(tmp_path, run, said):
    save_photos(tmp_path / "in", [np.zeros((16, 16384, 3), np.uint8)] * 2)
    assert run("--format", "webp", "--dry-run") == 2
    assert "no image with a side of 16384 pixels, 16383 is the longest" in said()
    alpha = np.full(FRAMES[0].shape[:2], 255, np.uint8)
    save_photos(tmp_path / "opaque", FRAMES, alpha=alpha)
    assert run("--format", "jpg", "--dry-run", input=(tmp_path / "opaque",)) == 0
    save_photos(tmp_path / "clear", FRAMES, alpha=alpha - np.eye(*alpha.shape, dtype=np.uint8))
    assert run("--format", "jpg", "--dry-run", input=(tmp_path / "clear",)) == 2
    assert "clear-Fusion.jpg: a .jpg file holds no transparency; write .png" in said()


def test_pages_left_out_are_named(tmp_path, run, capsys):
    pages = np.stack([*FRAMES, *focus_stack(1, seed=5)])
    tifffile.imwrite(tmp_path / "scan.tif", pages, photometric="rgb")
    assert run(input=[tmp_path / "scan.tif"]) == 0
    assert f"scan.tif, page {len(pages)} left out" in capsys.readouterr().out


def test_other_colour_profiles_are_named(tmp_path, run, capsys):
    for number, icc in enumerate((SRGB, SRGB, None)):
        photo = Photo(FRAMES[number], metadata=Metadata(icc))
        write_photo(tmp_path / f"in/f{number}.tif", photo)
    assert run("--no-align") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "colour profile" in line]
    assert len(said) == 1 and "f2.tif" in said[0]


def test_a_first_frame_left_out_leaves_nothing_of_its_metadata(tmp_path, run, capsys):
    stray = Photo(focus_stack(1, seed=5)[0], metadata=Metadata(None, dpi=(300, 300)))
    write_photo(tmp_path / "in/f0.png", stray)
    save_photos(tmp_path / "in", FRAMES, metadata=Metadata(SRGB, dpi=(72, 72)))
    assert run("--preview") == 0
    said = capsys.readouterr().out
    assert "f0.png left out" in said and "profile" not in said
    metadata = read_photo(tmp_path / "out/in-Fusion.png").metadata
    assert metadata.icc == SRGB and round(metadata.dpi[0]) == 72
    assert Image.open(tmp_path / "out/in-Preview.webp").info["icc_profile"] == SRGB


# Frames that cannot be used


def test_steps_and_preview_have_the_colour_profile(tmp_path, run):
    save_photos(tmp_path / "in", FRAMES[:2], metadata=Metadata(SRGB))
    assert run("--save-steps", "--preview") == 0
    assert read_photo(tmp_path / "out/in-Steps/000-Aligned.png").metadata.icc == SRGB
    assert Image.open(tmp_path / "out/in-Preview.webp").info["icc_profile"] == SRGB


def test_a_profile_of_grey_is_not_written_on_the_colours_of_a_preview(tmp_path, run):
    for number, frame in enumerate(FRAMES[:2]):
        photo = Photo(np.repeat(frame[..., :1], 3, axis=2), True, metadata=Metadata(GREY_PROFILE))
        write_photo(tmp_path / f"in/f{number}.png", photo)
    assert run("--preview") == 0
    assert Image.open(tmp_path / "out/in-Fusion.png").info["icc_profile"] == GREY_PROFILE
    assert "icc_profile" not in Image.open(tmp_path / "out/in-Preview.webp").info


def test_a_corrupt_frame_is_named_and_left_out(tmp_path, run, weights, said):
    paths = save_stack(tmp_path / "in", FRAMES)
    paths[1].write_bytes(paths[1].read_bytes()[:-300])  # its header is whole
    paths[0].write_bytes(b"no image")
    args = ["--json", str(tmp_path / "r.json")]
    save_stack(tmp_path / "in", [FRAMES[0]] * 2, "x{}.png")
    for order in ("name", "focus"):
        assert run("--maps", "--order", order, *args) == 2
        report = json.loads((tmp_path / "r.json").read_text())
        assert sorted(Path(f["file"]).name for f in report["stacks"][0]["unread"]) == [
            "f1.png",
            "f2.png",
        ]
        used = report["stacks"][0]["frames"]
        assert sorted(Path(frame["file"]).name for frame in used) == [
            "f3.png",
            "f4.png",
            "x1.png",
            "x2.png",
        ]
        assert pixels(tmp_path / "out/in-Index.png").max() < len(used)
    told = " ".join(error["error"] for error in report["errors"])
    assert len(report["errors"]) == 2 and all(str(path) in told for path in paths[:2])


def test_many_corrupt_frames_are_found_at_once(tmp_path, weights):
    """The work begins anew once, however many there are."""
    paths = save_stack(tmp_path / "in", focus_stack(8))
    for path in paths[1:6:2]:
        path.write_bytes(path.read_bytes()[:-300])
    stages = []

    def progress(numbers, stage):
        stages.append(stage)
        return numbers

    backend, source = load_backend(weights), find_stack([tmp_path / "in"])
    report = fuse_stack(backend, source, tmp_path / "out", Options(), progress)
    assert [Path(x["file"]) for x in report["unread"]] == paths[1:6:2]
    assert [Path(x["file"]) for x in report["frames"]] == [*paths[:6:2], *paths[6:]]
    assert stages.count("aligning") == 2 and stages.count("checking") == 1
    for path in paths[:6:2]:
        path.write_bytes(path.read_bytes()[:-300])
    paths[7].unlink()
    with pytest.raises(UserError, match="in: 1 frame can be read, a stack .* 2; .*f1.png.*; …"):
        fuse_stack(backend, find_stack([tmp_path / "in"]), tmp_path / "o", Options(), progress)


@pytest.mark.parametrize("place", ["head", "pixels"])
def test_strict_stops_at_a_corrupt_frame(tmp_path, run, said, place):
    paths = save_stack(tmp_path / "in", FRAMES)
    paths[2].write_bytes(b"no" if place == "head" else paths[2].read_bytes()[:-300])
    assert run("--strict", "--save-steps") == 2
    assert str(paths[2]) in said()
    assert files(tmp_path / "out") == []


def test_a_frame_of_another_scene_is_left_out_or_stops_the_stack(tmp_path, run, said, capsys):
    save_stack(tmp_path / "in", [*FRAMES, focus_stack(seed=9)[0]])
    assert run("--json", str(tmp_path / "r.json")) == 0
    assert "f5.png left out: it" in capsys.readouterr().out
    (stack,) = json.loads((tmp_path / "r.json").read_text())["stacks"]
    assert [frame["used"] for frame in stack["frames"]] == [True] * 4 + [False]
    assert run("--strict", output=tmp_path / "strict") == 2
    assert "f5.png: it" in said()
    assert files(tmp_path / "strict") == []


def bad_stack(folder: Path, kind: str) -> None:
    frames = FRAMES[:2]
    if kind == "one frame":
        frames = frames[:1]
    if kind == "1 pixel high":
        frames = [frame[:1] for frame in frames]
    if kind == "nothing in common":
        frames = [FRAMES[0], focus_stack(seed=9)[0]]
    save_stack(folder, frames)
    if kind == "other size":
        Image.fromarray(FRAMES[0][:-1]).save(folder / "f3.png")
    if kind == "turned":
        Image.fromarray(np.rot90(FRAMES[0])).save(folder / "f3.jpg")
    if kind == "float and 8-bit":
        tifffile.imwrite(folder / "f3.tif", (FRAMES[0] / 255).astype("f4"), photometric="rgb")
    if kind == "bomb":
        (folder / "f2.png").write_bytes(png(40000, 40000, bytes(100)))
    if kind == "empty folder":
        for path in folder.iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("one frame", ["in: 1 frame can be read", "at least 2"]),
        ("1 pixel high", ["f1.png has 96×1 pixels", "16×16"]),
        ("nothing in common", ["fewer than two frames can be used", "(f2.png: ", "--no-align"]),
        ("other size", ["f3.png has 96×71 pixels", "f1.png 96×72"]),
        ("turned", ["f3.jpg has 72×96 pixels", "f1.png 96×72", "EXIF orientation"]),
        ("float and 8-bit", ["f3.tif", "float"]),
        ("bomb", ["f2.png", "megapixels"]),
        ("empty folder", ["no images in", "in"]),
    ],
)
def test_bad_stacks_give_one_sentence(tmp_path, run, said, kind, parts):
    bad_stack(tmp_path / "in", kind)
    assert run("--maps") == 2
    error = said()
    assert all(part in error for part in parts), error
    assert files(tmp_path / "out") == []


def test_of_many_bad_frames_a_few_are_named(tmp_path, run, said):
    for path in save_stack(tmp_path / "in", FRAMES[:1] * 20):
        path.write_bytes(b"broken")
    assert run() == 2
    error = said()
    assert "in: 0 frames can be read" in error and "f1.png is no image" in error
    assert error.count("is no image") == 3 and error.rstrip().endswith("…")


def test_bad_inputs(tmp_path, run, said):
    one, two = save_stack(tmp_path / "in", FRAMES[:2])
    (tmp_path / "file").write_text("keep me")
    for given, part in (
        ([tmp_path / "absent"], "no file or folder"),
        ([one], "1 frame can be read"),
        ([one, two, one], "f1.png is given twice"),
        ([one, tmp_path / "in"], "is a folder"),
    ):
        assert run(input=given) == 2
        assert part in said()
    (tmp_path / "f3.png").write_text("no image")
    assert run(input=[one, tmp_path / "f3.png"]) == 2
    assert f"{one} to f3.png: 1 frame can be read" in said()
    assert run(output=tmp_path / "file" / "below") == 2
    assert f"cannot write to folder {tmp_path / 'file'}" in said()
    assert (tmp_path / "file").read_text() == "keep me"
    one.rename(tmp_path / "in/f-Fusion.png")
    assert run(input=[tmp_path / "in/f-Fusion.png", two], output=tmp_path / "in") == 2
    assert "both a photograph and the result" in said()


def test_onnx_runs_on_the_cpu(tmp_path, run, said):
    assert run("--weights", str(tmp_path / "x.onnx"), "--device", "cuda:1") == 2
    assert "x.onnx runs on the CPU" in said()


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--stack", "x", "--no-align", "--motion", "affine"], "--motion is for --align"),
        (["--input", "x", "--motion", "affine"], "--motion is for --align"),
        (["--input", "x", "--order", "time"], "--order is for --stack"),
        (["--input", "x", "--resume"], "--resume is for --stack"),
        (["--input", "x", "--align", "--strict"], "--strict is for --stack"),
        (["--input", "x", "--keep-size"], "--keep-size is for --align"),
        (["--input", "x", "--no-exposure"], "--no-exposure is for --align"),
        (["--stack", "x", "--pause", "5"], "--pause is for --batch"),
        (["--batch", "x", "--pause", "0"], "--pause has to be above 0"),
        (["--batch", "x", "--pause", "nan"], "--pause has to be above 0"),
        (["--stack", "x", "--memory", "much"], "'much' is not an amount of memory"),
        (["--stack", "x", "--batch", "y"], "not allowed with"),
        (["--output", "x"], "required"),
    ],
)
def test_options_that_do_not_fit(capsys, args, part):
    with pytest.raises(SystemExit) as end:
        main([*args, "--output", "out"])
    assert end.value.code == 2 and part in capsys.readouterr().err


def test_a_report_does_not_replace_a_record(tmp_path, run, said):
    save_stack(tmp_path / "in", FRAMES)
    assert run("--json", str(tmp_path / "out/in-Record.json")) == 2
    assert "in-Record.json has the name of a stack's record" in said()


def test_a_name_that_is_too_long(run, said):
    assert run(input=("a" * 300,)) == 2
    assert "File name too long" in said()


@pytest.mark.parametrize("letter", ["x", "ö"])
def test_a_name_as_long_as_may_be(tmp_path, run, letter):
    """Names have up to 255 bytes."""
    stack, report = (
        letter * ((255 - len(end)) // len(letter.encode())) for end in ("-Record.json", ".json")
    )
    save_stack(tmp_path / stack, FRAMES[:2])
    json_file = tmp_path / f"{report}.json"
    assert run("--json", str(json_file), input=(tmp_path / stack,)) == 0
    assert files(tmp_path / "out") == [f"{stack}-Fusion.png", f"{stack}-Record.json"]
    assert files(tmp_path) == sorted([stack, "out", json_file.name])


def test_memory_that_does_not_do(tmp_path, run, said):
    save_stack(tmp_path / "in", FRAMES)
    assert run("--memory", "10M") == 2
    assert "more than --memory 0.01G" in said()
    assert run("--memory", "1M") == 2
    assert "more than --memory 0.001G" in said()
    assert files(tmp_path / "out") == []
    assert run("--memory", "4G") == 0
    assert [amount(x) for x in ("2G", "1.5m", "300KB", "7")] == [2 * 10**9, 1_500_000, 300_000, 7]


def test_a_limit_of_memory_is_kept(tmp_path, onnx_weights):
    """By the process itself, which tells its peak: with maps, by the smallest groups."""
    save_stack(tmp_path / "in", focus_stack(3, 900, 1200))
    command = [sys.executable, str(ROOT / "run_inference.py"), "--stack", str(tmp_path / "in")]
    command += ["--output", str(tmp_path / "out"), "--weights", onnx_weights, "--maps"]
    planned = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    needed = float(re.search(r"([0-9.]+) GB", planned.stdout)[1]) + 0.005  # it is rounded
    limit = ["--memory", f"{needed:.3f}G", "--json", str(tmp_path / "r.json")]
    subprocess.run([*command, *limit], capture_output=True, check=True)
    (stack,) = json.loads((tmp_path / "r.json").read_text())["stacks"]
    assert 1e8 < stack["peak_memory"] <= needed * 1e9


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_unwritable_folder(tmp_path, run, said):
    save_stack(tmp_path / "in", FRAMES)
    (tmp_path / "out").mkdir(mode=0o555)
    assert run() == 2
    assert f"cannot write to folder {tmp_path / 'out'}" in said()
