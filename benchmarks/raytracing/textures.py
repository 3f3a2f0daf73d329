"""Textures of surfaces: photographs in linear light, and mattes of cards."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numba import njit

from benchmarks.raytracing import COMPILED
from defocus.color import to_linear

BRIGHT = 0.8  # sRGB value above which a photograph counts as overexposed
EXPANSION = 3.0  # times white: light of its brightest pixels


def light_of_values() -> np.ndarray:
    """Linear light (256,) float32 of 8-bit sRGB values, with highlights expanded."""
    srgb = torch.arange(256) / 255
    over = ((srgb - BRIGHT) / (1 - BRIGHT)).clamp_min(0)
    return (to_linear(srgb) * (1 + (EXPANSION - 1) * over**2)).float().numpy()


def collage(
    photographs: Sequence[np.ndarray], size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) uint8: photographs scattered over a table at their own scale and any angle."""
    height, width = size
    side = min(min(photograph.shape[:2]) for photograph in photographs)
    steps = [np.arange(0, length + side, 0.62 * side) for length in (height, width)]
    centres = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 2)
    centres = centres + rng.uniform(-0.12, 0.12, centres.shape) * side
    first = photographs[rng.integers(len(photographs))]
    tiles = [math.ceil(length / part) for length, part in zip(size, first.shape, strict=False)]
    sheet = np.tile(first, (*tiles, 1))[:height, :width].copy()
    for y, x in rng.permutation(centres):
        photograph = photographs[rng.integers(len(photographs))]
        h, w = photograph.shape[:2]
        reach = math.hypot(h, w) / 2
        top, left = max(0, int(y - reach)), max(0, int(x - reach))
        bottom, right = min(height, int(y + reach) + 1), min(width, int(x + reach) + 1)
        if bottom <= top or right <= left:
            continue
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(0, 360), 1)
        matrix[:, 2] += (x - left - w / 2, y - top - h / 2)
        part = (right - left, bottom - top)
        moved = cv2.warpAffine(photograph, matrix, part, flags=cv2.INTER_CUBIC)
        inside = cv2.warpAffine(np.full((h, w), 255, np.uint8), matrix, part)[..., None] / 255.0
        here = sheet[top:bottom, left:right]
        here[:] = (inside * moved + (1 - inside) * here + 0.5).astype(np.uint8)
    return sheet


@njit(**COMPILED, inline="always")
def _mirror(i: int, length: int) -> int:
    """Index into a plane that is repeated for ever, each time mirrored."""
    if 0 <= i < length:  # mostly; divisions are slow
        return i
    i = i % (2 * length)
    return i if i < length else 2 * length - 1 - i


@njit(**COMPILED)
def color_at(colors, row, light, x, y, out):
    """Bilinear linear light at (x, y) texels, texel (0, 0) covering [0, 1)², into out (3,)."""
    x, y = x - 0.5, y - 0.5
    i, j = int(math.floor(y)), int(math.floor(x))
    a, b = y - i, x - j
    offset, height, width = row[0], row[1], row[2]
    top = offset + _mirror(i, height) * width
    bottom = offset + _mirror(i + 1, height) * width
    left, right = _mirror(j, width), _mirror(j + 1, width)
    for c in range(3):
        above = (1 - b) * light[colors[top + left, c]] + b * light[colors[top + right, c]]
        below = (1 - b) * light[colors[bottom + left, c]] + b * light[colors[bottom + right, c]]
        out[c] = (1 - a) * above + a * below


@njit(**COMPILED)
def alpha_at(mattes, row, x, y):
    """Bilinear α at (x, y) texels; nothing outside."""
    x, y = x - 0.5, y - 0.5
    i, j = int(math.floor(y)), int(math.floor(x))
    a, b = y - i, x - j
    offset, height, width = row[0], row[1], row[2]
    alpha = 0.0
    for k in range(2):
        for m in range(2):
            if 0 <= i + k < height and 0 <= j + m < width:
                weight = (a if k else 1 - a) * (b if m else 1 - b)
                alpha += weight * mattes[offset + (i + k) * width + j + m]
    return alpha
