"""Tiles against the whole image, and the memory they take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models.fuse import cut, fuse, fuse_arrays

from fusion.backends import WEIGHTS
from fusion.synthetic import stack
from models import scales
from models.build import build, load_model

NETS = {
    "pair": {
        "initial": {"name": "PairInitialFusion", "args": {"widths": [4, 6, 8]}},
        "boundary": {
            "name": "PairBoundaryFusion",
            "args": {"half": 4, "quarter": 6, "blocks": [1, 2, 1]},
        },
    },
    "paper": {
        "initial": {"name": "InitialFusion", "args": {"channels": 6, "blocks": 3}},
        "boundary": {"name": "BoundaryFusion", "args": {"channels": 6, "blocks": 2}},
    },
    "initial alone": {
        "initial": {"name": "PairInitialFusion", "args": {"widths": [4, 6]}},
        "boundary": None,
    },
}


def make_model(name: str, gain: float = 1.0):
    """A random cascade; ``gain`` sharpens G, so that a part of the boundary map is zero."""
    torch.manual_seed(7)
    model = build(NETS[name]).eval().requires_grad_(False)
    model.initial.tail.weight.mul_(gain)
    return model


def make_images(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(height * 1000 + width)
    return tuple(
        torch.randint(0, 256, (batch, 3, height, width), generator=random, dtype=torch.uint8)
        for _ in range(2)
    )


@pytest.mark.parametrize("name", NETS)
def test_whole_is_the_cascade(name):
    model = make_model(name)
    image1, image2 = make_images(75, 90, batch=2)
    expected = model(image1 / 255, image2 / 255)
    result = fuse(model, image1 / 255, image2 / 255, tile=128)
    torch.testing.assert_close(result.fused, expected.fused.clamp(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.guidance, expected.guidance, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.boundary, expected.boundary, atol=1e-5, rtol=0)
    eight_bit = fuse(model, image1, image2, tile=128).fused
    assert eight_bit.dtype == torch.uint8
    assert (eight_bit - 255 * result.fused).abs().max() <= 0.502


@pytest.mark.parametrize("whole", [scales.WHOLE, 0], ids=["small", "large"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(16, 16), (131, 205), (160, 96)])
def test_tiles_agree_with_the_whole(name, size, whole, monkeypatch):
    monkeypatch.setattr(scales, "WHOLE", whole)
    model = make_model(name)
    images = [image / 255 for image in make_images(*size)]
    whole, tiled = (fuse(model, *images, tile=tile) for tile in (4096, 32))
    torch.testing.assert_close(tiled.fused, whole.fused, atol=1e-5, rtol=0)
    torch.testing.assert_close(tiled.guidance, whole.guidance, atol=1e-5, rtol=0)


def test_tiles_without_boundary_are_copies_and_agree():
    """Where no tile's residual can be seen it is left out, within a grey level of the whole."""
    model = make_model("pair", gain=3000)
    image1, image2 = make_images(96, 160)
    image2[..., 80:] = image1[..., 80:]  # equal there: G = 0.5, a boundary that must be fused
    whole, tiled = (fuse(model, image1, image2, tile=tile) for tile in (4096, 32))
    assert (whole.fused.int() - tiled.fused.int()).abs().max() <= 1
    sharp = (tiled.boundary < 1e-6).expand_as(image1)
    chosen = torch.where(tiled.guidance > 0.5, image1, image2)
    assert sharp.float().mean() > 0.2
    assert torch.equal(tiled.fused[sharp], chosen[sharp])


