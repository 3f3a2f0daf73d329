"""A thin lens: where rays start, and how wide a point out of focus becomes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numba import njit


@dataclass(frozen=True)
class Lens:
    """A camera for one photograph.

    Attributes:
        focal: distance of the sensor in pixels; breathing changes it from photograph to photograph.
        radius: of the aperture in scene units (a bladed one: to its corners); 0 is a pinhole.
        focus: depth z that is sharp.
        blades: of the aperture; 0 is round.
        rotation: of a bladed aperture in radians.
        shift: (x, y) in pixels that the picture moves: the hand turns the camera.
        centre: (x, y) of the lens in scene units: the hand moves it, with its parallax.
    """

    focal: float
    radius: float
    focus: float
    blades: int = 0
    rotation: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    centre: tuple[float, float] = (0.0, 0.0)

    def disparity(self, depth: float) -> float:
        """Radius of the circle of confusion, in pixels, at this depth if infinity were sharp.

        Between two depths the radius is the difference of their disparities.
        """
        return self.focal * self.radius / depth

    def blur(self, depth: float) -> float:
        """Radius of the circle of confusion in pixels: f·R·|1/z − 1/z_focus| (similar triangles:
        the rays from a point fill the aperture and cross the plane in focus)."""
        return abs(self.disparity(depth) - self.disparity(self.focus))


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
