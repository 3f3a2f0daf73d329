"""Agreement with the values that the metric authors' Matlab code gives under GNU Octave."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.io import imread

from utils.errors import UserError
from utils.metrics import METRICS, luma

TOLERANCE = 1e-3
"""Largest relative difference that counts as agreement."""

FMA_BLOCK = 16
"""OpenBLAS's daxpy fuses multiply and add for whole blocks of 16 values, not for what is left."""


@dataclass(frozen=True)
class Row:
    """A published value and ours; ``octave`` is ours with Octave's rounding where that decides."""

    pair: str
    method: str
    symbol: str
    published: float
    value: float
    octave: float | None = None

    @property
    def difference(self) -> float:
        """Relative difference of our value."""
        return abs(self.value / self.published - 1)

    @property
    def explained(self) -> bool:
        """Whether Octave's rounding alone accounts for a difference beyond the tolerance."""
        return self.octave is not None and abs(self.octave / self.published - 1) <= TOLERANCE


def load(path: Path) -> np.ndarray:
    """Read an image as uint8 grey or RGB, alpha dropped.

    Raises:
        UserError: if the file is missing or cannot be read.
    """
    try:
        image = imread(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return np.ascontiguousarray(image[..., :3]) if image.ndim == 3 else image


def fused_path(shared: Path, pair: str, method: str) -> Path:
    """Where the folder of reference images keeps a method's result for a Lytro pair."""
    if method == "MMF-Net":
        return shared / "reference" / "mmfnet_lytro" / f"{pair}-Fusion.png"
    folder = shared / "reference" / "mfifb_lytro" / method
    found = sorted(folder.glob(f"*{pair[-2:]}*.jpg"))
    if len(found) != 1:
        raise UserError(f"{folder} has {len(found)} files for {pair} where one is needed")
    return found[0]


def published_values(shared: Path) -> list[dict[str, str]]:
    """Lines of ``reference/metrics_golden.csv``: ``pair``, ``method`` and a value for each symbol.

    Raises:
        UserError: if the table cannot be read.
    """
    table = shared / "reference" / "metrics_golden.csv"
    try:
        return list(csv.DictReader(table.read_text().splitlines()))
    except OSError as error:
        raise UserError(f"cannot read {table}: {error.strerror}") from error


def agreement(shared: Path, lines: Iterable[dict[str, str]]) -> Iterator[Row]:
    """Compare with published values.

    Args:
        shared: folder that holds ``reference/`` and ``data/lytro/``.
        lines: all or some of :func:`published_values`.
    Yields:
        One row for each value.
    Raises:
        UserError: if an image is missing or cannot be read.
    """
    for line in lines:
        pair, method = line["pair"], line["method"]
        sources = [load(shared / "data" / "lytro" / f"{pair}-{side}.png") for side in "AB"]
        fused = load(fused_path(shared, pair, method))
        for symbol, published in line.items():
            if symbol in ("pair", "method"):
                continue
            metric = METRICS[symbol]
            value = metric(fused) if metric.needs == "fused" else metric(sources, fused)
            row = Row(pair, method, symbol, float(published), value)
            if symbol == "Q_Y" and row.difference > TOLERANCE:
                octave = yang_in_octave([luma(source) for source in sources], luma(fused))
                row = Row(pair, method, symbol, float(published), value, octave)
            yield row


def _multiply_add(weight: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """weight·x + y rounded once, as a fused instruction does; x whole numbers up to 255²."""
    high = float(np.float32(weight))  # short enough for both partial products to be exact
    large = high * x
    total = y + large
    back = total - y
    error = (y - (total - back)) + (large - back)
    return total + (error + (weight - high) * x)


def _octave_window() -> np.ndarray:
    """``fspecial('gaussian', 7, 1.5)``, normalised twice and summed in Octave's order."""
    x = np.arange(-3.0, 4.0)
    window = np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    window /= window.T.ravel().cumsum()[-1]
    return window / window.cumsum(axis=0)[-1].cumsum()[-1]


def _octave_filter(image: np.ndarray) -> np.ndarray:
    """``filter2(window, image, 'valid')`` to the last bit: conv2 adds one tap after another."""
    rows, columns = (length - 6 for length in image.shape)
    body = rows - rows % FMA_BLOCK
    total = np.zeros((rows, columns))
    for j, column in enumerate(_octave_window().T):
        for i, weight in enumerate(column):
            part = image[6 - i : 6 - i + rows, 6 - j : 6 - j + columns]
            total[:body] = _multiply_add(weight, part[:body], total[:body])
            total[body:] += weight * part[body:]
    return total


def yang_in_octave(sources: list[np.ndarray], fused: np.ndarray) -> float:
    """Q_Y of luma images with Octave's rounding errors.

    Where a window is flat, its variance and covariance are 0, but the reference takes them from
    E[xy] − E[x]E[y] and gets rounding errors, whose quotient can be anything. This repeats every
    addition in Octave's order to show that they are the whole difference.
    """
    images = dict(zip("abf", [*sources, fused], strict=True))
    mean = {name: _octave_filter(image) for name, image in images.items()}

    def covariance(p: str, q: str) -> np.ndarray:
        return _octave_filter(images[p] * images[q]) - mean[p] * mean[q]

    variance = {name: covariance(name, name) for name in images}

    def similarity(p: str, q: str) -> np.ndarray:
        product, guard = mean[p] * mean[q], 2e-16
        return ((2 * product + guard) * (2 * covariance(p, q) + guard)) / (
            (mean[p] * mean[p] + mean[q] * mean[q] + guard) * (variance[p] + variance[q] + guard)
        )

    both_flat = np.where(variance["a"] + variance["b"] == 0, 0.5, 0)
    weight = (variance["a"] + both_flat) / (variance["a"] + variance["b"] + 2 * both_flat)
    map_a, map_b = similarity("a", "f"), similarity("b", "f")
    blend = weight * map_a + (1 - weight) * map_b
    return np.where(similarity("a", "b") >= 0.75, blend, np.maximum(map_a, map_b)).mean()
