"""The paper's Table I: its published rows beside what a run measured."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evaluation.tables import Column, format_mean, is_best
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
    """Markdown: the published rows in the paper's order, then what else was measured.

    Args:
        columns: from :func:`evaluation.tables.summarise`, AG, LIF, MSD and GLD among them.
        methods: measured. One whose name is that of a published row (``MMF-Net``, ``mmfnet``)
            stands in this row.
        ours: of these the one that stands directly below MMF-Net.
    """
    measured = {column.symbol: column for column in columns if column.symbol in METRICS}
    plain = {_plain(name): name for name in PUBLISHED}
    rows = dict.fromkeys(PUBLISHED)
    for method in sorted(methods, key=lambda method: method != ours):  # stable: ours first
        rows[plain.get(_plain(method), method)] = method
    best = {symbol: _best_published(column) for symbol, column in measured.items()}
    arrows = [f"{s} {measured[s].metric.arrow}" if s in measured else s for s in METRICS]
    head = ["method", *(f"{a} published" for a in arrows), *(f"{a} measured" for a in arrows)]
    lines, checks = [], []
    for row, method in rows.items():
        cells = [row]
        for symbol in METRICS:
            value, wins = PUBLISHED.get(row, {}).get(symbol, (None, 0))
            text = "–" if value is None else f"{value} ({wins})"
            cells.append(f"**{text}**" if value is not None and value == best.get(symbol) else text)
        for symbol in METRICS:
            column = measured.get(symbol)
            known = column is not None and method in column.mean
            if known and symbol in PUBLISHED.get(row, {}):
                checks.append(abs(column.mean[method] / float(PUBLISHED[row][symbol][0]) - 1))
            text = format_mean(column, method) if known else "–"
            cells.append(f"**{text}**" if known and is_best(column, method) else text)
        lines.append(cells)
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


def _best_published(column: Column) -> str:
    values = [row[column.symbol][0] for row in PUBLISHED.values()]
    return (max if column.metric.higher_is_better else min)(values, key=float)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
