"""Photographs of a scene: rays from each pixel through the lens, and light from small emitters.

A pixel is the mean of the light that arrives on its square through the whole aperture. Rays are
traced in batches until the mean is known to a tolerance. Small things much brighter than white,
which rays from the camera rarely meet, send rays of their own instead, through the same lens and
past the same surfaces; what arrives is added to the pixel where it does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from scipy.stats import qmc

from benchmarks.raytracing.lens import Lens, aperture
from benchmarks.raytracing.scene import Scene
from benchmarks.raytracing.surfaces import NEVER, meet
from benchmarks.raytracing.textures import alpha_at, color_at, light_of_values
from defocus.color import to_srgb

TILE = 16  # px; surfaces that no ray of a tile can meet are not tried
BATCH = 16  # rays
UNIT = 2.0**-32  # of the whole numbers that points are kept as
EMITTED = 600  # rays of an emitter for each pixel that it lights, at least


class Quality(NamedTuple):
    """When a pixel is good enough.

    Attributes:
        tolerance: estimated standard error in sRGB, of 1.
        least, most: rays a pixel.
    """

    tolerance: float = 1.2 / 255
    least: int = 64
    most: int = 1024


PHOTOGRAPH, TRUTH = Quality(), Quality(0.8 / 255, 64, 512)


def render(
    scene: Scene,
    lens: Lens,
    size: tuple[int, int],
    seed: int,
    quality: Quality = PHOTOGRAPH,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph in linear light, and how many rays each of its pixels took.

    Args:
        size: (H, W) in pixels.
        seed: of the rays; equal seeds give equal pixels, however many threads there are.
        progress: called with the number of pixels that were done.

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
        _trace_strip(world, camera, *tiles, points, shifts, top, *quality, image[here], rays[here])
        if progress:
            progress(rays[here].size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(strip, range(0, size[0], TILE)))
    for number, emitter in enumerate(scene.emitters):
        spot = lens.focal * emitter[3] / emitter[2]
        area = math.pi * (spot + lens.blur(emitter[2]) + 1) ** 2
        points = _points(EMITTED * area, (seed, size[0], number))
        _emit(world, camera, *tiles, emitter, spot, points, image)
    return image, rays


def depths(scene: Scene, focal: float, size: tuple[int, int]) -> np.ndarray:
    """Depth z (H, W) float32 of what the middle of each pixel shows through a pinhole; of what is
    transparent, where half of the light is stopped."""
    lens = Lens(focal, 0.0, 1.0)
    depth = np.zeros(size, np.float32)
    _trace_depths(pack(scene), _camera(lens, size), *_tiles(scene, lens, size), depth)
    return depth


def eight_bit(light: np.ndarray) -> np.ndarray:
    """Linear light to uint8 sRGB; what is brighter than white is clipped."""
    return (to_srgb(torch.from_numpy(light)) * 255).round().byte().numpy()


def pack(scene: Scene) -> tuple:
    """What compiled code reads of a scene."""
    sun = np.append(scene.sun / np.linalg.norm(scene.sun), scene.ambient)
    return (
        *scene.surfaces.packed(),
        *scene.textures.packed(),
        light_of_values() if scene.light is None else scene.light,
        sun,
    )


def _points(count: float, seed: int | tuple[int, ...]) -> np.ndarray:
    """At least so many points (N, 4) uint32 that fill four dimensions evenly: Sobol's, scrambled
    as Owen has it. Any 16 that follow one another from a multiple of 16 do so too, and so do all
    of them after an exclusive or with the same bits."""
    sobol = qmc.Sobol(4, bits=32, seed=np.random.default_rng(seed))
    return (sobol.random_base2(math.ceil(math.log2(count))) / UNIT).astype(np.uint32)


def _camera(lens: Lens, size: tuple[int, int]) -> np.ndarray:
    middle = (size[1] / 2 + lens.shift[0], size[0] / 2 + lens.shift[1])
    aperture = (lens.radius, lens.focus, lens.blades, lens.rotation)
    return np.array((lens.focal, *aperture, *middle, *lens.centre), np.float64)


def _tiles(scene: Scene, lens: Lens, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """For each tile, row by row, the surfaces that its rays can meet: where each list starts, and
    all lists. A box's corners bound its picture, and its nearest and farthest depth its blur."""
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


@njit(nogil=True, cache=True, fastmath=True)
def _along(world, members, ox, oy, dx, dy, most, shaded, hits, out):
    """Follow a ray from (ox, oy, 0) along (dx, dy, 1), so that t is depth z.

    Args:
        members: numbers of the surfaces to try.
        most: depth at which the ray ends.
        shaded: whether colours are wanted, or only what gets through.
        hits: (cards with mattes + 2, 8), to work in.
        out: (4,), given the colour and the depth at which half of the light is stopped.
    Returns:
        The share of the light that gets through.
    """
    rows, kinds, colors, places, mattes, matte_places, light, sun = world
    count, solid, last = 0, -1, len(hits) - 1
    at = hits[last, 3:8]
    for number in members:
        t = meet(rows[number], kinds[number, 0], ox, oy, dx, dy, 1.0, most, at)
        if t >= most:
            continue
        alpha, matte = 1.0, kinds[number, 2]
        if matte >= 0:
            x, y = at[0] - rows[number, 15], at[1] - rows[number, 16]
            alpha = alpha_at(mattes, matte_places[matte], x, y)
            if alpha <= 0.0:
                continue
        place = count
        if alpha >= 1.0:
            most, solid, place = t, number, last - 1
        else:
            count += 1
        hits[place, 0], hits[place, 1], hits[place, 2] = t, alpha, number
        hits[place, 3:8] = at
    through, out[0], out[1], out[2], out[3] = 1.0, 0.0, 0.0, 0.0, most
    color = hits[last, 0:3]
    for k in range(count + (solid >= 0)):
        place, nearest = last - 1, most
        for i in range(count):
            if hits[i, 0] < nearest:
                place, nearest = i, hits[i, 0]
        if place == last - 1 and solid < 0 or nearest >= NEVER:
            break
        alpha, number = hits[place, 1], int(hits[place, 2])
        if shaded:
            color_at(colors, places[kinds[number, 1]], light, hits[place, 3], hits[place, 4], color)
            facing = hits[place, 5] * sun[0] + hits[place, 6] * sun[1] + hits[place, 7] * sun[2]
            if hits[place, 5] * dx + hits[place, 6] * dy + hits[place, 7] > 0:
                facing = -facing
            strength = through * alpha * (sun[3] + (1 - sun[3]) * max(0.0, 0.5 + 0.5 * facing))
            for c in range(3):
                out[c] += strength * rows[number, 17 + c] * color[c]
        if through > 0.5 >= through * (1 - alpha):
            out[3] = nearest
        through *= 1 - alpha
        if place == last - 1 or through < 1e-4:
            break
        hits[place, 0] = NEVER
    return through


