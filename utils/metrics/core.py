"""What all metrics share: conversion to luma, windows, remembered results, the entry."""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from utils.errors import UserError

RGB2GRAY = (0.298936, 0.587043, 0.114021)  # as in Matlab's and Octave's rgb2gray
MEMORY_BYTES = 256 * 2**20
_memory: OrderedDict[tuple, tuple[object, int]] = OrderedDict()


def _digest(value: object) -> object:
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value)
        return value.shape, value.dtype.str, hashlib.blake2b(content, digest_size=16).digest()
    return value


def _freeze(value: object) -> int:
    """Make the arrays in ``value`` read-only and return their size in bytes."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
        return value.nbytes
    return sum(map(_freeze, value)) if isinstance(value, tuple) else 0


def shared(function: Callable) -> Callable:
    """Remember what a pure function of arrays returned, by the arrays' content.

    Metrics share gradients and phase congruency, fused images share sources. Results are
    read-only; beyond 256 MB the least recently used are dropped.
    """

    @functools.wraps(function)
    def wrapper(*arguments):
        key = (function, *map(_digest, arguments))
        if key not in _memory:
            result = function(*arguments)
            _memory[key] = (result, _freeze(result))
            while len(_memory) > 1 and sum(size for _, size in _memory.values()) > MEMORY_BYTES:
                _memory.popitem(last=False)
        _memory.move_to_end(key)
        return _memory[key][0]

    return wrapper


forget = _memory.clear  # so that a profile times each metric from nothing


@shared
def scale_to_255(image: np.ndarray) -> np.ndarray:
    """Scale an image to 0..255 without rounding to grey levels.

    Args:
        image: (H, W) or (H, W, 3); uint8, uint16, or float in [0, 1].
    Returns:
        float64 of the same shape in [0, 255]. uint16 is divided by 257, floats are first rounded to
        16 bits: so an image has one value whether stored in 8 bits, 16 bits or float32.
    Raises:
        UserError: for another shape or type, an empty image, or floats that are not in [0, 1].
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or image.size == 0:
        raise UserError(f"an image must be (H, W) or (H, W, 3), this one is {image.shape}")
    if image.dtype == np.uint8:
        return image.astype(np.float64)
    if image.dtype == np.uint16:
        return image / 257.0
    if image.dtype.kind != "f":
        raise UserError(f"an image must be uint8, uint16 or float in [0, 1], not {image.dtype}")
    if not (image.min() >= -1e-4 and image.max() <= 1 + 1e-4):
        raise UserError("a float image must lie in [0, 1], without NaN; divide by its white level")
    return np.round(np.clip(image, 0, 1).astype(np.float64) * 65535) / 257.0


@shared
def luma(image: np.ndarray, weights: tuple[float, float, float] = RGB2GRAY) -> np.ndarray:
    """Luma as the reference codes see it: (H, W) float64 of whole numbers 0..255, half rounded up.

    Args:
        image: as for :func:`scale_to_255`, which see for errors.
        weights: of R, G and B.
    """
    scaled = scale_to_255(image)
    grey = scaled @ np.asarray(weights) if scaled.ndim == 3 else scaled
    return np.floor(np.round(grey, 6) + 0.5)  # 1e-6: rounding errors must not decide a tie


def paper_luma(image: np.ndarray) -> np.ndarray:
    """:func:`luma` as in the paper."""
    return luma(image, (0.299, 0.587, 0.114))


@shared
def stretched(grey: np.ndarray) -> np.ndarray:
    """Stretch luma to 0..255 and round, as the reference's ``normalize1``; a constant becomes 0."""
    low, high = grey.min(), grey.max()
    return np.floor((grey - low) / (high - low) * 255 + 0.5) if high > low else np.zeros_like(grey)


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


def two(symbol: str, sources: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """The two sources of a metric whose definition does not extend to more."""
    if len(sources) != 2:
        raise UserError(f"{symbol} is defined for two sources, not {len(sources)}")
    return sources


@dataclass(frozen=True)
class Metric:
    """One metric: its name, how to read it, where it comes from, how to compute it.

    Call it as ``metric(fused)``, ``metric(sources, fused)`` or ``metric(truth, fused, mask=None)``,
    as ``needs`` says. Images are (H, W) or (H, W, 3), uint8, uint16 or float in [0, 1].
    """

    name: str
    symbol: str  # key in METRICS, column in tables
    range: tuple[float, float]  # lowest and highest value that the definition allows
    needs: Literal["fused", "sources", "truth"]
    citation: str  # publication that defines it
    reference: str  # code that our values were checked against
    function: Callable[..., float]  # the definition, on converted images
    smallest: int = 2  # least height and width on which it is defined
    higher_is_better: bool = True
    convert: Callable[[np.ndarray], np.ndarray] = luma

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    def __call__(self, *images, mask: np.ndarray | None = None) -> float:
        """Evaluate the metric.

        Raises:
            UserError: for images that cannot be converted, differ in size or are too small, for a
                mask that is empty or does not fit, and where the definition gives no number.
        """
        if len(images) == 3:
            *images, mask = images
        *others, fused = images
        if self.needs == "sources":
            (others,) = others
            if len(others) < 2:
                raise UserError(f"{self.symbol} needs a sequence of two or more source images")
        fused, *others = map(self.convert, (fused, *others))
        for other in others:
            if other.shape != fused.shape:
                sizes = f"{other.shape} against the fused {fused.shape}"
                raise UserError(f"{self.symbol}: sizes differ, {sizes}")
        height, width = fused.shape[:2]
        if min(height, width) < self.smallest:
            text = f"{self.symbol} needs images of at least {self.smallest}×{self.smallest}"
            raise UserError(f"{text}, not {height}×{width}")
        arguments = [others, fused] if self.needs == "sources" else [*others, fused]
        if mask is not None:
            if mask.dtype != bool or mask.shape != fused.shape[:2]:
                raise UserError(f"{self.symbol}: the mask must be boolean of the images' size")
            if not mask.any():
                raise UserError(f"{self.symbol}: the mask is empty")
            arguments.append(mask)
        value = float(self.function(*arguments))
        if not np.isfinite(value) and value != self.range[1]:
            raise UserError(f"{self.symbol} is not defined for these images (0/0 in its formula)")
        return value


def evaluate(
    metric: Metric,
    sources: Sequence[np.ndarray],
    fused: np.ndarray,
    truth: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> float:
    """Call a metric with what it needs of these."""
    others = {"fused": (), "sources": (sources,), "truth": (truth,)}[metric.needs]
    return metric(*others, fused, mask=mask)
