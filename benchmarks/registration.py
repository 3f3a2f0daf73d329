"""Registration accuracy: corner errors on generated stacks with known motion.

    python -m benchmarks.registration --out docs/results/registration

Writes corners.json, and README.md with the table and what it shows.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.measure import Failed
from benchmarks.report import Bar, Row, Rows, shared_options, table, verdicts, write_report
from benchmarks.synthetic_stacks import Motion, SyntheticStack, stack
from defocus.sources import Photographs
from fusion.align import Registration, register
from fusion.motion import corners_of
from utils.errors import cli

SMALL = {"size": (768, 1024)}
TWO, THREE = ({**SMALL, "layers": n, "frames": n} for n in (2, 3))
# By name: number of stacks, and arguments of :func:`measure`.
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "0.8 MP": (6, SMALL),
    "0.8 MP, other exposure (±0.3 stops), noise": (6, {**SMALL, "exposure": 0.3, "noise": 0.01}),
    "0.8 MP, blur up to 24 px": (6, {**SMALL, "spread": 6.0}),
    "0.8 MP, blur up to 24 px, three frames": (6, {**THREE, "spread": 12.0}),
    "0.8 MP, two frames, blur 17 px": (6, {**TWO, "spread": 17.0}),
    "0.8 MP, two frames, blur 20 px": (6, {**TWO, "spread": 20.0}),
    "0.8 MP, two frames, blur 24 px": (6, {**TWO, "spread": 24.0}),
    "0.8 MP, blur up to 32 px": (6, {**SMALL, "spread": 8.0}),
    "0.8 MP, in front of white": (6, {**SMALL, "background": 255}),
    "0.8 MP, in front of black": (6, {**SMALL, "background": 0}),
    "0.8 MP, round field that stays": (6, {**SMALL, "field": "round"}),
    "0.8 MP, one frame overexposed": (6, {**SMALL, "field": "overexposed"}),
    "3 MP": (3, {"size": (1536, 2048)}),
    "12 MP": (1, {"size": (3000, 4000)}),
}
COLUMNS = {
    "mean": ("mean corner error, px", "{:.3f}"),
    "largest": ("largest, px", "{:.3f}"),
    "frames": ("frames", "{}"),
    "left_out": ("left out", "{}"),
    "seconds": ("s a frame", "{:.2f}"),
    "failed": ("failed", "{}"),
}
LIMIT = 0.2  # px, of the mean
NOTE = """# Registration

Written by `python -m benchmarks.registration`. Each frame is shifted by up to 20 px, rotated by up
to 1° and scaled by up to 3 % against the reference. The corner error is the distance of a corner
from its true place.
"""


def in_field(frames: list[np.ndarray], field: str | None) -> list[np.ndarray]:
    """The frames in a field that is "round", black outside a circle that does not move with the
    scene, as in a microscope; or "overexposed", the first frame 1.8 times as bright."""
    if field == "overexposed":
        return [cv2.convertScaleAbs(frames[0], alpha=1.8), *frames[1:]]
    if field == "round":
        height, width = frames[0].shape[:2]
        inside = np.zeros_like(frames[0])
        cv2.circle(inside, (width // 2, height // 2), int(0.48 * height), (255,) * 3, -1)
        return [cv2.bitwise_and(frame, inside) for frame in frames]
    return frames


def corner_errors(
    found: Sequence[Registration], made: SyntheticStack, size: tuple[int, int]
) -> list[float]:
    """Distances in pixels, 4 for each registered frame but the reference."""
    corners, errors = corners_of(size), []
    for registration, true in zip(found, made.matrices, strict=True):
        if registration.matrix is not None and not np.array_equal(true, np.eye(3)):
            places = [cv2.perspectiveTransform(corners, m)[0] for m in (registration.matrix, true)]
            errors.extend(np.hypot(*(places[0] - places[1]).T))
    return errors


def measure(
    stacks: int, photographs: Photographs, *, field: str | None = None, **arguments: Any
) -> Row:
    """Corner errors over generated stacks; raises :class:`Failed` if all frames are left out."""
    errors, found, seconds = [], [], 0.0
    for seed in tqdm(range(stacks), unit="stack", disable=None):
        made = stack(200 + seed, photographs=photographs, motion=Motion(), **arguments)
        images = in_field(made.frames, field)
        started = time.perf_counter()
        registered = register(images, reference=len(images) // 2)
        seconds += time.perf_counter() - started
        errors += corner_errors(registered, made, arguments["size"])
        found += registered
    if not errors:
        raise Failed("every frame was left out")
    return {
        "mean": float(np.mean(errors)),
        "largest": float(max(errors)),
        "frames": len(found),
        "left_out": sum(registration.matrix is None for registration in found),
        "seconds": seconds / len(found),
    }


def bars(rows: Mapping[str, Row]) -> list[Bar]:
    return [
        Bar(f"{name}: {row['mean']:.3f} px on average, below {LIMIT} px", row["mean"] < LIMIT)
        for name, row in rows.items()
        if "mean" in row
    ]


@cli
def main(arguments: Sequence[str] | None = None) -> None:
    options = shared_options(__doc__, CASES, "registration").parse_args(arguments)
    photographs = Photographs(options.photographs)
    rows = Rows(options.out / "corners.json", options.resume)
    for name in options.only:
        count, case = CASES[name]
        rows.add(name, partial(measure, count, photographs, **case))
    found = {name: rows.rows[name] for name in CASES if name in rows.rows}
    body = table(found, COLUMNS, "generated stacks, of 5 frames unless said")
    write_report(options.out, f"{NOTE}\n{body}\n{verdicts(bars(found))}")


if __name__ == "__main__":
    raise SystemExit(main())
