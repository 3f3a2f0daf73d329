"""Rank heat map and box plots over metrics and methods."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from drawing.canvas import BLUE, INK, MUTED, RULE, Canvas, rectangle
from evaluation.scores import FDB, metric_of
from evaluation.tables import Column, mean_ranks

GOOD, MIDDLE, BAD = (53, 103, 176), (246, 246, 244), (217, 138, 0)  # blue, white, amber
NAMES = 170  # units for the methods' names
CELL, ROW = 64, 26  # of the heat map
PANEL, ACROSS, BOX_ROW = 260, 4, 18  # of the box plots


def heat_map(columns: Sequence[Column]) -> Image.Image:
    """Mean rank of every method (rows, the best first) in every metric; the last column, in all."""
    overall = mean_ranks(columns)
    methods = sorted(overall, key=overall.get)
    width, bottom = NAMES + CELL * (len(columns) + 1) + 20, 40 + ROW * len(methods)
    canvas = Canvas(width, bottom + 34, 2)
    ranks = [(_name(column), column.rank) for column in columns] + [("all", overall)]
    for i, (head, rank) in enumerate(ranks):
        left = NAMES + i * CELL
        canvas.text((left + CELL / 2, 22), head, 12)
        for j, method in enumerate(methods):
            top = 40 + j * ROW
            text, color = "–", (255, 255, 255)
            if method in rank:
                text = f"{rank[method]:.1f}"
                color = _color((rank[method] - 1) / max(len(rank) - 1, 1))
            canvas.polygon(rectangle(left, top, left + CELL, top + ROW), color, "#ffffff")
            ink = INK if np.dot((0.3, 0.59, 0.11), color) > 140 else "#ffffff"
            canvas.text((left + CELL / 2, top + ROW / 2), text, 12, ink)
    for j, method in enumerate(methods):
        canvas.text((NAMES - 10, 40 + (j + 0.5) * ROW), method, 13, anchor="rm", most=NAMES - 20)
    note = "mean rank over the pairs, 1 the best"
    canvas.text((width - 20, bottom + 18), note, 12, MUTED, "rm")
    return canvas.finish()


def box_plots(columns: Sequence[Column]) -> Image.Image:
    """For every metric a panel with a box for each method.

    Pairs differ more than methods do, so each value is shown less the median of all methods on its
    pair. Whiskers reach the farthest values within 1.5 times the box; the diamond is the mean.
    Values outside a panel's range are drawn at its edge: one bad method does not squash the rest.
    """
    methods = list(dict.fromkeys(method for column in columns for method in column.values))
    height = 70 + BOX_ROW * len(methods)
    rows = math.ceil(len(columns) / ACROSS)
    width = min(ACROSS, len(columns)) * (NAMES + PANEL) + 20
    canvas = Canvas(width, rows * height + 34)
    for i, column in enumerate(columns):
        _panel(canvas, column, methods, i % ACROSS * (NAMES + PANEL) + NAMES, i // ACROSS * height)
    note = "each value less the median of all methods on its pair"
    canvas.text((width - 20, rows * height + 16), note, 12, MUTED, "rm")
    return canvas.finish()


def _panel(canvas: Canvas, column: Column, methods: Sequence[str], left: int, top: int) -> None:
    deviations = {method: v for method, v in _deviations(column).items() if v.size}
    if not deviations:
        return
    boxes = {method: box_of(values) for method, values in deviations.items()}
    ends = np.array([whiskers for _, whiskers, _ in boxes.values()])
    # All whiskers, but no more than 4 interquartile ranges of all values.
    first, third = np.percentile(np.concatenate(list(deviations.values())), (25, 75))
    reach = 4 * (third - first)
    low, high = max(ends.min(), first - reach), min(ends.max(), third + reach)
    pad = 0.05 * (high - low) or 1e-6
    low, high = low - pad, high + pad

    def at(value: float) -> float:
        return left + np.clip((value - low) / (high - low), 0, 1) * (PANEL - 20)

    base = top + 40 + BOX_ROW * len(methods)
    # The typeface has no arrows.
    better = "higher" if metric_of(column.symbol).higher_is_better else "lower"
    canvas.text((left + PANEL / 2 - 10, top + 20), f"{_name(column)}, {better} is better", 14)
    canvas.line([(left, base), (left + PANEL - 20, base)], RULE, 1)
    for value in (low + pad, 0.0, high - pad):
        canvas.line([(at(value), top + 36), (at(value), base)], RULE, 1)
    for value in (low + pad, high - pad):
        canvas.text((at(value), base + 12), f"{value:+.3g}", 11, MUTED)
    for j, method in enumerate(methods):
        y, half = top + 40 + (j + 0.5) * BOX_ROW, BOX_ROW / 2 - 3
        canvas.text((left - 10, y), method, 12, anchor="rm", most=NAMES - 20)
        if method not in boxes:
            continue
        quartiles, whiskers, beyond = boxes[method]
        canvas.line([(at(value), y) for value in whiskers], INK, 1)
        first, median, third = map(at, quartiles)
        third = max(third, first + 0.5)
        canvas.polygon(rectangle(first, y - half, third, y + half), "#cddcf0", BLUE)
        canvas.line([(median, y - half), (median, y + half)], BLUE, 2)
        for value in beyond:
            canvas.box((at(value), y), 3, 3, INK, INK, 1.5)
        x = at(deviations[method].mean())
        canvas.polygon([(x - 3, y), (x, y - 3), (x + 3, y), (x, y + 3)], INK)


def box_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quartiles, ends of the whiskers, and values beyond them."""
    quartiles = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (quartiles[2] - quartiles[0])
    inner = (values >= quartiles[0] - reach) & (values <= quartiles[2] + reach)
    return quartiles, np.array([values[inner].min(), values[inner].max()]), values[~inner]


def _deviations(column: Column) -> dict[str, np.ndarray]:
    """Each method's values less the median over the methods; infinite ones are left out."""
    values = np.array(list(column.values.values()))  # (methods, pairs)
    values = np.where(np.isfinite(values), values, np.nan)
    some = np.isfinite(values).any(axis=0)
    values = values[:, some] - np.nanmedian(values[:, some], axis=0)
    return {m: row[np.isfinite(row)] for m, row in zip(column.values, values, strict=True)}


def _name(column: Column) -> str:
    return column.symbol.replace(FDB, " FDB")


def _color(share: float) -> tuple[int, ...]:
    """From blue at 0 through white to amber at 1."""
    ends = np.transpose([GOOD, MIDDLE, BAD])
    return tuple(round(np.interp(share, (0, 0.5, 1), channel)) for channel in ends)
