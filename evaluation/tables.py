"""Means, wins, ranks and significance over methods and metrics; Markdown, LaTeX, CSV, JSON."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, wilcoxon

from evaluation.scores import FDB, Scores, metric_of
from utils.atomic import write_file
from utils.markdown import table
from utils.provenance import provenance

BOLD = "**{}**".format
TEX_NAMES = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum"}
TEX_NAMES |= {"<": "less", ">": "greater", "|": "bar"}  # without these names TeX shows ¡, ¿ and —
TEX = str.maketrans(
    {sign: rf"\{sign}" for sign in "&%$#_{}"}
    | {sign: rf"\text{name}{{}}" for sign, name in TEX_NAMES.items()}
)
TABLE1 = ("AG", "LIF", "MSD", "GLD")
# Lytro, mean of 20 pairs, and on how many of them the method beats all others: Ma et al., IEEE TIP
# 2020, Table I.
PUBLISHED: dict[str, dict[str, tuple[float, int]]] = {
    method: dict(zip(TABLE1, row, strict=True))
    for method, row in {
        "NSCT": ((2.8750, 0), (0.4097, 0), (0.1108, 0), (14.2245, 0)),
        "SR": ((2.8446, 0), (0.4083, 0), (0.1108, 0), (14.0740, 0)),
        "NSCT-SR": ((2.8794, 0), (0.4093, 1), (0.1108, 1), (14.2467, 0)),
        "GF": ((2.8699, 0), (0.4081, 1), (0.1110, 1), (14.1954, 0)),
        "DSIFT": ((2.9020, 1), (0.4075, 2), (0.1111, 0), (14.3400, 2)),
        "DCNN": ((2.8598, 0), (0.4080, 0), (0.1109, 0), (14.1460, 0)),
        "BA-Fusion": ((2.9040, 2), (0.4075, 1), (0.1112, 0), (14.3550, 2)),
        "MMF-Net": ((2.9791, 17), (0.4056, 15), (0.1120, 16), (14.7451, 18)),
    }.items()
}


@dataclass(frozen=True)
class Column:
    """A metric over the pairs that every method has, so that all means are of the same pairs."""

    symbol: str
    pairs: list[str]  # names, P of them
    values: dict[str, np.ndarray]  # (P,) of each method, in their order
    mean: dict[str, float]
    wins: dict[str, int]  # pairs on which a method is strictly better than all others
    rank: dict[str, float]  # mean over the pairs, 1 the best, ties shared
    first: str  # the best method by mean
    second: str | None  # the next one; None if there is one method
    p: float | None  # of Wilcoxon's signed-rank test between the two, two-sided; or None


def summarise(scores: Scores, methods: Sequence[str], symbols: Sequence[str]) -> list[Column]:
    """One column for each metric; methods without any value, and metrics without, are left out."""
    columns = []
    for symbol in symbols:
        rows: dict[str, dict[str, float]] = {method: {} for method in methods}
        for (pair, method), values in scores.items():
            if method in rows and symbol in values:
                rows[method][pair] = values[symbol]
        rows = {method: row for method, row in rows.items() if row}
        first = next(iter(rows.values()), {})
        if pairs := [pair for pair in first if all(pair in row for row in rows.values())]:
            arrays = {m: np.array([row[pair] for pair in pairs]) for m, row in rows.items()}
            columns.append(_column(symbol, pairs, arrays))
    return columns


def _column(symbol: str, pairs: list[str], values: dict[str, np.ndarray]) -> Column:
    sign = 1 if metric_of(symbol).higher_is_better else -1
    signed = sign * np.array(list(values.values()))  # (methods, pairs), higher is better
    best = signed == signed.max(axis=0)
    wins = (best & (best.sum(axis=0) == 1)).sum(axis=1)
    ranks = rankdata(-signed, axis=0).mean(axis=1)
    mean = {method: float(row.mean()) for method, row in values.items()}
    first, second, *_ = *sorted(mean, key=lambda method: -sign * mean[method]), None
    p = None
    if second:
        a, b = values[first], values[second]
        differ = a != b  # pairs on which both are equal tell nothing
        p = float(wilcoxon(a[differ] - b[differ]).pvalue) if differ.any() else 1.0
    wins, ranks = (dict(zip(values, row.tolist(), strict=True)) for row in (wins, ranks))
    return Column(symbol, pairs, values, mean, wins, ranks, first, second, p)


def mean_ranks(columns: Sequence[Column]) -> dict[str, float]:
    """Each method's rank, averaged over the pairs and then over the metrics that it has."""
    methods = dict.fromkeys(method for column in columns for method in column.rank)
    return {m: float(np.mean([c.rank[m] for c in columns if m in c.rank])) for m in methods}


def markdown(columns: Sequence[Column]) -> str:
    """A row for each method, a column for each metric: mean, wins in brackets, the best bold."""
    if not columns:
        return f"{caption(columns)}\n"
    head, body, foot = _cells(columns, BOLD, _symbol)
    return f"{table(head, [*body, *foot])}\n{caption(columns)}\n"


def runs(about: Mapping[str, Mapping[str, object]]) -> str:
    """A row for each method that was run: what it was and what it cost; empty for none."""
    if not about:
        return ""
    rows = []
    for method, run in about.items():
        what = run.get("version") or run["weights"], run.get("options", "")
        rows.append([method, *what, f"{run['cpu_seconds_per_pair']:.2f}"])
    note = "CPU seconds: all cores together; of programs with their start, shared by all pairs."
    return f"\n{table(['method', 'version', 'options', 'CPU seconds a pair'], rows)}\n{note}\n"


