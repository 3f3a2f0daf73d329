"""Rank heat map and box plots over metrics and methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.symbols import FDB
from evaluation.tables import Column, mean_ranks
from utils.figures import BLUE, INK, MUTED, RULE, Canvas, save

GOOD, MIDDLE, BAD = (53, 103, 176), (246, 246, 244), (217, 138, 0)  # blue, white, amber
NAMES = 170  # units for the methods' names
CELL, ROW = 64, 26


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

    Box: quartiles and median; whiskers: the farthest values within 1.5 times the box beyond it;
    dots: values beyond; a diamond: the mean.
    """
    panel, across = 340, 3
    methods = list(dict.fromkeys(method for column in columns for method in column.values))
    height = 70 + ROW * len(methods)
    rows = -(-len(columns) // across)
    canvas = Canvas(min(across, len(columns)) * (NAMES + panel) + 20, rows * height + 10, 2)
    for i, column in enumerate(columns):
        left, top = i % across * (NAMES + panel) + NAMES, i // across * height
        finite = np.concatenate([v[np.isfinite(v)] for v in column.values.values()])
        if not finite.size:
            continue
        low, high = finite.min(), finite.max()
        pad = 0.05 * (high - low) or max(abs(low), 1.0) * 0.05
        low, high = low - pad, high + pad

        def at(value: float, left: float = left, low: float = low, high: float = high) -> float:
            return left + (value - low) / (high - low) * (panel - 20)

        base = top + 40 + ROW * len(methods)
        canvas.text((left + panel / 2 - 10, top + 20), _head(column), 14)
        canvas.line([(left, base), (left + panel - 20, base)], RULE, 1)
        for value in (low + pad, (low + high) / 2, high - pad):
            canvas.line([(at(value), top + 36), (at(value), base)], RULE, 0.5)
            canvas.text((at(value), base + 12), f"{value:.4g}", 11, MUTED)
        for j, method in enumerate(methods):
            y = top + 40 + (j + 0.5) * ROW
            canvas.text((left - 10, y), method, 12, anchor="rm")
            if method in column.values:
                _box(canvas, column.values[method], y, at)
    return canvas.finish()


def _box(canvas: Canvas, values: np.ndarray, y: float, at) -> None:
    values = values[np.isfinite(values)]
    if not values.size:
        return
    first, median, third = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (third - first)
    inner = values[(values >= first - reach) & (values <= third + reach)]
    canvas.line([(at(inner.min()), y), (at(inner.max()), y)], INK, 1)
    left, right = at(first), max(at(third), at(first) + 0.5)
    box = [(left, y - 8), (right, y - 8), (right, y + 8), (left, y + 8)]
    canvas.polygon(box, "#cddcf0", BLUE)
    canvas.line([(at(median), y - 8), (at(median), y + 8)], BLUE, 2)
    for value in values[(values < inner.min()) | (values > inner.max())]:
        canvas.box((at(value), y), 3, 3, INK, INK, 1.5)
    x = at(values.mean())
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
