"""Images at other resolutions."""

from __future__ import annotations

import cv2
import numpy as np


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """An image (H, W, …) with a long side of at most ``side`` pixels, a short one of at least 8."""
    scale = min(1.0, side / max(image.shape[:2]))
    height, width = (max(8, round(n * scale)) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def halve(image: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels, (⌈H/2⌉, ⌈W/2⌉, 3) of the same type."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        sides = 0, height % 2, 0, width % 2
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_REPLICATE)
    half = -(-width // 2), -(-height // 2)
    return cv2.resize(image, half, interpolation=cv2.INTER_AREA)


def double(image: np.ndarray) -> np.ndarray:
    """An image interpolated at twice its resolution."""
    return cv2.resize(image, None, fx=2, fy=2)


def double_planes(planes: np.ndarray) -> np.ndarray:
    """:func:`double` of planes (C, h, w)."""
    return np.stack([double(plane) for plane in planes])
