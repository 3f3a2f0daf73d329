"""A thin lens, and rays through it, compiled: the light along one, the mean of a pixel."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from benchmarks.raytracing import COMPILED
from benchmarks.raytracing.surfaces import NEVER, meet
from benchmarks.raytracing.textures import alpha_at, color_at

TILE = 16  # px; surfaces that no ray of a tile can meet are not tried
BATCH = 16  # rays
UNIT = 2.0**-32  # of the whole numbers that points of the pixel and of the lens are kept as


class Lens(NamedTuple):
    """A camera for one photograph."""

    focal: float  # distance of the sensor in pixels; breathing changes it
    radius: float  # of the aperture in scene units, with blades to its corners; 0 is a pinhole
    focus: float  # depth z in focus
    blades: int = 0  # of the aperture; 0 is round
    rotation: float = 0.0  # of a bladed aperture, radians
    shift: tuple[float, float] = (0.0, 0.0)  # (x, y) of the image in pixels: a turn of the camera
    centre: tuple[float, float] = (0.0, 0.0)  # (x, y) of the lens in scene units: with parallax

    def blur(self, depth: float) -> float:
        """Radius of the circle of confusion in pixels: f·R·|1/z − 1/z_focus|, by similar triangles
        (rays from a point fill the aperture and cross the plane in focus)."""
        return abs(self.focal * self.radius / depth - self.focal * self.radius / self.focus)


@njit(**COMPILED)
def aperture(u: float, v: float, blades: int, rotation: float) -> tuple[float, float]:
    """A point of an aperture of radius 1 from two numbers in [0, 1): areas are kept.

    Round: concentric map of Shirley and Chiu (1997), which keeps strata compact.
    """
    if blades > 0:
        corner = math.floor(u * blades)
        along, out = u * blades - corner, math.sqrt(v)
        step = 2 * math.pi / blades
        # Normals of the sides are at `rotation` + k·step, as in defocus.psf.polygon.
        one = rotation + (corner - 0.5) * step
        two = one + step
        x = out * ((1 - along) * math.cos(one) + along * math.cos(two))
        y = out * ((1 - along) * math.sin(one) + along * math.sin(two))
        return x, y
    a, b = 2 * u - 1, 2 * v - 1
    if a == 0 and b == 0:
        return 0.0, 0.0
    if abs(a) > abs(b):
        return a * math.cos(math.pi / 4 * b / a), a * math.sin(math.pi / 4 * b / a)
    turn = math.pi / 2 - math.pi / 4 * a / b
    return b * math.cos(turn), b * math.sin(turn)


@njit(**COMPILED)
def _along(world, members, ox, oy, dx, dy, most, shaded, hits, out):
    """Follow a ray from (ox, oy, 0) along (dx, dy, 1), so that t is depth z, to a depth ``most``;
    the share of the light that gets through.

    Args:
        members: numbers of the surfaces to try.
        shaded: whether colours are wanted, or only what gets through.
        hits: (cards with mattes + 2, 8), to work in.
        out: (4,), given the colour and the depth at which half of the light is stopped.
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
        for i in range(5):
            hits[place, 3 + i] = at[i]
    through, out[0], out[1], out[2], out[3] = 1.0, 0.0, 0.0, 0.0, most
    color = hits[last, 0:3]
    for _ in range(count + (solid >= 0)):
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


@njit(**COMPILED)
def _slope(light):
    """Slope of the sRGB curve at some linear light; 0 where that is clipped."""
    if light > 1.2:
        return 0.0
    return 12.92 if light < 0.0031308 else 0.43958 * light ** (-0.58333)


