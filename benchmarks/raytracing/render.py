"""Photographs of a scene: rays from each pixel through the lens, and light from small emitters.

A pixel is the mean of the light that reaches its square through the whole aperture. Rays are traced
in batches until the mean is known to a tolerance. Small lights much brighter than white, which rays
from the camera rarely meet, send rays of their own, through the same lens and past the same
surfaces; their light is added to the pixels that it reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import qmc

from benchmarks.raytracing.lens import Lens
from benchmarks.raytracing.rays import TILE, UNIT, emit, trace_depths, trace_strip
from benchmarks.raytracing.scene import Scene
from benchmarks.raytracing.textures import light_of_values
from defocus.color import to_srgb
from utils.process import cores

EMITTED = 600  # rays of an emitter for each pixel that it lights, at least


class Quality(NamedTuple):
    """When a pixel is good enough."""

    tolerance: float = 1.2 / 255  # estimated standard error in sRGB, of 1
    least: int = 64  # rays a pixel, a power of 2; an error can be estimated from 32 on
    most: int = 512  # rays a pixel, a power of 2


PHOTOGRAPH, TRUTH = Quality(), Quality(0.8 / 255, 64, 512)


def render(
    scene: Scene,
    lens: Lens,
    size: tuple[int, int],
    seed: int,
    quality: Quality = PHOTOGRAPH,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph in linear light, and the number of rays of each pixel.

    Args:
        size: (H, W) in pixels.
        seed: of the rays; equal seeds give equal pixels with any number of threads.
        progress: called with numbers of finished pixels.

    Returns:
        (H, W, 3) float32, 1 is white, and (H, W) int32.
    """
    image, rays = np.zeros((*size, 3), np.float32), np.zeros(size, np.int32)
    world, camera, tiles = pack(scene), _camera(lens, size), _tiles(scene, lens, size)
    points = _points(quality.most, seed)

    def strip(top: int) -> None:
        here = slice(top, min(top + TILE, size[0]))
        rng = np.random.default_rng((seed, top))
        shifts = rng.integers(2**32, size=(*rays[here].shape, 4), dtype=np.uint32)
        trace_strip(world, camera, *tiles, points, shifts, top, *quality, image[here], rays[here])
        if progress:
            progress(rays[here].size)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(strip, range(0, size[0], TILE)))
    for number, emitter in enumerate(scene.emitters):
        spot = lens.focal * emitter[3] / emitter[2]
        area = math.pi * (spot + lens.blur(emitter[2]) + 1) ** 2
        points = _points(EMITTED * area, (seed, size[0], number))
        emit(world, camera, *tiles, emitter, spot, points, image)
    return image, rays


def depths(scene: Scene, focal: float, size: tuple[int, int]) -> np.ndarray:
    """Depth z (H, W) float32 at the middle of each pixel through a pinhole; behind transparent
    surfaces, where half of the light is stopped."""
    lens = Lens(focal, 0.0, 1.0)
    depth = np.zeros(size, np.float32)
    trace_depths(pack(scene), _camera(lens, size), *_tiles(scene, lens, size), depth)
    return depth


def eight_bit(light: np.ndarray) -> np.ndarray:
    """Linear light to uint8 sRGB, clipped at white."""
    return (to_srgb(torch.from_numpy(light)) * 255).round().byte().numpy()


def pack(scene: Scene) -> tuple:
    """A scene as arrays, for compiled code."""
    sun = np.append(scene.sun / np.linalg.norm(scene.sun), scene.ambient)
    return (
        *scene.surfaces.packed(),
        *scene.textures.packed(),
        light_of_values() if scene.light is None else scene.light,
        sun,
    )


def _points(count: float, seed: int | tuple[int, ...]) -> np.ndarray:
    """At least ``count`` points (N, 4) uint32 that fill four dimensions evenly: a Sobol sequence
    with Owen scrambling. So do each 16 from a multiple of 16, and all after an exclusive or with
    the same bits."""
    sobol = qmc.Sobol(4, bits=32, seed=np.random.default_rng(seed))
    return (sobol.random_base2(math.ceil(math.log2(count))) / UNIT).astype(np.uint32)


def _camera(lens: Lens, size: tuple[int, int]) -> np.ndarray:
    middle = (size[1] / 2 + lens.shift[0], size[0] / 2 + lens.shift[1])
    aperture = (lens.radius, lens.focus, lens.blades, lens.rotation)
    return np.array((lens.focal, *aperture, *middle, *lens.centre), np.float64)


def _tiles(scene: Scene, lens: Lens, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """For each tile, row by row, the surfaces that its rays can meet: where each list starts, and
    all lists. The corners of a box bound its image, and its range of depth its blur."""
    rows, columns = (math.ceil(length / TILE) for length in size)
    lists = [[] for _ in range(rows * columns)]
    middle = np.array((size[1] / 2, size[0] / 2)) + lens.shift
    for number, box in enumerate(scene.surfaces.boxes()):
        low, high = np.zeros(2, int), np.array((columns - 1, rows - 1))
        if np.isfinite(box).all() and box[0, 2] > 1e-3:
            across = (box[:, None, :2] - lens.centre) / box[None, :, 2:]
            ends = lens.focal * across.reshape(-1, 2) + middle
            reach = max(lens.blur(depth) for depth in box[:, 2]) + 1
            low = np.maximum(low, np.floor((ends.min(0) - reach) / TILE).astype(int))
            high = np.minimum(high, np.floor((ends.max(0) + reach) / TILE).astype(int))
        elif box[1, 2] <= 0:
            continue
        for row in range(low[1], high[1] + 1):
            for column in range(low[0], high[0] + 1):
                lists[row * columns + column].append(number)
    starts = np.cumsum([0, *map(len, lists)])
    return starts, np.array([number for members in lists for number in members], np.int64)
