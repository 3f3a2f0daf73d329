"""Time, memory and truth on focus stacks, beside other programs, in one run on one machine.

    python -m benchmarks.stacks --out docs/results/stacks
    python -m benchmarks.stacks --only pcb memory --tools ours FocusWeave

A table for each part, and README.md with all of them. Programs are whole processes, from start to
the written file; nothing else should run on the machine.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import parts
from benchmarks.parts import Setting
from benchmarks.report import Bar, Columns, Row, Rows, table, verdicts, write_report
from benchmarks.tools import TOOLS
from evaluation.peers import choose_peers
from utils.errors import UserError, cli, option_parser


class Part(NamedTuple):
    """A table: how its rows are measured, its columns, its requirements."""

    title: str
    note: str
    measure: Callable[[Setting, Rows], None]
    first: str
    columns: Columns
    bars: Callable[[Mapping[str, Row]], list[Bar]]


COST = {
    "seconds": ("time, s", "{:.1f}"),
    "cpu": ("CPU time, s", "{:.1f}"),
    "megabytes": ("peak memory, MB", "{:.0f}"),
}
QUALITY = {
    "band": ("FDB PSNR, dB ↑", "{:.2f}"),
    "halo": ("halo pixels ↓", "{:.2%}"),
    "psnr": ("PSNR, dB ↑", "{:.2f}"),
}
PARTS = {
    "pcb": Part(
        "A real stack of 7 frames of 3 MP",
        "Each program aligns it by itself; times are of whole processes.",
        parts.pcb,
        "program",
        {"version": ("version", "{}"), **COST, "failed": ("failed", "{}")},
        parts.ratio_bars,
    ),
    "truth": Part(
        "A generated stack of 10 frames of 12 MP, registered",
        "Halo pixels: those within 20 px of a depth edge in which a channel is wrong by more than "
        "10/255. Oracle selection takes for each pixel the frame that is nearest to the truth.",
        parts.truth,
        "program",
        {**QUALITY, **COST, "failed": ("failed", "{}")},
        parts.truth_bars,
    ),
    "memory": Part(
        "Peak memory",
        "Of our whole process, with alignment, over sizes and numbers of frames.",
        parts.memory,
        "frames",
        {"megabytes": COST["megabytes"], "each": ("MB per megapixel", "{:.0f}")},
        parts.memory_bars,
    ),
    "sweep": Part(
        "Time a frame",
        "A focus sweep over 3 MP to and fro, so that neighbours differ as much in any number of "
        "frames, with alignment. A further frame takes what the process takes longer than for the "
        "row above, by the frame. The fastest of three rounds.",
        parts.sweep,
        "stack",
        {
            **COST,
            "each": ("seconds a frame in all", "{:.2f}"),
            "further": ("seconds a further frame", "{:.2f}"),
        },
        parts.sweep_bars,
    ),
}


def report(out: Path) -> str:
    """All tables measured so far, as Markdown."""
    text = "# Focus stacks: time, memory and truth\n\nWritten by `python -m benchmarks.stacks`.\n"
    for name, part in PARTS.items():
        rows = Rows(out / f"{name}.json", resume=True).rows
        if rows:
            body = table(rows, part.columns, part.first)
            text += f"\n## {part.title}\n\n{part.note}\n\n{body}\n{verdicts(part.bars(rows))}"
    return text


@cli
def main(arguments: Sequence[str] | None = None) -> None:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    names = [tool.name for tool in TOOLS]
    add("--tools", nargs="+", choices=names, default=[], metavar="NAME")
    add("--resume", action="store_true", help="keep rows already measured")
    add("--photographs", type=Path, default=Path("datasets/bsds500/images/test"))
    add("--pcb", type=Path, default=Path("datasets/stacks/pcb"), help="the real stack")
    add("--work", type=Path, default=Path("datasets/stacks"), help="made stacks")
    add("--out", type=Path, default=Path("docs/results/stacks"))
    options = parser.parse_args(arguments)
    for folder in (options.photographs, options.pcb):
        if not folder.is_dir():
            raise UserError(f"no folder {folder}; python -m data.prepare fetches bsds500 and pcb")
    tools, notes = choose_peers(options.tools, TOOLS, align=True)
    print(*notes, sep="\n", end="\n" if notes else "")
    setting = Setting(options.photographs, options.pcb, options.work, tools)
    for name in options.only:
        PARTS[name].measure(setting, Rows(options.out / f"{name}.json", options.resume))
    write_report(options.out, report(options.out), notes=notes)
    print(options.out / "README.md")


if __name__ == "__main__":
    raise SystemExit(main())
