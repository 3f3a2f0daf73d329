"""Running fusion of stacks, against the pairwise cascade and generated ground truth."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT, texture
from fusion.merge import RunningFusion
from models.fuse import fuse_arrays

from fusion import cascade, merge
from fusion.backends import ONNX, WEIGHTS, OnnxCascade, TorchCascade, load_cascade
from fusion.synthetic import stack
from fusion.windows import GRID
from models import scales
from models.build import load_model
from utils.errors import UserError
from utils.images import read_photo

MODEL = load_model(WEIGHTS)
TORCH = TorchCascade(MODEL)


@pytest.fixture(scope="module")
def pair() -> list[np.ndarray]:
    """A sample pair, cut to less than a block, with odd sides."""
    files = (ROOT / f"data/samples/coffee-{side}.png" for side in "AB")
    return [np.ascontiguousarray(read_photo(path).rgb[:301, :395]) for path in files]


def psnr(image: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> float:
    error = np.square(image.astype(np.float64) - truth)
    return 10 * np.log10(255**2 / (error if where is None else error[where]).mean())


def merged(frames, **changes) -> RunningFusion:
    fusion = RunningFusion(changes.pop("cascade", TORCH), frames[0])
    for number, frame in enumerate(frames[1:], 1):
        fusion.merge(frame, number)
    return fusion


def test_two_frames_are_fused_as_a_pair_is(pair, monkeypatch):
    """In squares at full resolution, with the logits as they are: the pairwise cascade."""
    monkeypatch.setattr(cascade, "SHARPNESS", 0.0)
    fusion = RunningFusion(TORCH, pair[0])
    guidance = fusion.merge(pair[1], 1)
    expected = fuse_arrays(MODEL, *pair)
    # A square sees less than the initial fusion reaches, so not to the last bit.
    assert psnr(fusion.image, expected.fused) > 45
    assert np.abs(guidance - expected.guidance).mean() < 0.01


def test_half_resolution_is_near_full_resolution(pair, monkeypatch):
    full = merged(pair).image
    monkeypatch.setattr(scales, "WHOLE", 0)
    monkeypatch.setattr(merge, "VISIBLE", 2.0)  # nothing touches the FDB
    half = merged(pair).image
    assert 30 < psnr(half, full) < 60
    monkeypatch.setattr(merge, "VISIBLE", -1.0)  # everything does: as above where it is unsure
    monkeypatch.setattr(scales, "UNSURE", 1e-9)
    assert psnr(merged(pair).image, full) > 60


class Everywhere:
    """Neither picture is right anywhere; the residual is the mean of both, as its gain says."""

    parallel = 2

    def guidance(self, image1: np.ndarray, image2: np.ndarray) -> np.ndarray:
        return np.full(image1.shape[:2], 0.5, np.float32)

    def coefficients(
        self, image1: np.ndarray, image2: np.ndarray, guidance: np.ndarray
    ) -> np.ndarray:
        return np.broadcast_to(np.float32([0, 0, 0, 0.25, 0]), (*image1.shape[:2], 5)).copy()


@pytest.mark.parametrize("size", [(301, 395), (1037, 1201)])
def test_the_residual_acts_where_it_can_be_seen_and_only_there(size):
    """At either resolution and with odd sides: (a + b)/2 + (a + b)/4 where the sources differ by
    more than can be seen, and there in one piece; else (a + b)/2."""
    near = np.zeros((*size, 3), np.float32) + 0.2
    far = near.copy()
    far[: size[0] // 2, 100:] = 0.6
    fusion = RunningFusion(Everywhere(), near)
    fusion.merge(far, 1)
    differs = np.zeros(size, bool)
    differs[: size[0] // 2 - GRID, 100 + GRID :] = True
    np.testing.assert_allclose(fusion.image[differs], 0.4 + 0.2, atol=1e-6)
    if size[0] * size[1] > scales.WHOLE:
        alike = np.zeros(size, bool)
        alike[-(size[0] // 2 - 2 * merge.SQUARE) :] = True
        np.testing.assert_allclose(fusion.image[alike], 0.2, atol=1e-6)


def test_what_a_frame_does_not_concern_is_copied(pair):
    fusion = RunningFusion(TORCH, pair[0])
    guidance = fusion.merge(pair[1], 1)
    for frame, sure in zip(pair, (guidance > 0.97, guidance < 0.03), strict=True):
        assert sure.any()
        difference = np.abs(pair[0].astype(int) - pair[1])[sure]
        assert (np.abs(fusion.image[sure].astype(int) - frame[sure]) <= 1 + 0.15 * difference).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_equal_frames_come_back_in_their_type(dtype):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    frame = (texture(5, 90, 120) * dtype(scale)).astype(dtype)
    fusion = merged([frame, frame, frame])
    assert fusion.image.dtype == dtype
    np.testing.assert_allclose(fusion.image, frame, atol=1e-6 if dtype == np.float32 else 0)


def test_sixteen_bits_are_as_eight_and_finer(pair):
    eight = merged(pair).image
    sixteen = merged([frame.astype(np.uint16) * 257 for frame in pair]).image
    assert np.abs(sixteen / 257 - eight).max() <= 0.51


def test_order_of_a_pair_does_not_matter(pair):
    fusion, turned = merged(pair), merged(pair[::-1])
    assert np.abs(fusion.image.astype(int) - turned.image).max() <= 1
    assert ((fusion.index == turned.index) & (fusion.confidence > 10)).mean() < 0.01


class Left:
    """Decides for the first picture in the left half of a picture 400 pixels wide, by its red."""

    def __init__(self, parallel: int):
        self.parallel = parallel

    def guidance(self, image1: np.ndarray, image2: np.ndarray) -> np.ndarray:
        return (image1[..., 0] < 0.5).astype(np.float32)

    def coefficients(self, image1: np.ndarray, image2: np.ndarray, guidance: np.ndarray) -> None:
        return None


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("shape", [(16, 400), (700, 400), (1300, 1001)])
def test_every_pixel_is_decided_once_where_it_lies(shape, parallel):
    """Blocks, squares and enlarging put things where they belong, at any size."""
    ramp = np.linspace(0, 255, shape[1]).astype(np.uint8)
    near = np.broadcast_to(ramp[None, :, None], (*shape, 3)).copy()
    far = near.copy()
    far[..., 1] = 9
    fusion = RunningFusion(Left(parallel), near, 4)
    guidance = fusion.merge(far, 7)
    x = np.arange(shape[1])
    sure = np.abs(x - shape[1] / 2) > 4  # where half resolution interpolates
    left = np.broadcast_to(x < shape[1] / 2, shape)
    assert np.array_equal(guidance[:, sure], left[:, sure])
    assert np.array_equal(fusion.image[left & sure], near[left & sure])
    assert np.array_equal(fusion.image[~left & sure], far[~left & sure])
    assert set(np.unique(fusion.index)) == {4, 7}
    assert (fusion.confidence[:, sure] == 255).all()


def test_frames_must_be_alike():
    fusion = RunningFusion(TORCH, np.zeros((20, 20, 3), np.uint8))
    for frame in (np.zeros((20, 21, 3), np.uint8), np.zeros((20, 20, 3), np.uint16)):
        with pytest.raises(ValueError, match="frame 3"):
            fusion.merge(frame, 3)


def test_a_stack_of_layers_beats_selection_by_hindsight():
    """Near the FDB no frame is right: in the band the fusion is nearer to the truth than taking
    for each pixel whichever frame is, which no method that selects can beat."""
    generated = stack(1, (256, 320), 3, 3, mattes=["blob"], spread=5.0)
    frames = [generated.frames[i] for i in range(3)]
    fusion = merged(frames)
    errors = np.stack([np.square(f.astype(int) - generated.truth).sum(2) for f in frames])
    best = np.take_along_axis(np.stack(frames), errors.argmin(0)[None, ..., None], 0)[0]
    assert psnr(fusion.image, generated.truth, generated.band) > psnr(
        best, generated.truth, generated.band
    )
    focus = np.array([int(np.flatnonzero(generated.focus == k)[0]) for k in range(3)])
    right = fusion.index == focus[generated.depth]
    assert right[~generated.edges(8)].mean() > 0.95


def test_onnx_runtime_decides_as_pytorch_does(pair):
    pytest.importorskip("onnxruntime")
    pictures = [frame.astype(np.float32) / 255 for frame in pair]
    onnx = OnnxCascade(ONNX)
    guidance = TORCH.guidance(*pictures)
    np.testing.assert_allclose(onnx.guidance(*pictures), guidance, atol=1e-4)
    coefficients = TORCH.coefficients(*pictures, guidance)
    assert np.abs(coefficients).max() > 0.1
    np.testing.assert_allclose(onnx.coefficients(*pictures, guidance), coefficients, atol=1e-3)


@pytest.mark.parametrize("content", [None, b"", b"not a graph"])
def test_bad_onnx_files_are_named(tmp_path, content):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="net.onnx"):
        load_cascade(path)
