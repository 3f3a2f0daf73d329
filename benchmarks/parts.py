"""The measurements on focus stacks, a function for each table, and their required values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.generated import Truth, choose_frames, generated, quality, read_truth
from benchmarks.measure import Failed
from benchmarks.raytracing.scores import oracle
from benchmarks.report import Bar, Row, Rows
from benchmarks.tools import OPENFOCUS_DEFAULT, OURS, fuse_with
from evaluation.peers import Peer
from utils.images import read_photo

TWELVE = (3000, 4000)
ALIGNING = (OURS.name, OPENFOCUS_DEFAULT, "FocusWeave", "enfuse")


@dataclass(frozen=True)
class Setting:
    """What is measured, and with what; sizes are (H, W)."""

    photographs: Path
    pcb: Path
    work: Path
    tools: Sequence[Peer]
    large: tuple[int, int] = TWELVE
    large_frames: int = 10
    sizes: Sequence[tuple[int, int]] = ((1536, 2048), (2121, 2828), TWELVE, (4243, 5657))
    counts: Sequence[int] = (10, 20, 40)
    sweep: tuple[int, int] = (1536, 2048)
    sweep_frames: Sequence[int] = (5, 10, 20, 40)
    sweep_rounds: int = 3

    def stack(self, seed: int, size: tuple[int, int], layers: int, frames: int) -> Path:
        return generated(self.work, seed, size, layers, frames, self.photographs)


def run(tool: Peer, frames: Path, align: bool, truth: Truth | None = None) -> Row:
    """Fuse a folder of frames with a tool: its cost, and how near it came to the truth."""
    try:
        fused, cost = fuse_with(tool, frames, align)
    except Failed as reason:
        return {"failed": str(reason)}
    row = {"version": tool.version(), **cost._asdict()}
    return row | quality(fused, truth) if truth else row


def pcb(setting: Setting, rows: Rows) -> None:
    for tool in setting.tools:
        if tool.name in ALIGNING:
            rows.add(tool.name, partial(run, tool, setting.pcb, align=True))


def truth(setting: Setting, rows: Rows) -> None:
    home = setting.stack(1, setting.large, 5, setting.large_frames)
    true = read_truth(home)
    for tool in setting.tools:
        rows.add(tool.name, partial(run, tool, home / "frames", False, true))
    rows.add("oracle selection", lambda: quality(oracle(true.image, read(home)), true))


def truth_bars(rows: Mapping[str, Row]) -> list[Bar]:
    """Nearer to the truth than FocusWeave, enfuse and the best method of OpenFocus."""
    ours, bars = rows.get(OURS.name, {}), []
    measured = {name: row for name, row in rows.items() if "band" in row}
    methods = [name for name in measured if name.startswith("OpenFocus")]
    best = max(methods, key=lambda name: measured[name]["band"], default=None)
    for name in filter(measured.get, (best, "FocusWeave", "enfuse")):
        band, halo = measured[name]["band"], measured[name]["halo"]
        text = f"FDB PSNR {ours['band']:.2f} dB, above {name}'s {band:.2f} dB"
        bars.append(Bar(text, ours["band"] > band))
        text = f"halo pixels {ours['halo']:.2%}, fewer than {name}'s {halo:.2%}"
        bars.append(Bar(text, ours["halo"] < halo))
    return bars + ratio_bars(rows)


def ratio_bars(rows: Mapping[str, Row]) -> list[Bar]:
    """No slower than OpenFocus's default, within 3 times FocusWeave, less memory than both."""
    ours, bars = rows.get(OURS.name, {}), []
    for name, most in ((OPENFOCUS_DEFAULT, 1), ("FocusWeave", 3)):
        if "seconds" in ours and "seconds" in rows.get(name, {}):
            slower, larger = (ours[key] / rows[name][key] for key in ("seconds", "megabytes"))
            bars += [
                Bar(f"time {slower:.2f} × {name}, at most {most}", slower <= most),
                Bar(f"peak memory {larger:.2f} × {name}, below 1", larger < 1),
            ]
    return bars


def memory(setting: Setting, rows: Rows) -> None:
    """Five frames of several sizes, and more frames of the second size."""

    def one(size: tuple[int, int], count: int) -> Row:
        numbers = [i % 3 for i in range(count)]
        frames = choose_frames(setting.stack(2, size, 2, 3), numbers, setting.work / "chosen")
        row, megapixels = run(OURS, frames, align=True), math.prod(size) / 1e6
        each = row["megabytes"] / megapixels if "megabytes" in row else None
        return {**row, "megapixels": megapixels, "frames": count, "each": each}

    plans = [(size, 5) for size in setting.sizes]
    plans += [(setting.sizes[1], count) for count in setting.counts]
    for size, count in plans:
        rows.add(f"{count} of {size[1]}×{size[0]}", partial(one, size, count))


def memory_bars(rows: Mapping[str, Row]) -> list[Bar]:
    each = {name: row["each"] for name, row in rows.items() if row.get("each")}
    text = "{}: {:.0f} MB per megapixel of frame size, at most 60"
    return [Bar(text.format(name, value), value <= 60) for name, value in each.items()]


def sweep(setting: Setting, rows: Rows) -> None:
    """The same focus sweep, to and fro, in ever more frames."""
    positions = min(setting.sweep_frames)
    home = setting.stack(3, setting.sweep, 5, positions)
    period = 2 * (positions - 1)

    def one(count: int, before: Row) -> Row:
        numbers = [min(i % period, period - i % period) for i in range(count)]
        chosen = choose_frames(home, numbers, setting.work / "chosen")
        rounds = [run(OURS, chosen, align=True) for _ in range(setting.sweep_rounds)]
        row = min(rounds, key=lambda row: row.get("seconds", math.inf)) | {"frames": count}
        if "seconds" in row:
            row["each"] = row["seconds"] / count
            if "seconds" in before:
                more = count - before["frames"]
                row["further"] = (row["seconds"] - before["seconds"]) / more
        return row

    before: Row = {}
    for count in setting.sweep_frames:
        before = rows.add(f"{count} frames", partial(one, count, before))


def sweep_bars(rows: Mapping[str, Row]) -> list[Bar]:
    """Time a frame does not depend on their number, without and with a process's start."""
    bars = []
    for key, what in (("further", "time of a further frame"), ("each", "time a frame in all")):
        values = [row[key] for row in rows.values() if row.get(key)]
        if len(values) > 1:
            spread = (max(values) - min(values)) / np.mean(values)
            bars.append(Bar(f"{what} within {spread:.0%}, at most 15%", bool(spread <= 0.15)))
    return bars


def read(home: Path) -> Iterator[np.ndarray]:
    """The frames of a generated stack, one after another."""
    return (read_photo(path).rgb for path in sorted((home / "frames").iterdir()))
