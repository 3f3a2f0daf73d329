"""Generated focus stacks with exact ground truth: K depth layers, any number of frames.

A scene is K layers, each an image with a matte over the next, the farthest opaque. Frame i is
focused at depth fᵢ between 0 (the nearest layer) and K − 1; layer k is blurred by a disk of radius
``spread`` · |k − fᵢ|, by the α-matte model (:mod:`defocus.models`) in linear light. Each layer is
in focus in one frame, so a perfect fusion reaches the truth, except in the FDB.

Layers are mosaics of photographs at their own resolution, so that a stack of 12 megapixels is as
sharp as a small one. They are rendered tile by tile.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from tqdm import tqdm

from defocus import camera, psf
from defocus.color import to_srgb
from defocus.guidance import INVISIBLE, defocused_share
from defocus.materials import to_tensor
from defocus.mattes import procedural_matte
from defocus.models import layers_in_focus
from defocus.outlines import Size
from defocus.sources import Photographs
from fusion.motion import corners_of
from fusion.windows import Window, squares

SAMPLES = Path(__file__).parents[1] / "data/samples"
TILE = 768  # pixels: side of the tiles that are rendered
COVERAGE = 0.4  # wanted share of the frame that a matte covers, at most: all layers are visible
ATTEMPTS = 8  # at a matte of that coverage
HALO = 20  # pixels from a depth edge within which errors are halos
LANCZOS = 4  # pixels: reach of the interpolation


class Motion(NamedTuple):
    """Greatest motion of a frame against the reference."""

    shift: float = 20.0  # pixels
    rotation: float = 1.0  # degrees
    scale: float = 0.03  # relative


class SyntheticStack(NamedTuple):
    """A stack and its ground truth; H×W is the size of each frame."""

    frames: list[np.ndarray]  # N frames (H, W, 3) uint8
    truth: np.ndarray  # (H, W, 3) uint8: the reference with all layers in focus
    depth: np.ndarray  # (H, W) uint8, the layer that contributes most to a pixel, 0 the nearest
    band: np.ndarray  # (H, W) bool, the FDB, where no frame is sharp
    matrices: list[np.ndarray]  # N of 3×3, from pixels (x, y, 1) of the reference to the frame's

    def edges(self, reach: int = HALO) -> np.ndarray:
        """(H, W) bool: within ``reach`` pixels of an edge between two layers."""
        edge = np.zeros(self.depth.shape, bool)
        edge[1:] |= self.depth[1:] != self.depth[:-1]
        edge[:, 1:] |= self.depth[:, 1:] != self.depth[:, :-1]
        return distance_transform_edt(~edge) <= reach if edge.any() else edge


def sharp_photographs() -> Photographs:
    """The all-in-focus photographs of ``data/samples``."""
    samples = Photographs(SAMPLES)
    return samples.only(name for name in samples.photographs if name.endswith("-Truth"))


def stack(
    seed: int,
    size: Size,
    layers: int = 5,
    frames: int = 5,
    *,
    photographs: Photographs | None = None,
    background: int | None = None,
    spread: float = 4.0,
    motion: Motion | None = None,
    exposure: float = 0.0,
    noise: float = 0.0,
) -> SyntheticStack:
    """Generate a stack; equal arguments give equal stacks.

    Args:
        size: (H, W) of the frames.
        layers: K ≥ 2.
        frames: N ≥ K. Each layer is in focus in one frame; the others are focused in between.
        photographs: for the layers; by default those of ``data/samples``.
        background: grey value of the farthest layer, instead of a photograph.
        spread: radius in pixels of the circle of confusion of a layer next to the one in focus.
        motion: greatest motion of the frames, none by default. The reference is frame N // 2.
        exposure: greatest change of a channel's values against the reference, in stops.
        noise: standard deviation at middle grey, in units of the full range.

    Raises :class:`ValueError` for fewer than two layers, or fewer frames than layers.
    """
    if not 2 <= layers <= frames:
        text = "a stack has at least 2 layers, and a frame for each"
        raise ValueError(f"{layers} layers, {frames} frames: {text}")
    rng = np.random.default_rng(seed)
    matrices = [_matrix(motion or Motion(0, 0, 0), size, rng) for _ in range(frames)]
    gains = np.float32(2.0 ** rng.uniform(-exposure, exposure, (frames, 3)))
    matrices[frames // 2], gains[frames // 2] = np.eye(3), 1
    focus = np.interp(range(frames), np.rint(np.linspace(0, frames - 1, layers)), range(layers))
    border, reach = _border(matrices, size), math.ceil(spread * (layers - 1))
    canvas = (size[0] + 2 * (border + reach), size[1] + 2 * (border + reach))
    photographs = sharp_photographs() if photographs is None else photographs
    scene = Layers(
        [_mosaic(photographs, canvas, rng) for _ in range(layers)],
        [_matte(canvas, rng) for _ in range(layers - 1)],
        reach,
    )
    if background is not None:
        scene.colors[-1][:] = background
    radii = spread * np.abs(np.arange(layers) - focus[:, None])
    psfs = [[psf.disk(radius) if radius else None for radius in row] for row in radii.tolist()]
    inside = (slice(border, border + size[0]), slice(border, border + size[1]))
    rendered, flags = [], cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    for i in tqdm(range(frames), unit="frame", delay=2, leave=False):
        image = scene.photograph(psfs[i])
        view = np.array([[1, 0, border], [0, 1, border], [0, 0, 1]]) @ np.linalg.inv(matrices[i])
        image = cv2.warpPerspective(image, view, size[::-1], flags=flags) * gains[i]
        if noise:
            planes = torch.from_numpy(image).permute(2, 0, 1)
            noisy = camera.add_noise(planes, noise, 0.5, np.random.default_rng([seed, i]))
            image = noisy.permute(1, 2, 0).numpy()
        rendered.append(_quantise(image))
    truth = scene.photograph([None] * layers)
    planes = (_quantise(truth), scene.depth(), scene.band(psfs))
    return SyntheticStack(rendered, *(plane[inside] for plane in planes), matrices)


class Layers(NamedTuple):
    """K layers on a canvas that exceeds the rendered area by ``reach`` pixels on each side."""

    colors: list[np.ndarray]  # K images (H, W, 3) uint8 sRGB, nearest first
    mattes: list[np.ndarray]  # K − 1 mattes (H, W) uint8; the farthest layer is opaque
    reach: int  # of the largest PSF, pixels

    @property
    def size(self) -> Size:
        """(h, w) of the rendered area."""
        height, width = self.colors[0].shape[:2]
        return height - 2 * self.reach, width - 2 * self.reach

    def photograph(self, psfs: Sequence[Tensor | None]) -> np.ndarray:
        """Render with K PSFs, None for a layer in focus: (h, w, 3) float32 sRGB in [0, 1]."""
        image = np.empty((*self.size, 3), np.float32)
        for tile, seen, layers, mattes in self._tiles():
            colors = [to_tensor(self.colors[k][seen], linear=True) for k in layers]
            light = layers_in_focus(colors, mattes, [psfs[k] for k in layers])
            image[tile] = to_srgb(psf.crop(light, self.reach)).permute(1, 2, 0).numpy()
        return image

    def band(self, photographs: Sequence[Sequence[Tensor | None]]) -> np.ndarray:
        """(h, w) bool: where none of the photographs, each given by its K PSFs, is sharp."""
        band = np.zeros(self.size, bool)
        focused = [psfs for psfs in photographs if None in psfs]  # others are sharp nowhere
        for tile, _, layers, mattes in self._tiles():
            if mattes:
                shares = [defocused_share(mattes, [psfs[k] for k in layers]) for psfs in focused]
                least = torch.stack(shares).amin(0)[0]
                band[tile] = (psf.crop(least, self.reach) > INVISIBLE).numpy()
        return band

    def depth(self) -> np.ndarray:
        """(h, w) uint8: the layer that contributes most to a pixel when all are in focus."""
        left, shares, inside = np.float32(1), [], slice(self.reach, -self.reach)
        for matte in self.mattes:
            shares.append(left * (matte[inside, inside] / np.float32(255)))
            left = left - shares[-1]
        return np.argmax([*shares, left], axis=0).astype(np.uint8)

    def _tiles(self) -> Iterator[tuple[Window, Window, list[int], list[Tensor]]]:
        """Tiles of the rendered area; the windows of the canvas they need; the layers visible
        there, and the mattes of all but the farthest of them, which is opaque there."""
        height, width = self.size
        for tile in squares((slice(0, height), slice(0, width)), TILE):
            seen = tuple(slice(s.start, s.stop + 2 * self.reach) for s in tile)
            parts = [matte[seen] for matte in self.mattes]
            last = next((k for k, part in enumerate(parts) if part.min() == 255), len(parts))
            above = [k for k in range(last) if parts[k].any()]
            mattes = [torch.from_numpy(parts[k] / np.float32(255))[None] for k in above]
            yield tile, seen, [*above, last], mattes


def _mosaic(photographs: Photographs, size: Size, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 of square crops of photographs at their own resolution."""
    height, width = size
    side = min(min(photo.shape[:2]) for photo in photographs)
    image = np.empty((height, width, 3), np.uint8)
    order = rng.permutation(len(photographs))
    for number, here in enumerate(squares((slice(0, height), slice(0, width)), side)):
        photo = photographs[int(order[number % len(order)])]
        h, w = image[here].shape[:2]
        top, left = rng.integers(photo.shape[0] - h + 1), rng.integers(photo.shape[1] - w + 1)
        part = photo[top : top + h, left : left + w]
        image[here] = part[:, ::-1] if rng.random() < 0.5 else part
    return image