def workspace(world) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays for the functions below to work in, each thread in its own."""
    mattes = (world[1][:, 2] >= 0).sum()
    return np.empty((mattes + 2, 8)), np.empty(4), np.empty((3, 3))


@njit(**COMPILED)
def trace_strip(
    world, camera, starts, lists, points, shifts, top, tolerance, least, most, image, work
):
    """Write the light of each pixel of a strip that begins at row ``top`` into ``image`` (h, W, 3).

    A pixel is the mean of ``least`` rays, doubled until its standard error in sRGB is below
    ``tolerance``, but of no more than ``most``. All pixels use the same ``points`` (N, 4) of pixel
    and lens, each with its own exclusive or from ``shifts`` (h, W, 4).
    """
    focal, radius, focus, blades, rotation, middle_x, middle_y, lens_x, lens_y = camera
    hits, out, (mean, total, squares) = work
    height, width = image.shape[:2]
    columns = (width + TILE - 1) // TILE
    for y in range(height):
        for x in range(width):
            tile = top // TILE * columns + x // TILE
            members = lists[starts[tile] : starts[tile + 1]]
            for c in range(3):
                total[c] = squares[c] = 0.0
            done, check = 0, least
            while done < most:
                for c in range(3):
                    mean[c] = 0.0
                for k in range(done, done + BATCH):
                    px = x + UNIT * (points[k, 0] ^ shifts[y, x, 0])
                    py = top + y + UNIT * (points[k, 1] ^ shifts[y, x, 1])
                    u = UNIT * (points[k, 2] ^ shifts[y, x, 2])
                    v = UNIT * (points[k, 3] ^ shifts[y, x, 3])
                    u, v = aperture(u, v, int(blades), rotation)
                    u, v = radius * u, radius * v
                    dx = (px - middle_x) / focal - u / focus
                    dy = (py - middle_y) / focal - v / focus
                    ox, oy = u + lens_x, v + lens_y
                    _along(world, members, ox, oy, dx, dy, NEVER, True, hits, out)
                    for c in range(3):
                        mean[c] += out[c] / BATCH
                for c in range(3):
                    total[c] += mean[c]
                    squares[c] += mean[c] * mean[c]
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
            for c in range(3):
                image[y, x, c] = total[c] * BATCH / done


@njit(**COMPILED)
def trace_depths(world, camera, starts, lists, depth, work):
    """Write the depth seen at the middle of each pixel into ``depth`` (H, W)."""
    focal, _, _, _, _, middle_x, middle_y, _, _ = camera
    hits, out, _ = work
    height, width = depth.shape
    columns = (width + TILE - 1) // TILE
    for y in range(height):
        for x in range(width):
            tile = y // TILE * columns + x // TILE
            members = lists[starts[tile] : starts[tile + 1]]
            dx, dy = (x + 0.5 - middle_x) / focal, (y + 0.5 - middle_y) / focal
            _along(world, members, 0.0, 0.0, dx, dy, NEVER, False, hits, out)
            depth[y, x] = out[3]


@njit(**COMPILED)
def emit(world, camera, starts, lists, emitter, spot, points, image, work):
    """Add the light of a disk (x, y, z, radius, red, green, blue) that faces the camera and has a
    radius of ``spot`` pixels in focus."""
    focal, radius, focus, blades, rotation, middle_x, middle_y, lens_x, lens_y = camera
    hits, out, _ = work
    height, width = image.shape[:2]
    columns = (width + TILE - 1) // TILE
    z, share = emitter[2], math.pi * spot * spot / len(points)
    for k in range(len(points)):
        a, b = aperture(UNIT * points[k, 0], UNIT * points[k, 1], 0, 0.0)
        u, v = aperture(UNIT * points[k, 2], UNIT * points[k, 3], int(blades), rotation)
        u, v = radius * u, radius * v
        ox, oy = u + lens_x, v + lens_y
        dx = (emitter[0] + emitter[3] * a - ox) / z
        dy = (emitter[1] + emitter[3] * b - oy) / z
        x = int(math.floor(focal * (dx + u / focus) + middle_x))
        y = int(math.floor(focal * (dy + v / focus) + middle_y))
        if not (0 <= x < width and 0 <= y < height):
            continue
        tile = y // TILE * columns + x // TILE
        members = lists[starts[tile] : starts[tile + 1]]
        through = _along(world, members, ox, oy, dx, dy, z * 0.9999, False, hits, out)
        for c in range(3):
            image[y, x, c] += share * through * emitter[4 + c]
