"""Rows of measurements, saved one by one so that a run can resume; shown as Markdown."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Failed
from utils import markdown
from utils.atomic import write_file, write_json
from utils.errors import UserError, option_parser
from utils.provenance import provenance

PHOTOGRAPHS = "datasets/bsds500/images/test"  # training never sees them
Row = dict[str, Any]


def shared_options(description: str, parts: Iterable[str], out: str) -> argparse.ArgumentParser:
    """A parser with what benchmarks share: what to measure, from what, where results go."""
    parser, parts = option_parser(description), list(parts)
    add = parser.add_argument
    add("--only", nargs="+", choices=parts, default=parts, metavar="NAME", help="; ".join(parts))
    add("--resume", action="store_true", help="keep rows already measured")
    add("--photographs", type=folder, default=PHOTOGRAPHS, help=f"default: {PHOTOGRAPHS}")
    add("--out", type=Path, default=Path("docs/results", out))
    return parser


def folder(path: str | Path) -> Path:
    """A folder that an option names; raises :class:`UserError` if there is none."""
    if not Path(path).is_dir():
        raise UserError(f"no folder {path}; `python -m data.prepare list` names what it fetches")
    return Path(path)


class Bar(NamedTuple):
    """A requirement on a measurement."""

    text: str  # the requirement and the measured value
    held: bool


class Rows:
    """The rows of one table, by name, in a JSON file that is written after each; ``resume`` says
    whether to skip those it has."""

    def __init__(self, path: Path, resume: bool):
        self.path, self.resume = path, resume
        try:
            self.rows: dict[str, Row] = json.loads(path.read_bytes()) if path.exists() else {}
        except ValueError as error:
            raise UserError(f"{path} is damaged; delete it to measure anew") from error

    def add(self, name: str, measure: Callable[[], Row]) -> None:
        """Measure and write a row, unless it is resumed; of a program that fails, why."""
        if self.resume and name in self.rows:
            return
        try:
            self.rows[name] = measure()
        except Failed as reason:
            self.rows[name] = {"failed": str(reason)}
        write_json(self.path, self.rows)
        print(f"{self.path.stem}: {name}: {self.rows[name]}", flush=True)


def table(rows: Mapping[str, Row], columns: Mapping[str, tuple[str, str]], first: str) -> str:
    """Markdown: a line for each row, a dash for each missing value. ``columns`` gives the heading
    and format of each value by its key; ``first`` is the heading of the rows' names."""
    lines = []
    for name, row in rows.items():
        values = [(row.get(key), form) for key, (_, form) in columns.items()]
        lines.append([name, *("–" if v is None else form.format(v) for v, form in values)])
    return markdown.table([first, *(head for head, _ in columns.values())], lines)


def verdicts(bars: Sequence[Bar]) -> str:
    """A line for each bar, under a heading; nothing without any."""
    lines = (f"- {'held' if bar.held else '**missed**'}: {bar.text}\n" for bar in bars)
    return "Targets:\n\n" + "".join(lines) if bars else ""


def write_report(out: Path, text: str, **about: object) -> None:
    """Write README.md and say so, and about.json with the provenance of the run."""
    write_json(out / "about.json", provenance() | about)
    write_file(out / "README.md", text)
    print(out / "README.md")
