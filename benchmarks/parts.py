"""The measurements on focus stacks, a function for each table, and their required values."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.folding import FOLDS, Fold
from benchmarks.generated import Quality, Truth, choose_frames, generated, quality, read_truth
from benchmarks.measure import Failed, measure
from benchmarks.raytracing.scores import oracle
from benchmarks.report import Bar, Row, Rows
from benchmarks.tools import OPENFOCUS_DEFAULT, OURS, result
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
    folds: tuple[int, int] = (768, 1024)
    fold_stacks: int = 12

    def stack(self, seed: int, size: tuple[int, int], layers: int, frames: int) -> Path:
        return generated(self.work, seed, size, layers, frames, self.photographs)


def run(tool: Peer, frames: Path, align: bool, truth: Truth | None = None) -> Row:
    """What a tool took to fuse a folder of frames, and how near the truth it came."""
    with tempfile.TemporaryDirectory(prefix="stacks-") as output:
        try:
            cost = measure(tool.command_lines([frames], Path(output), align))
        except Failed as reason:
            return {"failed": str(reason)}
        row = {"version": tool.version(), **cost._asdict()}
        if truth:
            row |= quality(read_photo(result(Path(output))).rgb, truth)._asdict()
        return row


def pcb(setting: Setting, rows: Rows) -> None:
    for tool in setting.tools:
        if tool.name in ALIGNING:
            rows.add(tool.name, lambda tool=tool: run(tool, setting.pcb, align=True))


def truth(setting: Setting, rows: Rows) -> None:
    home = setting.stack(1, setting.large, 5, setting.large_frames)
    true = read_truth(home)
    for tool in setting.tools:
        rows.add(tool.name, lambda tool=tool: run(tool, home / "frames", align=False, truth=true))
    rows.add("oracle selection", lambda: quality(oracle(true.image, read(home)), true)._asdict())


def truth_bars(rows: Mapping[str, Row]) -> list[Bar]:
    ours, bars = rows.get(OURS.name, {}), []
    measured = {name: row for name, row in rows.items() if "band" in row}
    methods = [name for name in measured if name.startswith("OpenFocus")]
    best = max(methods, key=lambda name: measured[name]["band"], default=None)
    for name in filter(measured.get, (best, "FocusWeave", "enfuse")):
        other = measured[name]
        bars += [
            Bar(
                f"FDB PSNR {ours['band']:.2f} dB, above {name}'s {other['band']:.2f} dB",
                ours["band"] > other["band"],
            ),
            Bar(
                f"halo pixels {ours['halo']:.2%}, fewer than {name}'s {other['halo']:.2%}",
                ours["halo"] < other["halo"],
            ),
        ]
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
    """Frames of a few sizes; and of the second size, ever more of them."""
    plans = [(size, 5) for size in setting.sizes]
    plans += [(setting.sizes[1], count) for count in setting.counts]
    for size, count in plans:
        megapixels = size[0] * size[1] / 1e6

        def one(size=size, count=count, megapixels=megapixels) -> Row:
            home = setting.stack(2, size, 2, 3)
            frames = choose_frames(home, [i % 3 for i in range(count)], setting.work / "chosen")
            row = run(OURS, frames, align=True)
            each = row["megabytes"] / megapixels if "megabytes" in row else None
            return {**row, "megapixels": megapixels, "frames": count, "each": each}

        rows.add(f"{count} of {size[1]}×{size[0]}", one)


def memory_bars(rows: Mapping[str, Row]) -> list[Bar]:
    return [
        Bar(
            f"{name}: {row['each']:.0f} MB per megapixel of frame size, at most 60",
            row["each"] <= 60,
        )
        for name, row in rows.items()
        if row.get("each")
    ]


def sweep(setting: Setting, rows: Rows) -> None:
    """The same focus sweep, to and fro, in ever more frames."""
    positions = min(setting.sweep_frames)
    home = setting.stack(3, setting.sweep, 5, positions)
    period = 2 * (positions - 1)
    before: Row = {}
    for count in setting.sweep_frames:

        def one(count=count, before=before) -> Row:
            numbers = [min(i % period, period - i % period) for i in range(count)]
            chosen = choose_frames(home, numbers, setting.work / "chosen")
            rounds = [run(OURS, chosen, align=True) for _ in range(setting.sweep_rounds)]
            row = min(rounds, key=lambda row: row.get("seconds", math.inf)) | {"frames": count}
            if "seconds" in row:
                row["each"] = row["seconds"] / count
            if "seconds" in row and "seconds" in before:
                more = count - before["frames"]
                row["further"] = (row["seconds"] - before["seconds"]) / more
            return row

        before = rows.add(f"{count} frames", one)


def sweep_bars(rows: Mapping[str, Row]) -> list[Bar]:
    """Beyond what a process takes to start and to write, and with it."""
    bars = []
    for key, what in (("further", "time of a further frame"), ("each", "time a frame in all")):
        values = [row[key] for row in rows.values() if row.get(key)]
        if len(values) > 1:
            spread = (max(values) - min(values)) / np.mean(values)
            bars.append(Bar(f"{what} within {spread:.0%}, at most 15%", bool(spread <= 0.15)))
    return bars


def folding(setting: Setting, rows: Rows) -> None:
    """Generated stacks of 5 layers through each way of folding the cascade."""
    homes = [setting.stack(100 + i, setting.folds, 5, 5) for i in range(setting.fold_stacks)]

    def one(fuse: Fold, name: str) -> Row:
        scores, seconds = [], 0.0
        for home in tqdm(homes, desc=name, unit="stack", disable=None):
            frames, start = list(read(home)), time.perf_counter()
            image = fuse(frames)
            seconds += time.perf_counter() - start
            scores.append(quality(image, read_truth(home)))
        means = Quality(*np.mean(scores, axis=0).tolist())
        return {**means._asdict(), "seconds": seconds / len(homes), "stacks": len(homes)}

    for name, fuse in FOLDS.items():
        rows.add(name, lambda fuse=fuse, name=name: one(fuse, name))


def folding_bars(rows: Mapping[str, Row]) -> list[Bar]:
    ours, *others = rows
    return [
        Bar(
            f"{symbol} {rows[ours][key]:.2f} dB, {other} {rows[other][key]:.2f} dB",
            rows[ours][key] >= rows[other][key],
        )
        for other in others
        for key, symbol in (("band", "FDB PSNR"), ("psnr", "PSNR"))
    ]


def read(home: Path) -> Iterator[np.ndarray]:
    """The frames of a generated stack, one after another."""
    return (read_photo(path).rgb for path in sorted((home / "frames").iterdir()))
