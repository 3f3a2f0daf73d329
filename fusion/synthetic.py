"""Generated focus stacks with exact ground truth: K depth layers, any number of frames.

A scene is K layers, each a picture with a matte over the next, the farthest opaque. Frame i is
focused at depth fᵢ between 0 (the nearest layer) and K − 1; layer k is blurred by a disk of radius
``spread`` · |k − fᵢ|, by the α-matte model (:mod:`defocus.models`) in linear light. Each layer is
in focus in one frame, so the truth is what a perfect fusion can reach, but for the FDB.

Pictures are mosaics of photographs at their own resolution, so that a stack of 12 megapixels is as
sharp as a small one. Frames are rendered when they are asked for, tile by tile.
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
from fusion.windows import Window, squares

SAMPLES = Path(__file__).parents[1] / "data/samples"
TILE = 768  # pixels: side of what is rendered at once
COVERAGE = 0.4  # most of the frame that the matte of one layer covers, so that all layers are seen
ATTEMPTS = 8
HALO = 20  # pixels from a depth edge within which errors are halos

LANCZOS = 4  # pixels: reach of the interpolation

Size = tuple[int, int]


@dataclass(frozen=True)
class Motion:
    """Greatest motion of a frame against the reference: pixels, degrees, relative."""

    shift: float = 20.0
    rotation: float = 1.0
    scale: float = 0.03


@dataclass(frozen=True)
class SyntheticStack:
    """A stack with its ground truth; H×W is the size of each frame.

    Attributes:
        frames: N frames (H, W, 3) uint8 or uint16, each rendered anew at each access.
        truth: (H, W, 3) of the same type: all in focus, as the reference frame sees it.
        depth: (H, W) uint8, the layer that contributes most to a pixel, 0 the nearest.
        band: (H, W) bool, the FDB: no frame is right there.
        focus: (N,) the depth at which each frame is focused.
        matrices: N of 3×3, from pixels (x, y, 1) of the reference to pixels of the frame.
        gains: (N, 3) factors on R, G, B that the frame's values have against the reference's.
    """

    frames: Sequence[np.ndarray]
    truth: np.ndarray
    depth: np.ndarray
    band: np.ndarray
    focus: np.ndarray
    matrices: list[np.ndarray]
    gains: np.ndarray

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
        seed: of all that is random.
        size: (H, W) of the frames.
        layers: K ≥ 2.
        frames: N ≥ K. Each layer is in focus in one frame; the others are focused in between.
        photographs: for the layers' pictures; by default those of ``data/samples``.
        mattes: kinds of :data:`defocus.mattes.KINDS`, all by default.
        spread: radius in pixels of the circle of confusion of a layer next to the one in focus.
        motion: greatest motion of the frames; None keeps them still. The reference, frame N // 2,
            always is.
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
    psfs = [[_disk(spread * abs(k - depth)) for k in range(layers)] for depth in focus]
    inside = (slice(border, border + size[0]), slice(border, border + size[1]))
    return SyntheticStack(
        Frames(scene, psfs, inside, matrices, gains, noise, dtype, seed),
        _stored(scene.photograph([None] * layers)[inside], dtype),
        scene.depth()[inside],
        scene.band(psfs)[inside],
        focus,
        matrices,
        gains,
    )


@dataclass(frozen=True)
class Scene:
    """K layers on a canvas larger than what is rendered by ``reach`` at each border.

    Attributes:
        colors: K pictures (H, W, 3) uint8 sRGB, nearest first.
        mattes: K − 1 mattes (H, W) uint8; the farthest layer is opaque.
        reach: of the largest PSF, pixels.
    """

    colors: list[np.ndarray]
    mattes: list[np.ndarray]
    reach: int

    @property
    def size(self) -> Size:
        """(h, w) of what is rendered."""
        height, width = self.colors[0].shape[:2]
        return height - 2 * self.reach, width - 2 * self.reach

    def photograph(self, psfs: Sequence[Tensor | None]) -> np.ndarray:
        """Through K PSFs, None for a layer in focus: (h, w, 3) float32 sRGB in [0, 1]."""
        image = np.empty((*self.size, 3), np.float32)
        for tile, seen in self._tiles():
            layers, mattes = self._visible(seen)
            linear = [cv2.LUT(self.colors[k][seen], LINEAR) for k in layers]
            colors = [torch.from_numpy(color).permute(2, 0, 1) for color in linear]
            light = layers_in_focus(colors, mattes, [psfs[k] for k in layers])
            image[tile] = to_srgb(psf.crop(light, self.reach)).permute(1, 2, 0).numpy()
        return image

    def band(self, photographs: Sequence[Sequence[Tensor | None]]) -> np.ndarray:
        """(h, w) bool: where none of the photographs, each given by its K PSFs, is right."""
        band = np.zeros(self.size, bool)
        focused = [psfs for psfs in photographs if None in psfs]  # others are right nowhere
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
        """Tiles of the rendering, and the window of the canvas that each needs."""
        height, width = self.size
        for tile in squares((slice(0, height), slice(0, width)), TILE):
            yield tile, tuple(slice(s.start, s.stop + 2 * self.reach) for s in tile)

    def _visible(self, seen: Window) -> tuple[list[int], list[Tensor]]:
        """The layers that can be seen in a window, and the mattes of all but the farthest, which
        is opaque there."""
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
    """The photographs of a scene, each rendered on demand.

    Attributes:
        scene: on a canvas with room for the motions.
        psfs: N lists of K.
        inside: what the reference shows of the rendered scene.
        matrices, gains: as in :class:`SyntheticStack`.
        noise, dtype, seed: as in :func:`stack`.
    """

    scene: Scene
    psfs: list[list[Tensor | None]]
    inside: Window
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
            place = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]], np.float64)
            size = (columns.stop - columns.start, rows.stop - rows.start)
            matrix = place @ np.linalg.inv(self.matrices[i])
            flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
            image = cv2.warpPerspective(image, matrix, size, flags=flags)
        image = image * self.gains[i].astype(np.float32)
        if self.noise:
            planes = torch.from_numpy(image).permute(2, 0, 1)
            rng = np.random.default_rng([self.seed, i])
            noisy = camera.add_noise(planes, self.noise, shot=0.5, rng=rng)
            image = noisy.permute(1, 2, 0).numpy()
        return _stored(image, self.dtype)


LINEAR = to_linear(torch.arange(256, dtype=torch.float32) / 255).numpy()


def _mosaic(photographs: Photographs, size: Size, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 of square parts of photographs at their own resolution."""
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
    """(H, W) uint8 that leaves most of the layers behind it to be seen."""
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
    turn = np.radians(rng.uniform(-motion.rotation, motion.rotation))
    scale = 1 + rng.uniform(-motion.scale, motion.scale)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = length * np.array([np.cos(direction), np.sin(direction)])
    return np.vstack([np.column_stack([linear, middle + shift - linear @ middle]), [0, 0, 1]])


def _border(matrices: Sequence[np.ndarray], size: Size) -> int:
    """How far frames look beyond the reference, pixels; 0 if none moves."""
    height, width = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    beyond = 0.0
    for matrix in matrices:
        if not np.array_equal(matrix, np.eye(3)):
            seen = cv2.perspectiveTransform(corners[None], np.linalg.inv(matrix))[0]
            past = np.maximum(-seen, seen - (width - 1, height - 1)).max()
            beyond = max(beyond, past + LANCZOS)
    return math.ceil(beyond)


def _disk(radius: float) -> Tensor | None:
    return psf.disk(radius) if radius else None


def _stored(image: np.ndarray, dtype: type) -> np.ndarray:
    """Quantise values in [0, 1] as a file does."""
    limit = np.iinfo(dtype).max
    return np.rint(np.clip(image, 0, 1) * np.float32(limit)).astype(dtype)
