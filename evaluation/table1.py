"""The paper's Table I: its published rows beside what a run measured."""

import re
from collections.abc import Sequence

from evaluation.scores import metric_of
from evaluation.tables import Column, cell
from utils.markdown import table

METRICS = ("AG", "LIF", "MSD", "GLD")
# Lytro, mean of 20 pairs, and on how many of them the method beats all others: Ma et al., IEEE TIP
# 2020, Table I.
PUBLISHED: dict[str, dict[str, tuple[str, int]]] = {
    method: dict(zip(METRICS, row, strict=True))
    for method, row in {
        "NSCT": (("2.8750", 0), ("0.4097", 0), ("0.1108", 0), ("14.2245", 0)),
        "SR": (("2.8446", 0), ("0.4083", 0), ("0.1108", 0), ("14.0740", 0)),
        "NSCT-SR": (("2.8794", 0), ("0.4093", 1), ("0.1108", 1), ("14.2467", 0)),
        "GF": (("2.8699", 0), ("0.4081", 1), ("0.1110", 1), ("14.1954", 0)),
        "DSIFT": (("2.9020", 1), ("0.4075", 2), ("0.1111", 0), ("14.3400", 2)),
        "DCNN": (("2.8598", 0), ("0.4080", 0), ("0.1109", 0), ("14.1460", 0)),
        "BA-Fusion": (("2.9040", 2), ("0.4075", 1), ("0.1112", 0), ("14.3550", 2)),
        "MMF-Net": (("2.9791", 17), ("0.4056", 15), ("0.1120", 16), ("14.7451", 18)),
    }.items()
}


def table1(columns: Sequence[Column], methods: Sequence[str], ours: str | None = None) -> str:
    """Markdown: the published rows in the paper's order, then what else was measured, ``ours``
    first. A method whose name is that of a published row (``MMF-Net``, ``mmfnet``) stands there."""
    measured = {column.symbol: column for column in columns if column.symbol in METRICS}
    plain = {_plain(name): name for name in PUBLISHED}
    rows = dict.fromkeys(PUBLISHED)
    for method in sorted(methods, key=lambda method: method != ours):  # stable: ours first
        rows[plain.get(_plain(method), method)] = method
    symbols = [f"{symbol} {metric_of(symbol).arrow}" for symbol in METRICS]
    head = ["method", *(f"{s} {half}" for half in ("published", "measured") for s in symbols)]
    halves = [_published(symbol) for symbol in METRICS], list(map(measured.get, METRICS))
    lines, checks = [], []
    for row, method in rows.items():
        lines.append([row])
        for half, name in zip(halves, (row, method), strict=True):
            lines[-1] += [cell(column, name) if column else "–" for column in half]
        for theirs, column in zip(*halves, strict=True):
            if row in PUBLISHED and column and method in column.mean:
                checks.append(abs(column.mean[method] / theirs.mean[row] - 1))
    counts = sorted({len(column.pairs) for column in measured.values()})
    pairs = "/".join(map(str, counts)) or "no"
    note = (
        "Published: Ma et al., IEEE TIP 2020, Table I, 20 Lytro pairs. Measured: this run, "
        f"{pairs} pairs. In brackets the pairs on which a method beats all others of its half of "
        "the table; the best bold. All four metrics reward sharpness, "
        "whether or not it is true to the scene (docs/metrics.md)."
    )
    if checks:
        note += f" Where both are known they differ by {max(checks):.2%} at most."
    return f"{table(head, lines)}\n{note}\n"


def _published(symbol: str) -> Column:
    mean = {method: float(row[symbol][0]) for method, row in PUBLISHED.items()}
    wins = {method: row[symbol][1] for method, row in PUBLISHED.items()}
    order = sorted(mean, key=mean.get, reverse=metric_of(symbol).higher_is_better)
    return Column(symbol, [], {}, mean, wins, {}, *order[:2], None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