def table1(columns: Sequence[Column], methods: Sequence[str], ours: str) -> str:
    """Markdown: the published rows in the paper's order, then what else was measured, ``ours``
    first. A method whose name is that of a published row (``MMF-Net``, ``mmfnet``) stands there."""
    measured = {column.symbol: column for column in columns if column.symbol in TABLE1}
    plain = {_plain(name): name for name in PUBLISHED}
    rows = dict.fromkeys(PUBLISHED)
    # Who bears a published name exactly has its row; of the others, ours is first.
    for method in sorted(methods, key=lambda method: (method not in PUBLISHED, method != ours)):
        row = plain.get(_plain(method), method)
        rows[method if rows.get(row) else row] = method
    symbols = [f"{symbol} {metric_of(symbol).arrow}" for symbol in TABLE1]
    head = ["method", *(f"{s} {half}" for half in ("published", "measured") for s in symbols)]
    halves = [_published(symbol) for symbol in TABLE1], list(map(measured.get, TABLE1))
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


def latex(columns: Sequence[Column]) -> str:
    """The same as a LaTeX tabular (package booktabs)."""
    head, body, foot = _cells(columns, r"\textbf{{{}}}".format, _tex_symbol)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"]
    for rows in ([head], body, foot) if foot else ([head], body):
        for name, *cells in rows:
            cells = (text.replace("∞", r"$\infty$") for text in cells)
            lines.append(" & ".join([name.translate(TEX), *cells]) + r" \\")
        lines.append(r"\midrule")
    lines[-1:] = [r"\bottomrule", r"\end{tabular}", f"% {caption(columns)}"]
    return "\n".join(lines) + "\n"


def caption(columns: Sequence[Column]) -> str:
    """What the numbers of a table are."""
    if not columns:
        return "No pair has a value of every method, so there are no means; see per_image.csv."
    counts = [len(column.pairs) for column in columns]
    over = "–".join(map(str, dict.fromkeys((min(counts), max(counts)))))
    several = (
        "; in brackets the pairs on which a method is better than all others; rank: mean over "
        "pairs and metrics, 1 the best; p: Wilcoxon signed-rank test, best against second best"
    )
    shown = several if any(column.second for column in columns) else ""
    return f"Mean over the {over} pairs that all methods have{shown}."


def write(
    out: Path,
    scores: Scores,
    methods: Sequence[str],
    symbols: Sequence[str],
    problems: Sequence[str],
    about: dict[str, object],
) -> list[Column]:
    """Write all values to ``per_image.csv``; means, wins, ranks and tests to ``summary.json``."""
    lines = ((*image, s, row[s]) for image, row in scores.items() for s in symbols if s in row)
    values = io.StringIO(newline="")
    csv.writer(values).writerows([("pair", "method", "metric", "value"), *lines])
    write_file(out / "per_image.csv", values.getvalue())
    columns = summarise(scores, methods, symbols)
    metrics = {
        column.symbol: {
            "higher_is_better": metric_of(column.symbol).higher_is_better,
            "pairs": len(column.pairs),
            "mean": {m: v if math.isfinite(v) else str(v) for m, v in column.mean.items()},
            "wins": column.wins,
            "rank": column.rank,
            "wilcoxon": {"first": column.first, "second": column.second, "p": column.p},
        }
        for column in columns
    }
    found = {"metrics": metrics, "rank": mean_ranks(columns), "problems": problems}
    summary = provenance() | about | found
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    write_file(out / "summary.json", text + "\n")
    return columns


def cell(column: Column, method: str | None, bold: Callable[[str], str] = BOLD) -> str:
    """Mean with wins in brackets, the best bold (neither if one method is alone), or a dash. Four
    decimals as in Table I; two for decibels and in a column that goes beyond 100."""
    mean = column.mean.get(method)
    if mean is None:
        return "–"
    large = any(100 <= abs(value) < math.inf for value in column.mean.values())
    decimals = 2 if large or column.symbol.startswith("PSNR") else 4
    text = "∞" if mean == math.inf else f"{mean:.{decimals}f}"
    if not column.second:
        return text
    text = f"{text} ({column.wins[method]})"
    return bold(text) if mean == column.mean[column.first] else text


def _cells(
    columns: Sequence[Column], bold: Callable[[str], str], symbol: Callable[[Column], str]
) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Head, body and foot of a table as text; one method has neither ranks nor a foot."""
    ranks = mean_ranks(columns)
    head = ["method", *map(symbol, columns)]
    body = []
    for method in ranks:
        body.append([method, *(cell(column, method, bold) for column in columns)])
        if len(ranks) > 1:
            text = f"{ranks[method]:.2f}"
            body[-1].append(bold(text) if ranks[method] == min(ranks.values()) else text)
    if len(ranks) < 2:
        return head, body, []
    foot = ["p", *("–" if c.p is None else f"{c.p:.2g}" for c in columns), ""]
    return [*head, "rank"], body, [foot]


def _symbol(column: Column) -> str:
    return f"{column.symbol.replace(FDB, ' (FDB)')} {metric_of(column.symbol).arrow}"


def _tex_symbol(column: Column) -> str:
    name, _, index = column.symbol.removesuffix(FDB).partition("_")
    text = rf"${name}_{{\mathrm{{{index}}}}}$" if index else name
    where = " (FDB)" if column.symbol.endswith(FDB) else ""
    arrow = "up" if metric_of(column.symbol).higher_is_better else "down"
    return rf"{text}{where} $\{arrow}arrow$"


def _published(symbol: str) -> Column:
    mean = {method: row[symbol][0] for method, row in PUBLISHED.items()}
    wins = {method: row[symbol][1] for method, row in PUBLISHED.items()}
    order = sorted(mean, key=mean.get, reverse=metric_of(symbol).higher_is_better)
    return Column(symbol, [], {}, mean, wins, {}, *order[:2], None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
