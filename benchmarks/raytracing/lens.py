"""A thin lens: where rays start, and the circle of confusion."""

import math
from typing import NamedTuple

from numba import njit


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


@njit(nogil=True, cache=True, fastmath=True)
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
