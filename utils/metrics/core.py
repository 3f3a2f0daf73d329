"""What every metric shares: one conversion to luma, one memory of intermediate results."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from utils.errors import UserError

BT601 = (0.299, 0.587, 0.114)
"""Luma weights of the paper's four metrics (PAPER.md's recovered formulas)."""

RGB2GRAY = (0.298936, 0.587043, 0.114021)
"""Weights of Matlab's and Octave's ``rgb2gray``, used by every other metric."""

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

    Several metrics need the same gradients or phase congruency, and several fused images the same
    sources. Results come back read-only; the oldest are forgotten beyond 256 MB.
    """

    @functools.wraps(function)
    def wrapper(*arguments):
        key = (function.__qualname__, function.__module__, *map(_digest, arguments))
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key][0]
        result = function(*arguments)
        _memory[key] = (result, _freeze(result))
        while len(_memory) > 1 and sum(size for _, size in _memory.values()) > MEMORY_BYTES:
            _memory.popitem(last=False)
        return result

    return wrapper


def forget() -> None:
    """Drop all remembered results (the profile does so to time each metric from nothing)."""
    _memory.clear()


@shared
def eight_bit(image: np.ndarray) -> np.ndarray:
    """Scale an image to 0..255 without rounding to grey levels.

    Args:
        image: (H, W) or (H, W, 3); uint8, uint16, or float in [0, 1].
    Returns:
        float64 of the same shape in [0, 255]. uint16 is divided by 257, floats are first rounded to
        16 bits: so an image has one value whether stored in 8 bits, 16 bits or float32.
    Raises:
        UserError: for another shape or type, an empty image, or floats that are not in [0, 1].
    """
    image = np.asarray(image)
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


def luma(image: np.ndarray, weights: tuple[float, float, float] = RGB2GRAY) -> np.ndarray:
    """Integer-valued luma of an image, the form in which the reference codes see it.

    Args:
        image: as for :func:`eight_bit`.
        weights: of R, G and B; :data:`RGB2GRAY` or :data:`BT601`.
    Returns:
        (H, W) float64 of whole numbers 0..255, half rounded up; read-only, since it is shared.
    Raises:
        UserError: as :func:`eight_bit`.
    """
    return _luma(np.asarray(image), weights)


@shared
def _luma(image: np.ndarray, weights: tuple[float, float, float]) -> np.ndarray:
    scaled = eight_bit(image)
    grey = scaled @ np.asarray(weights) if scaled.ndim == 3 else scaled
    return np.floor(np.round(grey, 6) + 0.5)  # 1e-6: rounding errors must not decide a tie


@shared
def stretched(grey: np.ndarray) -> np.ndarray:
    """Stretch luma to 0..255 and round, as the reference's ``normalize1``; a constant becomes 0."""
    low, high = grey.min(), grey.max()
    return np.floor((grey - low) / (high - low) * 255 + 0.5) if high > low else np.zeros_like(grey)


def paper_luma(image: np.ndarray) -> np.ndarray:
    """:func:`luma` with the weights of PAPER.md."""
    return luma(image, BT601)


@dataclass(frozen=True)
class Metric:
    """One metric: what it is called, how it is read, where it comes from, how it is computed.

    Calling it converts the images (once, whatever their bit depth) and returns a float:
    ``metric(fused)``, ``metric(sources, fused)`` or ``metric(truth, fused, mask=None)``, as
    ``needs`` says. Images are (H, W) or (H, W, 3), uint8, uint16 or float in [0, 1].

    Attributes:
        name: in words.
        symbol: key in ``METRICS``, column in tables.
        range: lowest and highest value that the definition allows.
        needs: what the metric compares with: nothing but the ``fused`` image, the ``sources``, or
            the ground ``truth``.
        citation: publication that defines it.
        reference: code that our values were checked against.
        function: the definition, on converted images.
        convert: image conversion; integer-valued luma unless said otherwise.
        smallest: least height and width on which it is defined.
        higher_is_better: direction.
    """

    name: str
    symbol: str
    range: tuple[float, float]
    needs: Literal["fused", "sources", "truth"]
    citation: str
    reference: str
    function: Callable[..., float]
    convert: Callable[[np.ndarray], np.ndarray] = luma
    smallest: int = 2
    higher_is_better: bool = True

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"

    def __call__(self, *images, mask: np.ndarray | None = None) -> float:
        """Evaluate the metric.

        Raises:
            UserError: for images that cannot be converted, differ in size or are too small, for a
                mask that is empty or does not fit, and where the definition gives no number.
        """
        if self.needs == "truth" and len(images) == 3:
            *images, mask = images
        if len(images) != (1 if self.needs == "fused" else 2):
            raise TypeError(f"{self.symbol} takes {self.signature}")
        *others, fused = images
        fused = self._converted(fused)
        if self.needs == "sources":
            others = [self._sources(others[0])]
        elif others:
            others = [self._converted(others[0])]
        for other in others[0] if self.needs == "sources" else others:
            if other.shape != fused.shape:
                raise UserError(
                    f"{self.symbol}: sizes differ, {other.shape} against the fused {fused.shape}"
                )
        options = {} if mask is None else {"mask": self._mask(mask, fused.shape)}
        value = float(self.function(*others, fused, **options))
        if not np.isfinite(value) and not (value == np.inf and self.range[1] == np.inf):
            raise UserError(f"{self.symbol} is not defined for these images (0/0 in its formula)")
        return value

    @property
    def signature(self) -> str:
        """The arguments it is called with."""
        return {
            "fused": "(fused)",
            "sources": "(sources, fused)",
            "truth": "(truth, fused, mask=None)",
        }[self.needs]

    def _converted(self, image: np.ndarray) -> np.ndarray:
        converted = self.convert(image)
        if min(converted.shape[:2]) < self.smallest:
            raise UserError(
                f"{self.symbol} needs images of at least {self.smallest}×{self.smallest}, "
                f"this one is {converted.shape[0]}×{converted.shape[1]}"
            )
        return converted

    def _sources(self, sources: Sequence[np.ndarray]) -> list[np.ndarray]:
        if isinstance(sources, np.ndarray) and sources.ndim < 4 or len(sources) < 2:
            raise UserError(f"{self.symbol} needs a sequence of two or more source images")
        return [self._converted(source) for source in sources]

    def _mask(self, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        mask = np.asarray(mask)
        if self.needs != "truth":
            raise UserError(f"{self.symbol} takes no mask: only ground-truth metrics do")
        if mask.dtype != bool or mask.shape != shape[:2]:
            raise UserError(f"{self.symbol}: the mask must be boolean of the images' size")
        if not mask.any():
            raise UserError(f"{self.symbol}: the mask is empty")
        return mask
