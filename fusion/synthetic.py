"""Generated focus stacks with exact ground truth: K depth layers, any number of frames.

A scene is K layers, each an image with a matte over the next, the farthest opaque. Frame i is
focused at depth fᵢ between 0 (the nearest layer) and K − 1; layer k is blurred by a disk of radius
``spread`` · |k − fᵢ|, by the α-matte model (:mod:`defocus.models`) in linear light. Each layer is
in focus in one frame, so a perfect fusion reaches the truth, except in the FDB.

Layers are mosaics of photographs at their own resolution, so that a stack of 12 megapixels is as
sharp as a small one. Frames are rendered on access, tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from defocus import camera, psf
from defocus.color import to_linear, to_srgb
from defocus.guidance import INVISIBLE, defocused_share
from defocus.mattes import procedural_matte
from defocus.models import layers_in_focus
from defocus.sources import Photographs
from fusion.motion import corners_of
from fusion.windows import Window, squares

SAMPLES = Path(__file__).parents[1] / "data/samples"
TILE = 768  # pixels: side of the tiles that are rendered
COVERAGE = 0.4  # wanted share of the frame that a matte covers, at most: all layers are visible
ATTEMPTS = 8  # at a matte of that coverage
HALO = 20  # pixels from a depth edge within which errors are halos
LANCZOS = 4  # pixels: reach of the interpolation

Size = tuple[int, int]


@dataclass(frozen=True)
class Motion:
    """Greatest motion of a frame against the reference."""

    shift: float = 20.0  # pixels
    rotation: float = 1.0  # degrees
    scale: float = 0.03  # relative


@dataclass(frozen=True)
class SyntheticStack:
    """A stack and its ground truth; H×W is the size of each frame."""

    frames: Sequence[np.ndarray]  # N frames (H, W, 3) uint8 or uint16, rendered at each access
    truth: np.ndarray  # (H, W, 3) of the same type: the reference with all layers in focus
    depth: np.ndarray  # (H, W) uint8, the layer that contributes most to a pixel, 0 the nearest
    band: np.ndarray  # (H, W) bool, the FDB, where no frame is sharp
    focus: np.ndarray  # (N,) the depth at which each frame is focused
    matrices: list[np.ndarray]  # N of 3×3, from pixels (x, y, 1) of the reference to the frame's
    gains: np.ndarray  # (N, 3) factors on R, G, B of each frame against the reference

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
    mattes: Sequence[str] | None = None,
    spread: float = 4.0,
    motion: Motion | None = None,
    exposure: float = 0.0,
    noise: float = 0.0,
    dtype: type = np.uint8,
) -> SyntheticStack:
    """Generate a stack; equal arguments give equal stacks.

    Args:
        seed: of all random draws.
        size: (H, W) of the frames.
        layers: K ≥ 2.
        frames: N ≥ K. Each layer is in focus in one frame; the others are focused in between.
        photographs: for the layers; by default those of ``data/samples``.
        mattes: kinds of :data:`defocus.mattes.KINDS`, all by default.
        spread: radius in pixels of the circle of confusion of a layer next to the one in focus.
        motion: greatest motion of the frames, none by default. The reference is frame N // 2.
        exposure: greatest change of a channel's values against the reference, in stops.
        noise: standard deviation at middle grey, in units of the full range.
        dtype: np.uint8 or np.uint16.

    Raises:
        ValueError: fewer than two layers, or fewer frames than layers.
    """
    if layers < 2 or frames < layers:
        raise ValueError(
            f"a stack has 2 layers or more and a frame for each, not {layers}, {frames}"
        )
    rng = np.random.default_rng(seed)
    matrices = [_matrix(motion or Motion(0, 0, 0), size, rng) for _ in range(frames)]
    gains = 2.0 ** rng.uniform(-exposure, exposure, (frames, 3))
    matrices[frames // 2], gains[frames // 2] = np.eye(3), 1
    focus = np.interp(range(frames), np.rint(np.linspace(0, frames - 1, layers)), range(layers))
    border, reach = _border(matrices, size), math.ceil(spread * (layers - 1))
    canvas = (size[0] + 2 * (border + reach), size[1] + 2 * (border + reach))
    photographs = sharp_photographs() if photographs is None else photographs
    scene = Scene(
        [_mosaic(photographs, canvas, rng) for _ in range(layers)],
        [_matte(canvas, rng, mattes) for _ in range(layers - 1)],
        reach,
    )
    radii = spread * np.abs(np.arange(layers) - focus[:, None])
    psfs = [[psf.disk(radius) if radius else None for radius in row] for row in radii.tolist()]
    inside = (slice(border, border + size[0]), slice(border, border + size[1]))
    return SyntheticStack(
        Frames(scene, psfs, inside, matrices, gains, noise, dtype, seed),
        _quantise(scene.photograph([None] * layers)[inside], dtype),
        scene.depth()[inside],
        scene.band(psfs)[inside],
        focus,
        matrices,
        gains,
    )


@dataclass(frozen=True)
class Scene:
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
        for tile, seen in self._tiles():
            layers, mattes = self._visible(seen)
            linear = [cv2.LUT(self.colors[k][seen], LINEAR) for k in layers]
            colors = [torch.from_numpy(color).permute(2, 0, 1) for color in linear]
            light = layers_in_focus(colors, mattes, [psfs[k] for k in layers])
            image[tile] = to_srgb(psf.crop(light, self.reach)).permute(1, 2, 0).numpy()
        return image

    def band(self, photographs: Sequence[Sequence[Tensor | None]]) -> np.ndarray:
        """(h, w) bool: where none of the photographs, each given by its K PSFs, is sharp."""
        band = np.zeros(self.size, bool)
        focused = [psfs for psfs in photographs if None in psfs]  # others are sharp nowhere
        for tile, seen in self._tiles():
            layers, mattes = self._visible(seen)
            if mattes:
                shares = [defocused_share(mattes, [psfs[k] for k in layers]) for psfs in focused]
                least = torch.stack(shares).amin(0)[0]
                band[tile] = (psf.crop(least, self.reach) > INVISIBLE).numpy()
        return band

    def depth(self) -> np.ndarray:
        """(h, w) uint8: the layer that contributes most to a pixel when all are in focus."""
        depth = np.zeros(self.colors[0].shape[:2], np.uint8)
        left, most = np.ones(depth.shape, np.float32), np.zeros(depth.shape, np.float32)
        for k in range(len(self.colors)):
            alpha = self.mattes[k] / np.float32(255) if k < len(self.mattes) else 1
            share = left * alpha
            depth[share > most] = k
            most = np.maximum(most, share)
            left -= share
        inside = slice(self.reach, -self.reach)
        return depth[inside, inside]

    def _tiles(self) -> Iterator[tuple[Window, Window]]:
        """Tiles of the rendered area, and the window of the canvas that each needs."""
        height, width = self.size
        for tile in squares((slice(0, height), slice(0, width)), TILE):
            yield tile, tuple(slice(s.start, s.stop + 2 * self.reach) for s in tile)

    def _visible(self, seen: Window) -> tuple[list[int], list[Tensor]]:
        """The layers visible in a window, and the mattes of all but the farthest of them, which is
        opaque there."""
        layers, mattes = [], []
        for k, matte in enumerate(self.mattes):
            part = matte[seen]
            if part.any():
                layers.append(k)
                if part.min() == 255:
                    return layers, mattes
                mattes.append(torch.from_numpy(part / np.float32(255))[None])
        return [*layers, len(self.mattes)], mattes


@dataclass(frozen=True)
class Frames(Sequence):
    """The photographs of a scene, rendered on access; see :class:`SyntheticStack`."""

    scene: Scene  # with room for the motions
    psfs: list[list[Tensor | None]]  # N lists of K
    inside: Window  # of the rendered scene that the reference shows
    matrices: list[np.ndarray]
    gains: np.ndarray
    noise: float
    dtype: type
    seed: int

    def __len__(self) -> int:
        return len(self.psfs)

    def __getitem__(self, i: int) -> np.ndarray:
        i = range(len(self))[i]
        image = self.scene.photograph(self.psfs[i])
        rows, columns = self.inside
        if np.array_equal(self.matrices[i], np.eye(3)):
            image = image[self.inside]
        else:
            offset = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]], np.float64)
            size = (columns.stop - columns.start, rows.stop - rows.start)
            matrix = offset @ np.linalg.inv(self.matrices[i])
            flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
            image = cv2.warpPerspective(image, matrix, size, flags=flags)
        image = image * self.gains[i].astype(np.float32)
        if self.noise:
            planes = torch.from_numpy(image).permute(2, 0, 1)
            rng = np.random.default_rng([self.seed, i])
            noisy = camera.add_noise(planes, self.noise, shot=0.5, rng=rng)
            image = noisy.permute(1, 2, 0).numpy()
        return _quantise(image, self.dtype)


LINEAR = to_linear(torch.arange(256, dtype=torch.float32) / 255).numpy()


def _mosaic(photographs: Photographs, size: Size, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 of square crops of photographs at their own resolution."""
    height, width = size
    side = min(min(photo.shape[:2]) for photo in photographs)
    image = np.empty((height, width, 3), np.uint8)
    order = rng.permutation(len(photographs))
    corners = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
    for number, (y, x) in enumerate(corners):
        photo = photographs[int(order[number % len(order)])]
        h, w = min(side, height - y), min(side, width - x)
        top, left = (
            int(rng.integers(n - m + 1)) for n, m in zip(photo.shape, (h, w), strict=False)
        )
        part = photo[top : top + h, left : left + w]
        image[y : y + h, x : x + w] = part[:, ::-1] if rng.random() < 0.5 else part
    return image


