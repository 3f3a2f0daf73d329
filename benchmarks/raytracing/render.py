"""Photographs of a scene: rays from each pixel through the lens, and light from small emitters.

A pixel is the mean of the light that reaches its square through the whole aperture, known to a
tolerance. Small lights much brighter than white, which rays from the camera rarely meet, send rays
of their own, through the same lens and past the same surfaces.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import qmc

from benchmarks.raytracing.cache import FORMAT, SCALE, Stack
from benchmarks.raytracing.rays import TILE, UNIT, Lens, emit, trace_depths, trace_strip, workspace
from benchmarks.raytracing.scene import WIDE, Scene, Table
from defocus.color import to_srgb
from utils.images import write_png
from utils.process import cores

SEEN = (0.1, 99.9)  # percentiles of the depth that the photographs are focused between
EMITTED = 600  # rays of an emitter for each pixel that it lights, at least


class Quality(NamedTuple):
    """When a pixel is good enough."""

    tolerance: float = 1.2 / 255  # estimated standard error in sRGB, of 1
    least: int = 64  # rays a pixel, a power of 2; an error can be estimated from 32 on
    most: int = 512  # rays a pixel, a power of 2


PHOTOGRAPH, TRUTH = Quality(), Quality(0.8 / 255, 64, 512)
# Of more than a megapixel: in equal areas of the picture less noise still than in a small one.
LARGE = Quality(2 / 255, 32, 256)


def photograph(
    stack: Stack, pictures: Sequence[np.ndarray], progress: Callable[[int], object]
) -> None:
    """Render and write the missing files of a stack; see :func:`render` for ``progress``."""
    size, seed = stack.kind.size, (FORMAT, round(float(stack.kind.name) * 10), stack.seed)
    scene, focal = Table(seed, size, pictures).scene, WIDE * size[1]
    depth = depths(scene, focal, size)
    lenses = [Lens(focal, 0.0, 1.0), *_lenses(stack, depth, focal, seed)]
    if not stack.disparity.exists():
        disparity = focal * lenses[1].radius / depth * SCALE
        write_png(stack.disparity, np.clip(disparity, 0, 65535).astype(np.uint16))
        progress(depth.size)
    usual = PHOTOGRAPH if math.prod(size) <= 1e6 else LARGE
    for number, path in enumerate((stack.truth, *stack.frames)):
        if not path.exists():
            quality = usual if number else TRUTH
            light = render(scene, lenses[number], size, number, quality, progress)
            srgb = to_srgb(torch.from_numpy(light))  # clipped at white
            write_png(path, (srgb * 255).round().byte().numpy())


def _lenses(stack: Stack, depth: np.ndarray, focal: float, seed: tuple[int, ...]) -> list[Lens]:
    """One for each photograph, focused from near to far at equal steps of blur, so that every
    depth is nearly in focus in one of them; the aperture sets the width of the steps."""
    rng, kind, motion = np.random.default_rng((*seed, 1)), stack.kind, stack.motion
    far, near = np.percentile(1 / depth, SEEN)
    radius = rng.uniform(*kind.steps) * (kind.frames - 1) / (focal * (near - far))
    blades, rotation = int(rng.choice((0, 0, 5, 6, 7, 9))), rng.uniform(0, 2 * math.pi)
    middle, depth = kind.frames // 2, 2 / (near + far)
    lenses = []
    for number, focus in enumerate(1 / np.linspace(near, far, kind.frames)):
        away = (number - middle) / (kind.frames - 1)
        shake = rng.normal(0, motion.shake * kind.size[1] / 720 / math.sqrt(2), (2, 2))
        turn, move = shake if number != middle else np.zeros((2, 2))
        hand = tuple(turn), tuple(move / 2 * depth / focal)
        length = focal * (1 + motion.breathing * away)
        lenses.append(Lens(length, radius, focus, blades, rotation, *hand))
    return lenses


def render(
    scene: Scene,
    lens: Lens,
    size: tuple[int, int],
    seed: int,
    quality: Quality,
    progress: Callable[[int], object] = lambda pixels: None,
) -> np.ndarray:
    """A photograph in linear light: (H, W, 3) float32 of a size in pixels, 1 is white. Equal seeds
    give equal pixels with any number of threads; ``progress`` gets numbers of finished pixels."""
    image = np.zeros((*size, 3), np.float32)
    world, camera, tiles = scene.packed(), _camera(lens, size), _tiles(scene, lens, size)
    points = _points(quality.most, seed)

    def strip(top: int) -> None:
        here = image[top : top + TILE]
        rng = np.random.default_rng((seed, top))
        shifts = rng.integers(2**32, size=(*here.shape[:2], 4), dtype=np.uint32)
        trace_strip(world, camera, *tiles, points, shifts, top, *quality, here, workspace(world))
        progress(here.size // 3)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(strip, range(0, size[0], TILE)))
    for number, emitter in enumerate(scene.emitters):
        spot = lens.focal * emitter[3] / emitter[2]
        area = math.pi * (spot + lens.blur(emitter[2]) + 1) ** 2
        points = _points(EMITTED * area, (seed, size[0], number))
        emit(world, camera, *tiles, emitter, spot, points, image, workspace(world))
    return image


def depths(scene: Scene, focal: float, size: tuple[int, int]) -> np.ndarray:
    """Depth z (H, W) float32 at the middle of each pixel through a pinhole; behind transparent
    surfaces, where half of the light is stopped."""
    lens = Lens(focal, 0.0, 1.0)
    depth = np.zeros(size, np.float32)
    world, camera, tiles = scene.packed(), _camera(lens, size), _tiles(scene, lens, size)
    trace_depths(world, camera, *tiles, depth, workspace(world))
    return depth


def _points(count: float, seed: int | tuple[int, ...]) -> np.ndarray:
    """At least ``count`` points (N, 4) uint32 that fill four dimensions evenly: a Sobol sequence
    with Owen scrambling. Each batch of 16 is itself even, and an exclusive or with the same bits
    for all keeps them so."""
    sobol = qmc.Sobol(4, bits=32, seed=np.random.default_rng(seed))
    return (sobol.random_base2(math.ceil(math.log2(count))) / UNIT).astype(np.uint32)


def _camera(lens: Lens, size: tuple[int, int]) -> np.ndarray:
    """For compiled code: the lens, with the middle of its image instead of the shift."""
    middle = (size[1] / 2 + lens.shift[0], size[0] / 2 + lens.shift[1])
    return np.array((*lens[:5], *middle, *lens.centre), np.float64)


def _tiles(scene: Scene, lens: Lens, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """For each tile, row by row, the surfaces that its rays can meet: where each list starts, and
    all lists. The corners of a box bound its image, and its range of depth its blur."""
    rows, columns = (math.ceil(length / TILE) for length in size)
    lists = [[] for _ in range(rows * columns)]
    middle = np.array((size[1] / 2, size[0] / 2)) + lens.shift
    for number, box in enumerate(scene.boxes()):
        low, high = np.zeros(2, int), np.array((columns - 1, rows - 1))
        if np.isfinite(box).all() and box[0, 2] > 1e-3:
            across = (box[:, None, :2] - lens.centre) / box[None, :, 2:]
            ends = lens.focal * across.reshape(-1, 2) + middle
            reach = max(lens.blur(depth) for depth in box[:, 2]) + 1
            low = np.maximum(low, np.floor((ends.min(0) - reach) / TILE).astype(int))
            high = np.minimum(high, np.floor((ends.max(0) + reach) / TILE).astype(int))
        elif box[1, 2] <= 0:
            continue
        for row, column in product(*map(range, low[::-1], high[::-1] + 1)):
            lists[row * columns + column].append(number)
    starts = np.cumsum([0, *map(len, lists)])
    return starts, np.array([number for members in lists for number in members], np.int64)
