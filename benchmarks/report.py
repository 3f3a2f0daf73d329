"""Rows of measurements, saved one by one so that a run can resume; shown as Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.tables import write_text
from utils import markdown

Row = dict[str, Any]


class Bar(NamedTuple):
    """A requirement on a measurement."""

    text: str  # the bar, and what was measured
    held: bool


class Rows:
    """The rows of one table, by name, in a JSON file that is written after each.

    Args:
        path: of the file; what it holds is kept.
        resume: do not measure again what is there.
    """

    def __init__(self, path: Path, resume: bool):
        self.path, self.resume = path, resume
        self.rows: dict[str, Row] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, name: str, measure: Callable[[], Row]) -> Row:
        """Measure a row, unless it is to be resumed, and write it."""
        if not (self.resume and name in self.rows):
            self.rows[name] = measure()
            write_text(self.path, json.dumps(self.rows, indent=1, ensure_ascii=False) + "\n")
            print(f"{self.path.stem}: {name}: {self.rows[name]}", flush=True)
        return self.rows[name]


def table(rows: Mapping[str, Row], columns: Mapping[str, tuple[str, str]], first: str) -> str:
    """Markdown: a line for each row, a dash where it lacks a value.

    Args:
        rows: by name.
        columns: key of a value to (head, format).
        first: head of the names.
    """
    heads, forms = zip(*columns.values(), strict=True)

    def cells(row: Row) -> list[str]:
        values = map(row.get, columns)
        return ["–" if v is None else f.format(v) for v, f in zip(values, forms, strict=True)]

    return markdown.table([first, *heads], ([name, *cells(row)] for name, row in rows.items()))


def verdicts(bars: Sequence[Bar]) -> str:
    """A line for each bar."""
    return "".join(f"- {'held' if bar.held else '**missed**'}: {bar.text}\n" for bar in bars)
