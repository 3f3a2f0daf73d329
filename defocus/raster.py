"""Drawing mattes: shapes are filled on a larger canvas, whose area average is the matte.

Points are (x, y) in pixels of the matte, pixel (0, 0) covering [0, 1) × [0, 1).
"""

from collections.abc import Sequence

import cv2
import numpy as np

Size = tuple[int, int]  # (H, W) in pixels
Outlines = np.ndarray | Sequence[np.ndarray]  # (N, P, 2) or [(P, 2)]

SCALE = 4  # supersampling: α in steps of 1/16
FRACTION_BITS = 4  # of a canvas pixel, in the fixed-point coordinates that OpenCV draws with


class Canvas:
    """A matte of ``size`` (H, W) in the making, empty at first."""

    def __init__(self, size: Size):
        self.pixels = np.zeros((size[0] * SCALE, size[1] * SCALE), np.uint8)

    def fill(self, outlines: Outlines) -> None:
        """Fill the union of polygons."""
        for outline in _fixed_point(outlines):
            cv2.fillPoly(self.pixels, (outline,), 255, cv2.LINE_8, FRACTION_BITS)

    def fill_even_odd(self, outlines: Outlines, value: int = 255) -> None:
        """Fill where an odd number of polygons overlap; one call, fast for many."""
        cv2.fillPoly(self.pixels, _fixed_point(outlines), value, cv2.LINE_8, FRACTION_BITS)

    def matte(self) -> np.ndarray:
        """Coverage of each pixel, float32 (H, W) in [0, 1]."""
        height, width = self.pixels.shape
        # Halving twice is what OpenCV vectorises: 8 times faster than one step by 4.
        half = cv2.resize(self.pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        small = cv2.resize(half, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) / np.float32(255)


def filled(size: Size, *groups: Outlines) -> np.ndarray:
    """The matte (H, W) of the union of all polygons."""
    canvas = Canvas(size)
    for outlines in groups:
        canvas.fill(outlines)
    return canvas.matte()


def smooth_noise(size: Size, rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise (H, W), float32 in [−1, 1], with ``cells`` cells along the longer side."""
    height, width = size
    shape = [max(2, round(cells * side / max(size))) for side in (height, width)]
    coarse = rng.uniform(-1, 1, shape).astype(np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), -1, 1)


def _fixed_point(outlines: Outlines) -> list[np.ndarray]:
    if not isinstance(outlines, np.ndarray):
        return [_fixed_point(outline[None])[0] for outline in outlines]
    return list(np.rint((outlines * SCALE - 0.5) * (1 << FRACTION_BITS)).astype(np.int32))
