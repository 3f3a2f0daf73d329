"""Run every command of the README, in order, in a copy of the repository, and print a table.

    python -m tests.readme

The copy has a small ``datasets/`` in the layout of ``data.prepare``, and its configs ask for small
samples and few steps. Otherwise the commands run as they stand, without the internet.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import yaml
from scipy.io import savemat

from data.prepare import SOURCES, digest
from tests.commands import ROOT, commands, environment, execute, lay_out
from tests.conftest import texture
from utils.markdown import table

ELSEWHERE = {  # how a command begins, and why it is not run
    "python3 -m venv": "sets up what runs these",
    "pip install": "needs a package index",
    "make test": "runs these",
    "python -m pytest": "runs these",
    "make app": "does not end; test_app.py",
    "python app.py": "does not end; test_app.py",
    "tensorboard": "does not end",
}
SHORTER = {"--count 6000 --size 256": "--count 4 --size 64", "--profile": "--profile --steps 2"}
SMALL = {
    "data": {"workers": 0, "defocus": {"size": 64, "sigma": [0.7, 1.5]}},
    "validation": {
        "samples": 2,
        "scene_samples": 1,
        "quick": 1,
        "every": 2,
        "defocus": {"size": 64},
    },
    "train": {"steps": 2, "batch": 1},
}


class Row(NamedTuple):
    """The result of a command; ``seconds`` is None if it was not run."""

    command: str
    result: str
    seconds: float | None
    failed: bool = False


def make_copy(folder: Path) -> Path:
    """A repository whose reader has downloaded (small) data and taken photographs."""
    lay_out(folder)
    for path in folder.glob("configs/**/*.yaml"):
        if path.name != "smoke.yaml":
            values = merge(yaml.safe_load(path.read_text()), SMALL)
            path.unlink()  # a link to ours
            path.write_text(yaml.safe_dump(values))
    for number, split in enumerate(("train", "val", "test")):
        for i in range(4):
            image, mask = photograph(10 * number + i)
            name = f"datasets/bsds500/{{}}/{split}/{100 * number + i}"
            save(folder / f"{name.format('images')}.jpg", image)
            ground_truth = np.empty((1, 1), object)
            ground_truth[0, 0] = {"Segmentation": mask + np.uint16(1)}
            path = folder / f"{name.format('groundTruth')}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            savemat(path, {"groundTruth": ground_truth})
    for i in (1, 2):
        sharp = texture(i, 192, 208)
        blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
        left = np.arange(208)[:, None] < 104
        save(folder / f"datasets/lytro/lytro-0{i}-A.jpg", np.where(left, sharp, blurred))
        save(folder / f"datasets/lytro/lytro-0{i}-B.jpg", np.where(left, blurred, sharp))
        sharp = texture(3, 192, 208)  # the same scene, focused on its left, then on its right
        frame = np.where(left == (i == 1), sharp, cv2.GaussianBlur(sharp, (0, 0), 2))
        save(folder / f"photographs/flower/{i}.jpg", frame)
    for name in ("bsds500", "lytro"):
        keep_record(folder / "datasets", name)
    return folder


def photograph(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A blue disc before a brown texture (H, W, 3) uint8, and the disc's mask (H, W)."""
    image = texture(seed, 160, 176) // 2 + np.uint8([10, 60, 110])
    mask = cv2.circle(np.zeros((160, 176), np.uint8), (90, 80), 45, 1, -1)
    front = texture(seed + 500, 160, 176) // 2 + np.uint8([127, 60, 0])
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)[..., None]
    return (alpha * front + (1 - alpha) * image).astype(np.uint8), mask


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95])


def keep_record(root: Path, name: str) -> None:
    """Say that ``data.prepare`` made a folder, which has to be of the layout that it makes."""
    (archive,) = SOURCES[name].archives
    for path in (p for p in (root / archive.folder).rglob("*") if p.is_file()):
        inside = path.relative_to(root / archive.folder).as_posix()
        assert any(re.match(archive.members, x) for x in (inside, f"BSDS500/data/{inside}"))
    record = {"content_sha256": digest(root / archive.folder)}
    (root / f"{archive.folder}.source.json").write_text(json.dumps(record))


def merge(values: dict, more: dict) -> dict:
    """Nested values, some replaced or added."""
    new = {k: merge(values.get(k) or {}, v) if isinstance(v, dict) else v for k, v in more.items()}
    return values | new


def run(folder: Path) -> Iterator[Row]:
    """Run the README's commands in a copy, one after another."""
    surroundings = environment(folder)
    for command in commands(ROOT / "README.md"):
        reason = next((why for begin, why in ELSEWHERE.items() if command.startswith(begin)), None)
        if reason:
            yield Row(command, f"not run: {reason}", None)
            continue
        line = command
        for long, short in SHORTER.items():
            line = line.replace(long, short)
        started = time.perf_counter()
        code, said = execute(["bash", "-c", line], folder, surroundings)
        seconds = time.perf_counter() - started
        last = (said.strip().splitlines() or [""])[-1]
        yield Row(line, f"exit code {code}: {last}" if code else "ran", seconds, code != 0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.readme",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        rows = []
        for row in run(make_copy(Path(temporary) / "mmfnet")):
            print(f"{row.result}: {row.command}", file=sys.stderr, flush=True)
            rows.append(row)
    cells = (
        [f"`{command}`", result, "–" if seconds is None else f"{seconds:.1f}"]
        for command, result, seconds, _ in rows
    )
    print(table(["command", "result", "seconds"], cells), end="")
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
