"""Time, memory and truth on focus stacks, beside other programs, in one run on one machine.

    python -m benchmarks.stacks --out docs/results/stacks
    python -m benchmarks.stacks --only pcb memory --tools ours FocusWeave

A table for each part, and README.md with all of them. Programs are whole processes, from start to
the written file; nothing else should run on the machine.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from benchmarks.generated import Truth, choose_frames, generated, oracle, read_truth
from benchmarks.report import Bar, Row, Rows, folder, shared_options, table, verdicts, write_report
from benchmarks.tools import NAMES, OPENFOCUS_DEFAULT, OURS, TOOLS, fuse_with
from evaluation.peers import Peer, choose_peers
from utils.errors import cli
from utils.images import read_photo
from utils.provenance import STARTED

TWELVE = (3000, 4000)
REGISTERED = "registered"  # of frames that are fused as they are
ALIGNING = (OURS.name, OPENFOCUS_DEFAULT, "FocusWeave", "enfuse")


class Setting(NamedTuple):
    """What is measured, and with what; sizes are (H, W)."""

    photographs: Path
    pcb: Path
    work: Path
    tools: Sequence[Peer]
    large: tuple[int, int] = TWELVE
    large_frames: int = 10
    sizes: Sequence[tuple[int, int]] = ((1536, 2048), (2121, 2828), TWELVE, (4243, 5657))
    counts: Sequence[int] = (10, 20, 40)

    def stack(self, seed: int, size: tuple[int, int], layers: int, frames: int) -> Path:
        return generated(self.work, seed, size, layers, frames, self.photographs)


def run(tool: Peer, frames: Path, align: bool, truth: Truth | None = None) -> Row:
    """Fuse a folder of frames with a tool: its cost, and how near it came to the truth."""
    fused, cost = fuse_with(tool, frames, align)
    row = {"version": tool.version(), "measured": f"{STARTED:%Y-%m-%d}", **cost._asdict()}
    return row | truth.score(fused) if truth else row


def pcb(setting: Setting, rows: Rows) -> None:
    frames = folder(setting.pcb)
    for tool in setting.tools:
        if tool.name in ALIGNING:
            rows.add(tool.name, partial(run, tool, frames, align=True))


def truth(setting: Setting, rows: Rows) -> None:
    home = setting.stack(1, setting.large, 5, setting.large_frames)
    true, frames = read_truth(home), home / "frames"
    for tool in setting.tools:
        rows.add(tool.name, partial(run, tool, frames, False, true))
    images = (read_photo(path).rgb for path in sorted(frames.iterdir()))
    rows.add("oracle selection", lambda: true.score(oracle(true.image, images)))


def truth_bars(rows: Mapping[str, Row]) -> list[Bar]:
    """Nearer to the truth than FocusWeave, enfuse and the best method of OpenFocus."""
    bars, scored = [], {name: row for name, row in rows.items() if "band" in row}
    ours = scored.pop(OURS.name, None)
    methods = [name for name in scored if name.startswith("OpenFocus")]
    best = max(methods, key=lambda name: scored[name]["band"], default=None)
    for name in (best, "FocusWeave", "enfuse"):
        if ours and name in scored:
            band, halo = scored[name]["band"], scored[name]["halo"]
            text = f"FDB PSNR {ours['band']:.2f} dB, above {name}'s {band:.2f} dB"
            bars.append(Bar(text, ours["band"] > band))
            text = f"halo pixels {ours['halo']:.2%}, fewer than {name}'s {halo:.2%}"
            bars.append(Bar(text, ours["halo"] < halo))
    return bars + ratio_bars(rows, slowest=1.5, largest=0.3)


def ratio_bars(rows: Mapping[str, Row], slowest: float = 1.2, largest: float = 1) -> list[Bar]:
    """Time and memory against OpenFocus's default, and against FocusWeave within these factors."""
    ours, bars = rows.get(OURS.name, {}), []
    for name, most, limit in ((OPENFOCUS_DEFAULT, 1, 1), ("FocusWeave", slowest, largest)):
        if "seconds" in ours and "seconds" in rows.get(name, {}):
            slower, larger = (ours[key] / rows[name][key] for key in ("seconds", "megabytes"))
            bars.append(Bar(f"time {slower:.2f} × {name}, at most {most}", slower <= most))
            bars.append(Bar(f"peak memory {larger:.2f} × {name}, below {limit}", larger < limit))
    return bars


