"""Agreement with the values that the metric authors' Matlab code gives under GNU Octave.

    python -m tests.octave [DATASETS]

Prints how each metric agrees on the 30 images of ``golden/metrics_octave.csv``: those of MMF-Net on
all Lytro pairs, of CNN and IFCNN on five each.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tests.commands import ROOT
from utils.errors import UserError, cli
from utils.images import read_photo
from utils.markdown import table
from utils.metrics import METRICS, luma

DATASETS = ROOT / "datasets"
TABLE = ROOT / "tests/golden/metrics_octave.csv"

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


NEEDS = ("lytro", "mmfnet_lytro", "mfifb_lytro")
"""Folders of images below ``datasets/``, and the sources of ``data.prepare`` that fill them."""


def absent(root: Path = DATASETS, names: Sequence[str] = NEEDS) -> str:
    """How to fetch those of the folders that are not there; empty if all are."""
    missing = [name for name in names if not (root / name).is_dir()]
    return " and ".join(f"`python -m data.prepare {name} --root datasets`" for name in missing)


def fused_path(root: Path, pair: str, method: str) -> Path:
    """A method's result for a Lytro pair below ``datasets/``."""
    if method == "MMF-Net":
        return root / "mmfnet_lytro" / f"{pair}-Fusion.png"
    return root / "mfifb_lytro" / method / f"{pair}.jpg"


def published_values() -> list[dict[str, str]]:
    """Lines of the table: ``pair``, ``method`` and a value for each symbol."""
    return list(csv.DictReader(TABLE.read_text().splitlines()))


def agreement(root: Path, lines: Iterable[dict[str, str]]) -> Iterator[Row]:
    """Compare with published values.

    Args:
        root: ``datasets/``, see :data:`NEEDS`.
        lines: all or some of :func:`published_values`.
    Yields:
        One row for each value.
    Raises:
        UserError: if an image is missing or cannot be read.
    """
    for line in lines:
        pair, method = line["pair"], line["method"]
        paths = [next((root / "lytro").glob(f"{pair}-{side}.*")) for side in "AB"]
        *sources, fused = (read_photo(p).rgb for p in (*paths, fused_path(root, pair, method)))
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


def print_agreement(root: Path) -> bool:
    """Print how each column of the published table agrees; return whether all is accounted for."""
    columns: dict[str, list] = {}
    lines = published_values()
    for row in agreement(root, tqdm(lines, unit="image", disable=None)):
        columns.setdefault(row.symbol, []).append(row)
    complete, cells = True, []
    for symbol, rows in columns.items():
        beyond = [row for row in rows if row.difference > TOLERANCE]
        worst = max((row.difference for row in rows if row not in beyond), default=np.nan)
        complete &= all(row.explained for row in beyond)
        cells.append([symbol, str(len(rows) - len(beyond)), f"{worst:.1e}", str(len(beyond))])
    print(table(["metric", "rows", "worst relative difference", "beyond 0.1 %"], cells), end="")
    for row in (row for rows in columns.values() for row in rows if row.difference > TOLERANCE):
        print(
            f"{row.symbol} {row.pair} {row.method}: published {row.published:.10g}, "
            f"ours {row.value:.6g}, with Octave's rounding {row.octave or float('nan'):.10g}"
        )
    return complete


@cli
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.octave", description=__doc__)
    parser.add_argument("datasets", nargs="?", type=Path, default=DATASETS)
    root = parser.parse_args(arguments).datasets
    if missing := absent(root):
        raise UserError(f"{root} lacks images: {missing}")
    return 0 if print_agreement(root) else 1


if __name__ == "__main__":
    raise SystemExit(main())
