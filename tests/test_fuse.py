"""The function that fuses photographs: aligns, crops, reports, and reads a frame at a time."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from conftest import ROOT, texture
from focus_stacks import Sharpest, focus_stack
from PIL import Image

from benchmarks.synthetic_stacks import Motion, stack
from fusion.backends import load_backend
from fusion.fuse import fuse

RULE = Sharpest()
FRAMES = focus_stack(4, 96, 160)


def test_registered_frames_are_fused_as_they_are():
    fusion = fuse(FRAMES, RULE, align=False)
    assert fusion.image.shape == FRAMES[0].shape and fusion.image.dtype == np.uint8
    assert fusion.area == (slice(0, 96), slice(0, 160))
    assert all(frame.used and frame.seconds > 0 for frame in fusion.frames)
    np.testing.assert_allclose(
        [frame.share for frame in fusion.frames], np.bincount(fusion.index.ravel()) / (96 * 160)
    )
    # Frame i is sharp in the i-th quarter of the columns.
    middles = fusion.index[:, 20::40]
    assert (middles == np.arange(4)).mean() > 0.9
    assert fusion.confidence[:, 20::40].mean() > 150


def test_tensors_and_any_sequence_will_do():
    expected = fuse(FRAMES, RULE, align=False).image
    for kind in (torch.from_numpy, Image.fromarray):
        given = [kind(frame) for frame in FRAMES]
        assert np.array_equal(fuse(given, RULE, align=False).image, expected)
    assert np.array_equal(fuse(iter(FRAMES), RULE, align=False).image, expected)


@pytest.mark.parametrize("kind", [np.float64, ">f4", ">u2", torch.bfloat16])
def test_other_precision_and_byte_order(kind):
    """As arrays read from FITS or made by dividing by 255 are."""
    if isinstance(kind, torch.dtype):
        given = [(torch.from_numpy(frame) / 255).to(kind) for frame in FRAMES]
        plain = [frame.float().numpy() for frame in given]
    else:
        scale = 257 if kind == ">u2" else 1 / 255
        given = [(frame * np.float64(scale)).astype(kind) for frame in FRAMES]
        plain = [frame.astype(np.uint16 if kind == ">u2" else np.float32) for frame in given]
    found, expected = (fuse(frames, RULE, align=False).image for frames in (given, plain))
    assert found.dtype == expected.dtype == plain[0].dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("dtype", "stops"), [("uint16", 4), ("uint16", 7), ("uint8", 2)])
def test_dark_frames_are_fused_as_bright_ones(weights, dtype, stops, align):
    """12 bits in files of 16, and others: focus does not depend on brightness."""
    frames = stack(5, (96, 160), 3, 3, motion=Motion(shift=2) if align else None).frames
    largest = np.iinfo(dtype).max >> stops
    dark = [np.rint(frame / 255 * largest).astype(dtype) for frame in frames]
    given = {"backend": load_backend(weights), "align": align, "exposure": False}
    seen, bright_seen = [], []
    found = fuse(dark, **given, observe=seen.append)
    bright = fuse([frame << stops for frame in dark], **given, observe=bright_seen.append)
    assert found.image.dtype == dtype and found.area == bright.area
    assert np.array_equal(found.image, np.floor(bright.image / 2**stops + 0.5))
    for one, other in zip(seen, bright_seen, strict=True):
        assert np.array_equal(one.aligned, np.floor(other.aligned / 2**stops + 0.5))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_black_frames_give_black(weights, dtype):
    black = [np.zeros((20, 24, 3), dtype)] * 2
    image = fuse(black, load_backend(weights), align=False).image
    assert image.dtype == dtype and not image.any()


def test_dark_frames_of_floating_point(weights):
    frames = [frame / np.float32(255) for frame in FRAMES]
    given = {"backend": load_backend(weights), "align": False}
    dark = fuse([frame / np.float32(64) for frame in frames], **given).image
    assert np.array_equal(dark * np.float32(64), fuse(frames, **given).image)
    assert not fuse([np.zeros_like(frame) for frame in frames], **given).image.any()


class Reader:
    """Reads a frame when asked for it, and knows how many of them are still held."""

    def __init__(self, frames):
        self.frames, self.alive, self.most, self.reads = frames, [], 0, 0

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, i: int) -> np.ndarray:
        frame = self.frames[i].copy()
        self.reads += 1
        self.alive = [r for r in self.alive if r() is not None] + [weakref.ref(frame)]
        self.most = max(self.most, len(self.alive))
        return frame


def test_frames_stream(monkeypatch):
    """Each is read twice to be aligned and once otherwise, and a group of them is held."""
    gc.collect()
    monkeypatch.setattr("fusion.fuse.group_size", lambda *args: 3)
    for align, reads in ((True, 2), (False, 1)):
        reader = Reader(FRAMES * 4)
        fuse(reader, RULE, align=align)
        assert reader.most <= 4 and reader.reads == reads * len(reader)


def test_moved_frames_are_aligned_and_cropped_to_what_all_show():
    generated = stack(2, (288, 400), 3, 5, spread=2.0, motion=Motion(6, 0.3, 0.01))
    fusion = fuse(generated.frames, RULE)
    rows, columns = fusion.area
    assert fusion.image.shape[:2] == (rows.stop - rows.start, columns.stop - columns.start)
    assert 240 < fusion.image.shape[0] < 288 and 340 < fusion.image.shape[1] < 400

    def psnr(image, area):
        error = np.square(image.astype(float) - generated.truth[area]).mean()
        return 10 * np.log10(255**2 / error)

    assert psnr(fusion.image, fusion.area) > 28
    unaligned = fuse(generated.frames, RULE, align=False)
    assert psnr(fusion.image, fusion.area) > psnr(unaligned.image[fusion.area], fusion.area) + 3
    kept = fuse(generated.frames, RULE, crop=False)
    assert kept.image.shape == generated.truth.shape
    for frame, matrix in zip(fusion.frames, generated.matrices, strict=True):
        np.testing.assert_allclose(np.array(frame.matrix)[:2, 2], matrix[:2, 2], atol=0.6)


def test_a_frame_of_something_else_is_left_out_with_a_reason():
    strange = [*FRAMES[:2], texture(99, 96, 160), *FRAMES[2:]]
    fusion = fuse(strange, RULE)
    assert [frame.used for frame in fusion.frames] == [True, True, False, True, True]
    report = fusion.frames[2]
    assert report.reason and report.share == 0 and report.matrix is None
    assert 2 not in fusion.index


def test_every_frame_can_be_observed(monkeypatch):
    monkeypatch.setattr("fusion.fuse.group_size", lambda *args: 3)
    steps = []
    fusion = fuse(FRAMES, RULE, align=False, observe=steps.append)
    assert [step.frame for step in steps] == [0, 1, 2, 3]
    for step in steps:
        assert np.array_equal(step.aligned, FRAMES[step.frame])
        np.testing.assert_allclose(step.boundary, 0, atol=2e-3)  # one is right everywhere
    assert np.array_equal(steps[-1].guidance > 0.5, fusion.index == 3)
    first = np.array([step.guidance for step in steps[:3]])
    np.testing.assert_allclose(first.sum(0), 1, atol=2e-3)


def test_of_two_there_is_a_guidance_map():
    one, two = (fuse(frames, RULE, align=False) for frames in (FRAMES[:2], FRAMES[1::-1]))
    assert np.array_equal(one.guidance > 0.5, one.index == 0)
    np.testing.assert_allclose(one.guidance, 1 - two.guidance, atol=1e-3)
    np.testing.assert_allclose(one.boundary, 1 - 2 * np.abs(one.guidance - 0.5), atol=1e-3)
    assert np.array_equal(one.image, two.image)
    assert fuse(FRAMES[:3], RULE, align=False).guidance is None


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (FRAMES[:1], {}, "at least 2"),
        ([FRAMES[0], FRAMES[1][:-1]], {}, "frame 2 is 160×95"),
        ([FRAMES[0], FRAMES[1].astype(np.uint16)], {}, "frame 2 is 160×96 uint16"),
        ([FRAMES[0][:1], FRAMES[1][:1]], {}, "160×1 pixels"),
        ([x[..., 0] for x in FRAMES], {}, "frame 1"),
        (["x-A.png", "x-B.png"], {}, r"frame 1: frames are \(H, W, 3\).* not a str; .*read_photo"),
        (FRAMES, {"memory": 200_000}, "limit"),
        (FRAMES, {"motion": "warp"}, "warp"),
        ([FRAMES[0], texture(98, 96, 160)], {}, "fewer than two"),
        ([x.astype(np.float32) for x in FRAMES], {}, r"frame 1 has values outside \[0, 1\]"),
        ([np.float32(FRAMES[0] / 255), np.full_like(FRAMES[1], np.nan, np.float32)], {}, "frame 2"),
        ([np.zeros((16, 40_000, 3), np.uint8)] * 2, {}, "too large to be aligned"),
    ],
)
def test_what_cannot_be_fused_is_said(frames, options, message):
    with pytest.raises(ValueError, match=message):
        fuse(frames, RULE, **options)


def test_strict_refuses_a_frame_before_the_fusing():
    stages = []

    def progress(numbers, stage):
        stages.append(stage)
        return numbers

    frames = [*FRAMES[:3], texture(98, 96, 160)]
    assert not fuse(frames, RULE).frames[3].used
    with pytest.raises(ValueError, match="frame 4: it does not match"):
        fuse(frames, RULE, strict=True, progress=progress)
    assert stages == ["aligning"]
    with pytest.raises(ValueError, match="^other.png: it does not match"):
        fuse(frames, RULE, strict=True, names=["a.png", "b.png", "c.png", "other.png"])


def test_without_pytorch(onnx_weights):
    """The default on a CPU starts and runs without importing it."""
    program = (
        "import sys, numpy as np\n"
        "from fusion.backends import load_backend\n"
        "from fusion.fuse import fuse\n"
        "frame = np.random.default_rng(0).integers(0, 255, (80, 90, 3), np.uint8)\n"
        f"image = fuse([frame, frame], load_backend({onnx_weights!r}), align=False).image\n"
        "assert np.array_equal(image, frame)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