def memory(setting: Setting, rows: Rows) -> None:
    """Five frames of several sizes, and more frames of the second size, in groups as large as the
    machine allows; then the sizes within what groups of two may take, and a large pair."""

    def one(size: tuple[int, int], count: int, align: bool = True, **limit: int) -> Row:
        numbers = [i % 3 for i in range(count)]
        frames = choose_frames(setting.stack(2, size, 2, 3), numbers, setting.work / "chosen")
        tool = replace(OURS, commands=partial(OURS.commands, **limit))
        row = run(tool, frames, align)
        return row | {"frame": row["seconds"] / count, **limit}

    more = product([setting.sizes[1]], setting.counts)
    for size, count in [*product(setting.sizes, [5]), *more]:
        rows.add(f"{count} of {size[1]}×{size[0]}", partial(one, size, count))
    for size in setting.sizes:
        limit = 250_000_000 + 30 * math.prod(size)
        rows.add(f"5 of {size[1]}×{size[0]}, limited", partial(one, size, 5, memory=limit))
    height, width = setting.sizes[-1]
    rows.add(f"2 of {width}×{height}, {REGISTERED}", partial(one, (height, width), 2, align=False))


def memory_bars(rows: Mapping[str, Row]) -> list[Bar]:
    """Peaks within the limits, and time and memory of the large pair."""
    text = "{}: {:.0f} MB, at most {:.0f}"
    peaks = {n: (r["megabytes"], r["memory"] / 1e6) for n, r in rows.items() if "memory" in r}
    bars = [Bar(text.format(name, *each), each[0] <= each[1]) for name, each in peaks.items()]
    for name, row in rows.items():
        if name.endswith(REGISTERED) and "failed" not in row:
            seconds, peak = row["seconds"], row["megabytes"]
            text = f"{name}: {seconds:.1f} s and {peak:.0f} MB, at most 6 and 1200"
            bars.append(Bar(text, seconds <= 6 and peak <= 1200))
    return bars


class Part(NamedTuple):
    """A table: how its rows are measured, its columns, its requirements."""

    title: str
    note: str
    measure: Callable[[Setting, Rows], None]
    first: str
    columns: Mapping[str, tuple[str, str]]
    bars: Callable[[Mapping[str, Row]], list[Bar]]


COST = {
    "seconds": ("time, s", "{:.1f}"),
    "cpu": ("CPU time, s", "{:.1f}"),
    "megabytes": ("peak memory, MB", "{:.0f}"),
}
ORIGIN = {
    "version": ("version", "{}"),
    "measured": ("measured", "{}"),
    "failed": ("failed", "{}"),
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
        pcb,
        "program",
        {**COST, **ORIGIN},
        ratio_bars,
    ),
    "truth": Part(
        "A generated stack of 10 frames of 12 MP, registered",
        "Halo pixels: those within 20 px of a depth edge in which a channel is wrong by more than "
        "10/255. Oracle selection takes for each pixel the frame that is nearest to the truth.",
        truth,
        "program",
        {**QUALITY, **COST, **ORIGIN},
        truth_bars,
    ),
    "memory": Part(
        "Memory and time over sizes and numbers of frames",
        "Of our whole process, with alignment. Limited: by `--memory`, to 250 MB and 30 MB for "
        "each megapixel, in groups of two.",
        memory,
        "frames",
        {
            "megabytes": COST["megabytes"],
            "seconds": COST["seconds"],
            "frame": ("seconds a frame", "{:.2f}"),
        },
        memory_bars,
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
    parser = shared_options(__doc__, PARTS, "stacks")
    add = parser.add_argument
    add("--tools", nargs="+", choices=NAMES, default=[], metavar="NAME", help="; ".join(NAMES))
    add("--pcb", type=Path, default=Path("datasets/stacks/pcb"), help="the real stack")
    add("--work", type=Path, default=Path("datasets/stacks"), help="made stacks")
    options = parser.parse_args(arguments)
    tools, notes = choose_peers(options.tools, TOOLS, align=True)
    for note in notes:
        print(note)
    setting = Setting(options.photographs, options.pcb, options.work, tools)
    for name in options.only:
        PARTS[name].measure(setting, Rows(options.out / f"{name}.json", options.resume))
    write_report(options.out, report(options.out), notes=notes)


if __name__ == "__main__":
    raise SystemExit(main())