@pytest.mark.parametrize("name", ["pair", "paper"])
@pytest.mark.parametrize("stage", ["initial", "boundary"])
def test_reach_is_what_the_gradient_says(name, stage):
    """No output of a block on the grid depends on an input farther away than ``reach``."""
    net = getattr(make_model(name), stage).double()
    for parameter in net.parameters():  # every path open, so that no influence cancels
        parameter.abs_().add_(0.01)
    start = -(-net.reach // net.multiple) * net.multiple + 2 * net.multiple
    size = 2 * start + net.multiple
    inputs = [torch.rand(1, 3, size, size, dtype=torch.double) + 2 for _ in range(2)]
    inputs[1] *= 0.1  # so that the difference is positive as well
    inputs += [torch.rand(1, 1, size, size, dtype=torch.double)] if stage == "boundary" else []
    inputs[0].requires_grad_()
    block = slice(start, start + net.multiple)
    net(*inputs)[..., block, block].sum().backward()
    rows = inputs[0].grad.abs().sum((0, 1, 3)).nonzero().flatten()
    reached = max(start - rows.min().item(), rows.max().item() - (start + net.multiple - 1))
    assert reached <= net.reach
    assert reached > net.reach - 8  # and it is no waste


def test_wide_blur_is_seen_at_half_resolution(monkeypatch):
    """A generated pair whose blur is wider than any that was trained: away from the FDB the truth
    is in a source, and is found better by looking at half resolution first."""
    generated = stack(1, (800, 1000), 2, 2, mattes=["blob"], spread=20.0)
    model, frames = load_model(WEIGHTS), [generated.frames[i] for i in range(2)]

    def mean_square() -> float:
        error = np.square(fuse_arrays(model, *frames).fused - generated.truth.astype(float))
        return float(error[~generated.band].mean())

    at_once = mean_square()
    monkeypatch.setattr(scales, "WHOLE", 0)
    assert mean_square() < 0.97 * at_once


@given(
    height=st.integers(16, 700),
    width=st.integers(16, 700),
    side=st.integers(1, 300),
    net=st.sampled_from(["initial", "boundary"]),
)
@settings(max_examples=60, deadline=None)
def test_cut_covers_every_pixel_once_on_the_grid(height, width, side, net):
    net = getattr(PAIR, net)
    covered = np.zeros((height, width), int)
    for tile in cut((height, width), side, net):
        covered[tile.core] += 1
        index = np.arange(height * width).reshape(height, width)
        assert np.array_equal(index[tile.seen][tile.inside], index[tile.core])
        for core, seen, length in zip(tile.core[1:], tile.seen[1:], (height, width), strict=True):
            assert core.stop - core.start <= -(-side // net.multiple) * net.multiple
            assert core.start % net.multiple == seen.start % net.multiple == 0
            assert seen.start == 0 or core.start - seen.start >= net.reach
            assert seen.stop == length or seen.stop - core.stop >= net.reach
    assert (covered == 1).all()


PAIR = make_model("pair")


@pytest.mark.parametrize("whole", [scales.WHOLE, 0], ids=["small", "large"])
def test_swap_gives_the_same_image_and_the_inverse_guidance(whole, monkeypatch):
    monkeypatch.setattr(scales, "WHOLE", whole)
    images = make_images(80, 112)
    one, two = fuse(PAIR, *images, tile=32), fuse(PAIR, *images[::-1], tile=32)
    assert (one.fused.int() - two.fused.int()).abs().max() <= 1  # a tie may round either way
    assert (one.fused == two.fused).float().mean() > 0.999
    torch.testing.assert_close(one.guidance, 1 - two.guidance, atol=1e-6, rtol=0)


def test_equal_sources_come_back():
    """The initial fusion of equal images is the image; a random residual would not be zero."""
    image, _ = make_images(48, 64)
    assert torch.equal(fuse(make_model("initial alone"), image, image).fused, image)


def test_arrays_are_the_tensors():
    image1, image2 = make_images(40, 56)
    expected = fuse(PAIR, image1, image2)
    arrays = (image[0].permute(1, 2, 0).contiguous().numpy() for image in (image1, image2))
    fused, guidance, boundary = fuse_arrays(PAIR, *arrays)
    assert fused.shape == (40, 56, 3) and guidance.shape == boundary.shape == (40, 56)
    assert np.array_equal(fused, expected.fused[0].permute(1, 2, 0).numpy())
    turned = [image[0].permute(1, 2, 0).numpy()[::-1, ::-1] for image in (image1, image2)]
    for array in turned:  # views, as of np.rot90, and arrays that may not be written to
        array.flags.writeable = False
    assert fuse_arrays(PAIR, *turned).fused.shape == (40, 56, 3)
    np.testing.assert_allclose(boundary, 1 - 2 * np.abs(guidance - 0.5), atol=1e-6)


def test_results_are_ordinary_tensors():
    fusion = fuse(PAIR, *(image / 255 for image in make_images(32, 32)))
    fusion.fused.mul_(0.5)  # would raise on an inference tensor
    assert not fusion.fused.is_inference() and not fusion.guidance.is_inference()


def test_depth_is_kept():
    """The same photographs at 8 bits, at 16 (257 times the values) and as floats."""
    images = [x[0].permute(1, 2, 0).contiguous().numpy() for x in make_images(40, 56)]
    eight = fuse_arrays(PAIR, *images)
    sixteen = fuse_arrays(PAIR, *(x.astype(np.uint16) * 257 for x in images))
    floats = fuse_arrays(PAIR, *(x.astype(np.float32) / 255 for x in images))
    assert sixteen.fused.dtype == np.uint16 and floats.fused.dtype == np.float32
    np.testing.assert_allclose(sixteen.fused / 65535, floats.fused, atol=0.51 / 65535 + 1e-6)
    np.testing.assert_allclose(eight.fused / 255, floats.fused, atol=0.51 / 255)
    assert len(np.unique(sixteen.fused)) > 300  # not 8 bits in 16


def test_arrays_of_another_type_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        fuse_arrays(PAIR, *(np.zeros((20, 20, 3), np.int32) for _ in range(2)))


@pytest.mark.parametrize("shapes", [((3, 20, 20), (3, 20, 21)), ((1, 20, 20), (1, 20, 20))])
def test_wrong_images_are_refused(shapes):
    with pytest.raises(ValueError, match="images"):
        fuse(PAIR, *(torch.zeros(1, *shape) for shape in shapes))
    with pytest.raises(ValueError, match="16×16"):
        fuse(PAIR, *(torch.zeros(1, 3, 15, 40) for _ in range(2)))


PEAK = """
import re, sys
from pathlib import Path
import numpy as np
from models.build import build
from models.fuse import fuse_arrays
def peak():  # in bytes; what getrusage gives counts the process that started this one too
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
initial = {"name": "PairInitialFusion", "args": {"widths": [4, 6]}}
boundary = {"name": "PairBoundaryFusion", "args": {"half": 4, "quarter": 6, "blocks": [1, 1, 1]}}
model = build({"initial": initial, "boundary": boundary}).eval()
images = [np.full((1000, 2000, 3), value, np.uint8) for value in (90, 160)]
fuse_arrays(model, *(image[:256, :256] for image in images))
before = peak()
fuse_arrays(model, *images, tile=int(sys.argv[1]))
print((peak() - before) / 2e6)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_of_tiles_is_bounded():
    """In tiles a pixel of the photograph takes 11 bytes (fused 3, guidance and boundary map 4
    each) and 12 for a moment, besides the features of a tile; whole, its features as well."""
    tiled, whole = (
        float(
            subprocess.run(
                [sys.executable, "-c", PEAK, tile],
                capture_output=True,
                text=True,
                check=True,
                cwd=Path(__file__).parent.parent,
            ).stdout
        )
        for tile in ("256", "4096")
    )
    assert tiled < 48 < 200 < whole
