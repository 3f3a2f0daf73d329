"""PyTorch and ONNX Runtime on one pair, on the CPU, in one run.

    python -m benchmarks.backends
    python -m benchmarks.backends --pair near.png far.png

Prints the fastest round of each: slower ones are due to other work of the machine. Then what a
photograph more in a group costs, and what the whole process costs, with ONNX Runtime.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.measure import ROOT, Cost, Failed, measure
from benchmarks.report import Bar, verdicts
from fusion.backends import ONNX, Backend, OnnxBackend, TorchBackend
from fusion.fuse import fuse
from models import WEIGHTS
from models.build import load_model
from utils import markdown
from utils.errors import UserError, cli, option_parser
from utils.images import read_photo

PAIR = [ROOT / f"data/samples/cat-{half}.png" for half in "AB"]
EAGER, GRAPH = "PyTorch", "ONNX Runtime"
MORE = 2  # photographs more, to time what one costs


@cli
def main(argv: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--pair", nargs=2, default=PAIR, metavar="FILE", help="default: a sample")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="safetensors file")
    parser.add_argument("--onnx", type=Path, default=ONNX, help="from models.export")
    parser.add_argument("--threads", type=int, default=2, help="threads of each; default: 2")
    parser.add_argument("--rounds", type=int, default=30, help="timed runs; default: 30")
    args = parser.parse_args(argv)
    if min(args.threads, args.rounds) < 1:
        raise UserError("--threads and --rounds have to be at least 1")
    torch.set_num_threads(args.threads)
    photos = [read_photo(path).rgb for path in args.pair]
    if photos[0].shape != photos[1].shape or photos[0].dtype != photos[1].dtype:
        raise UserError(f"--pair {args.pair[0]} {args.pair[1]}: they differ in size or depth")
    backends: dict[str, Backend] = {
        EAGER: TorchBackend(load_model(args.weights)),
        GRAPH: OnnxBackend(args.onnx, args.threads),
    }
    height, width = photos[0].shape[:2]
    print(f"{width}×{height}, {args.threads} threads, fastest of {args.rounds} rounds\n")
    found, more = compare(backends, photos, args.rounds)
    print(table(found))
    whole = {
        name: run(args.pair, weights)
        for name, weights in ((EAGER, args.weights), (GRAPH, args.onnx))
    }
    print(verdicts(bars(height * width, found[GRAPH][0], more, whole)), end="")


def compare(
    backends: dict[str, Backend], photos: list[np.ndarray], rounds: int
) -> tuple[dict[str, tuple[float, int]], float]:
    """Fuse two photographs (H, W, 3) with each back end, and ``MORE`` photographs more, out of
    focus everywhere, with ONNX Runtime. Returns, for each back end, the seconds of its fastest
    round and the greatest difference from PyTorch's result in steps of their type; and the seconds
    with the photographs more."""
    images = {name: fuse(photos, backend, align=False).image for name, backend in backends.items()}
    first = images[EAGER].astype(np.float64)
    blurred = [cv2.GaussianBlur(photos[i % 2], None, 3 + i) for i in range(MORE)]
    jobs = {name: (photos, backend) for name, backend in backends.items()}
    jobs["more"] = [*photos, *blurred], backends[GRAPH]
    seconds = dict.fromkeys(jobs, math.inf)
    for _ in tqdm(range(rounds), unit="round", leave=False):
        for name, job in jobs.items():
            started = time.perf_counter()
            fuse(*job, align=False)
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    steps = {name: int(np.abs(image - first).max()) for name, image in images.items()}
    return {name: (seconds[name], steps[name]) for name in backends}, seconds["more"]


def run(pair: list[Path], weights: Path) -> Cost:
    """The cost of the command line on a pair, from start to the written file."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as output:
        options = "--device", "cpu", "--weights", weights, "--output", output
        command = [sys.executable, ROOT / "run_inference.py", "--input", *pair, *options]
        try:
            return measure([command])
        except Failed as reason:
            raise UserError(str(reason)) from reason


def bars(pixels: int, pair: float, more: float, whole: dict[str, Cost]) -> list[Bar]:
    """Targets for the seconds of a ``pair`` of so many pixels each, for those with ``MORE``
    photographs more, and for whole processes, of which PyTorch's was the default before."""
    most = 0.06 * pixels / 520**2
    another = (more - pair) / MORE / pair
    half = whole[GRAPH].seconds / whole[EAGER].seconds
    return [
        Bar(f"a pair in {pair:.3f} s, at most {most:.3f} (0.06 at 520×520)", pair <= most),
        Bar(f"a photograph more costs {another:.2f} of a pair, at most 0.6", another <= 0.6),
        Bar(
            f"the whole process in {whole[GRAPH].seconds:.2f} s and "
            f"{whole[GRAPH].megabytes:.0f} MB, {half:.2f} of PyTorch's, at most 0.5",
            half <= 0.5,
        ),
    ]


def table(found: dict[str, tuple[float, int]]) -> str:
    """What :func:`compare` found, as Markdown."""
    rows = []
    for name, (seconds, steps) in found.items():
        rows.append([name, f"{seconds:.3f}", f"{found[EAGER][0] / seconds:.2f}", str(steps)])
    return markdown.table(["", "seconds", "PyTorch's time / its", "differs by"], rows)


if __name__ == "__main__":
    sys.exit(main())