@njit(nogil=True, cache=True, fastmath=True)
def _slope(light):
    """Of the sRGB curve; 0 where light is clipped."""
    if light > 1.2:
        return 0.0
    return 12.92 if light < 0.0031308 else 0.43958 * light ** (-0.58333)


@njit(nogil=True, cache=True, fastmath=True)
def _workspace(world):
    return np.empty(((world[1][:, 2] >= 0).sum() + 2, 8))


@njit(nogil=True, cache=True, fastmath=True)
def _trace_strip(
    world, camera, starts, lists, points, shifts, top, tolerance, least, most, image, rays
):
    focal, radius, focus, blades, rotation = camera[:5]
    hits, out = _workspace(world), np.empty(4)
    height, width = rays.shape
    columns = (width + TILE - 1) // TILE
    for y in range(height):
        for x in range(width):
            tile = top // TILE * columns + x // TILE
            members = lists[starts[tile] : starts[tile + 1]]
            total, squares = np.zeros(3), np.zeros(3)
            done, check = 0, least
            while done < most:
                mean = np.zeros(3)
                for k in range(done, done + BATCH):
                    px = x + UNIT * (points[k, 0] ^ shifts[y, x, 0])
                    py = top + y + UNIT * (points[k, 1] ^ shifts[y, x, 1])
                    u = UNIT * (points[k, 2] ^ shifts[y, x, 2])
                    v = UNIT * (points[k, 3] ^ shifts[y, x, 3])
                    u, v = aperture(u, v, int(blades), rotation)
                    u, v = radius * u, radius * v
                    dx = (px - camera[5]) / focal - u / focus
                    dy = (py - camera[6]) / focal - v / focus
                    u, v = u + camera[7], v + camera[8]
                    _along(world, members, u, v, dx, dy, NEVER, True, hits, out)
                    for c in range(3):
                        mean[c] += out[c] / BATCH
                total += mean
                squares += mean * mean
                done += BATCH
                if done == check:
                    check *= 2
                    n, error = done // BATCH, 0.0
                    for c in range(3):
                        m = total[c] / n
                        variance = max(0.0, squares[c] / n - m * m) / max(1, n - 1)
                        error += variance * _slope(m) ** 2 / 3
                    if error < tolerance**2:
                        break
            rays[y, x] = done
            for c in range(3):
                image[y, x, c] = total[c] * BATCH / done


@njit(nogil=True, cache=True, fastmath=True)
def _trace_depths(world, camera, starts, lists, depth):
    hits, out = _workspace(world), np.empty(4)
    height, width = depth.shape
    columns = (width + TILE - 1) // TILE
    for y in range(height):
        for x in range(width):
            tile = y // TILE * columns + x // TILE
            members = lists[starts[tile] : starts[tile + 1]]
            dx, dy = (x + 0.5 - camera[5]) / camera[0], (y + 0.5 - camera[6]) / camera[0]
            _along(world, members, 0.0, 0.0, dx, dy, NEVER, False, hits, out)
            depth[y, x] = out[3]


@njit(nogil=True, cache=True, fastmath=True)
def _emit(world, camera, starts, lists, emitter, spot, points, image):
    """Add the light of a disk (x, y, z, radius, red, green, blue) that faces the camera and has a
    radius of ``spot`` pixels in focus."""
    focal, radius, focus, blades, rotation = camera[:5]
    hits, out = _workspace(world), np.empty(4)
    height, width = image.shape[:2]
    columns = (width + TILE - 1) // TILE
    z, share = emitter[2], math.pi * spot * spot / len(points)
    for k in range(len(points)):
        a, b = aperture(UNIT * points[k, 0], UNIT * points[k, 1], 0, 0.0)
        u, v = aperture(UNIT * points[k, 2], UNIT * points[k, 3], int(blades), rotation)
        u, v = radius * u, radius * v
        ox, oy = u + camera[7], v + camera[8]
        dx = (emitter[0] + emitter[3] * a - ox) / z
        dy = (emitter[1] + emitter[3] * b - oy) / z
        x = int(math.floor(focal * (dx + u / focus) + camera[5]))
        y = int(math.floor(focal * (dy + v / focus) + camera[6]))
        if not (0 <= x < width and 0 <= y < height):
            continue
        tile = y // TILE * columns + x // TILE
        members = lists[starts[tile] : starts[tile + 1]]
        through = _along(world, members, ox, oy, dx, dy, z * 0.9999, False, hits, out)
        for c in range(3):
            image[y, x, c] += share * through * emitter[4 + c]