def _matte(size: Size, rng: np.random.Generator, kinds: Sequence[str] | None) -> np.ndarray:
    """(H, W) uint8 of at most :data:`COVERAGE` if :data:`ATTEMPTS` draws suffice."""
    drawn = []
    for _ in range(ATTEMPTS):
        drawn.append(procedural_matte(size, rng, kinds))
        if drawn[-1].mean() <= COVERAGE:
            break
    return np.rint(min(drawn, key=np.mean) * 255).astype(np.uint8)


def _matrix(motion: Motion, size: Size, rng: np.random.Generator) -> np.ndarray:
    """A similarity about the middle of the frame, 3×3."""
    height, width = size
    length, direction = motion.shift * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    turn = rng.uniform(-motion.rotation, motion.rotation)
    scale = 1 + rng.uniform(-motion.scale, motion.scale)
    middle = (width - 1) / 2, (height - 1) / 2
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D(middle, -turn, scale)
    matrix[:2, 2] += length * np.cos(direction), length * np.sin(direction)
    return matrix


def _border(matrices: Sequence[np.ndarray], size: Size) -> int:
    """Pixels that frames show beyond the reference at most; 0 if none moves."""
    height, width = size
    beyond = 0.0
    for matrix in matrices:
        if not np.array_equal(matrix, np.eye(3)):
            seen = cv2.perspectiveTransform(corners_of(size), np.linalg.inv(matrix))[0]
            past = np.maximum(-seen, seen - (width - 1, height - 1)).max()
            beyond = max(beyond, past + LANCZOS)
    return math.ceil(beyond)


def _quantise(image: np.ndarray, dtype: type) -> np.ndarray:
    """Quantise values in [0, 1]."""
    limit = np.iinfo(dtype).max
    return np.rint(np.clip(image, 0, 1) * np.float32(limit)).astype(dtype)
