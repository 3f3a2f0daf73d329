"""Rank heat map and box plots over metrics and methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from drawing.canvas import BLUE, INK, MUTED, RULE, Canvas, save
from evaluation.symbols import FDB
from evaluation.tables import Column, mean_ranks

GOOD, MIDDLE, BAD = (53, 103, 176), (246, 246, 244), (217, 138, 0)  # blue, white, amber
NAMES = 170  # units for the methods' names
CELL, ROW = 64, 26  # of the heat map
PANEL, ACROSS, BOX_ROW = 260, 4, 18  # of the box plots


def write(columns: Sequence[Column], out: Path) -> None:
    """Draw ``ranks.png`` and ``boxes.png``."""
    save(heat_map(columns), out / "ranks.png")
    save(box_plots(columns), out / "boxes.png")


def heat_map(columns: Sequence[Column]) -> Image.Image:
    """Mean rank of every method (rows, the best first) in every metric; the last column, in all."""
    overall = mean_ranks(columns)
    methods = sorted(overall, key=overall.get)
    width = NAMES + CELL * (len(columns) + 1) + 20
    canvas = Canvas(width, 40 + ROW * len(methods) + 34, 2)
    heads = [_name(column) for column in columns] + ["all"]
    ranks = [column.rank for column in columns] + [overall]
    for i, (head, rank) in enumerate(zip(heads, ranks, strict=True)):
        left = NAMES + i * CELL
        canvas.text((left + CELL / 2, 22), head, 12)
        for j, method in enumerate(methods):
            top = 40 + j * ROW
            text, color = "–", "#ffffff"
            if method in rank:
                share = (rank[method] - 1) / max(len(rank) - 1, 1)
                text, color = f"{rank[method]:.1f}", _color(share)
            corners = [(left, top), (left + CELL, top), (left + CELL, top + ROW), (left, top + ROW)]
            canvas.polygon(corners, color, "#ffffff")
            canvas.text((left + CELL / 2, top + ROW / 2), text, 12, _ink(color))
    for j, method in enumerate(methods):
        canvas.text((NAMES - 10, 40 + (j + 0.5) * ROW), method, 13, anchor="rm")
    note = "mean rank over the pairs, 1 the best"
    canvas.text((width - 20, 40 + ROW * len(methods) + 18), note, 12, MUTED, "rm")
    return canvas.finish()


def box_plots(columns: Sequence[Column]) -> Image.Image:
    """For every metric a panel with a box for each method.

    Pairs differ more than methods do, so what is drawn is each value less the median of all
    methods on its pair. Box: quartiles and median; whiskers: the farthest values within 1.5 times
    the box beyond it; dots: values beyond; a diamond: the mean. What lies outside a panel's range
    is drawn at its rim, so that one bad method does not press the others into a line.
    """
    methods = list(dict.fromkeys(method for column in columns for method in column.values))
    height = 70 + BOX_ROW * len(methods)
    rows, across = -(-len(columns) // ACROSS), min(ACROSS, len(columns))
    canvas = Canvas(across * (NAMES + PANEL) + 20, rows * height + 34)
    for i, column in enumerate(columns):
        left, top = i % ACROSS * (NAMES + PANEL) + NAMES, i // ACROSS * height
        deviations = {m: v for m, v in _deviations(column).items() if v.size}
        if not deviations:
            continue
        boxes = {method: Box.of(values) for method, values in deviations.items()}
        low, high = _range(boxes, np.concatenate(list(deviations.values())))
        pad = 0.05 * (high - low) or 1e-6
        low, high = low - pad, high + pad

        def at(value: float, left: float = left, low: float = low, high: float = high) -> float:
            return left + np.clip((value - low) / (high - low), 0, 1) * (PANEL - 20)

        base = top + 40 + BOX_ROW * len(methods)
        canvas.text((left + PANEL / 2 - 10, top + 20), _head(column), 14)
        canvas.line([(left, base), (left + PANEL - 20, base)], RULE, 1)
        for value in (low + pad, 0.0, high - pad):
            canvas.line([(at(value), top + 36), (at(value), base)], RULE, 1)
        for value in (low + pad, high - pad):
            canvas.text((at(value), base + 12), f"{value:+.3g}", 11, MUTED)
        for j, method in enumerate(methods):
            y = top + 40 + (j + 0.5) * BOX_ROW
            canvas.text((left - 10, y), method, 12, anchor="rm")
            if method in boxes:
                _draw(canvas, boxes[method], y, at)
    note = "each value less the median of all methods on its pair"
    canvas.text((canvas.sheet.width / canvas.unit - 20, rows * height + 16), note, 12, MUTED, "rm")
    return canvas.finish()


class Box(NamedTuple):
    """What a box plot shows of some values."""

    quartiles: tuple[float, float, float]
    whiskers: tuple[float, float]
    beyond: np.ndarray
    mean: float

    @classmethod
    def of(cls, values: np.ndarray) -> Box:
        first, median, third = np.percentile(values, (25, 50, 75))
        reach = 1.5 * (third - first)
        inner = (values >= first - reach) & (values <= third + reach)
        whiskers = values[inner].min(), values[inner].max()
        return cls((first, median, third), whiskers, values[~inner], values.mean())


def _deviations(column: Column) -> dict[str, np.ndarray]:
    """Each method's values less the median over the methods; infinite ones are left out."""
    values = np.array(list(column.values.values()))  # (methods, pairs)
    values = np.where(np.isfinite(values), values, np.nan)
    some = np.isfinite(values).any(axis=0)
    values = values[:, some] - np.nanmedian(values[:, some], axis=0)
    return {m: row[np.isfinite(row)] for m, row in zip(column.values, values, strict=True)}


def _range(boxes: Mapping[str, Box], values: np.ndarray) -> tuple[float, float]:
    """What a panel shows: all whiskers, but no more than 4 interquartile ranges of all values."""
    first, third = np.percentile(values, (25, 75))
    reach = 4 * (third - first)
    return (
        max(min(box.whiskers[0] for box in boxes.values()), first - reach),
        min(max(box.whiskers[1] for box in boxes.values()), third + reach),
    )


def _draw(canvas: Canvas, box: Box, y: float, at: Callable[[float], float]) -> None:
    half = BOX_ROW / 2 - 3
    first, median, third = map(at, box.quartiles)
    canvas.line([(at(box.whiskers[0]), y), (at(box.whiskers[1]), y)], INK, 1)
    third = max(third, first + 0.5)
    corners = [(first, y - half), (third, y - half), (third, y + half), (first, y + half)]
    canvas.polygon(corners, "#cddcf0", BLUE)
    canvas.line([(median, y - half), (median, y + half)], BLUE, 2)
    for value in box.beyond:
        canvas.box((at(value), y), 3, 3, INK, INK, 1.5)
    x = at(box.mean)
    canvas.polygon([(x - 3, y), (x, y - 3), (x + 3, y), (x, y + 3)], INK)


def _name(column: Column) -> str:
    return column.symbol.replace(FDB, " FDB")


def _head(column: Column) -> str:  # in words: the typeface has no arrows
    return f"{_name(column)}, {'higher' if column.higher_is_better else 'lower'} is better"


def _color(share: float) -> str:
    """From blue at 0 through white to amber at 1."""
    ends = (GOOD, MIDDLE) if share < 0.5 else (MIDDLE, BAD)
    part = share * 2 if share < 0.5 else share * 2 - 1
    mixed = (round(a + (b - a) * part) for a, b in zip(*ends, strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _ink(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else "#ffffff"