def _matte(size: Size, rng: np.random.Generator) -> np.ndarray:
    """(H, W) uint8: the first of at most :data:`COVERAGE`, or the least of :data:`ATTEMPTS`."""
    drawn: list[np.ndarray] = []
    for _ in range(ATTEMPTS):
        drawn.append(procedural_matte(size, rng))
        if drawn[-1].mean() <= COVERAGE:
            break
    return np.rint(min(drawn, key=np.mean) * 255).astype(np.uint8)


def _matrix(motion: Motion, size: Size, rng: np.random.Generator) -> np.ndarray:
    """A similarity about the middle of the frame, 3×3."""
    height, width = size
    length, direction = motion.shift * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    turn = rng.uniform(-motion.rotation, motion.rotation)
    scale = 1 + rng.uniform(-motion.scale, motion.scale)
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -turn, scale)
    matrix[:2, 2] += length * np.cos(direction), length * np.sin(direction)
    return matrix


def _border(matrices: Sequence[np.ndarray], size: Size) -> int:
    """Pixels that frames show beyond the reference at most; 0 if none moves."""
    corners, beyond = corners_of(size), [0.0]
    for matrix in matrices:
        if not np.array_equal(matrix, np.eye(3)):
            seen = cv2.perspectiveTransform(corners, np.linalg.inv(matrix))[0]
            beyond.append(np.maximum(-seen, seen - corners[0, 2]).max() + LANCZOS)
    return math.ceil(max(beyond))


def _quantise(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
