"""Separable windows as Matlab's ``filter2`` applies them."""

import cv2
import numpy as np


def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """1-D Gaussian of ``size`` taps with unit sum; its outer square is Matlab's ``fspecial``."""
    x = np.arange(size) - (size - 1) / 2
    taps = np.exp(-(x**2) / (2 * sigma**2))
    return tuple(taps / taps.sum())


BOX_8 = (1 / 8,) * 8
GAUSSIAN_7 = gaussian(7, 1.5)
GAUSSIAN_11 = gaussian(11, 1.5)


def smooth(image: np.ndarray, taps: tuple[float, ...]) -> np.ndarray:
    """Weighted mean around every pixel, (H, W), zeros beyond the border (``'same'``)."""
    kernel = np.asarray(taps)
    return cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)


def windowed(image: np.ndarray, taps: tuple[float, ...]) -> np.ndarray:
    """Weighted mean in every window inside the image, (H−n+1, W−n+1) for n taps (``'valid'``)."""
    inside = slice(len(taps) // 2, -((len(taps) - 1) // 2))
    return smooth(image, taps)[inside, inside]
