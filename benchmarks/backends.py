"""PyTorch and ONNX Runtime on one pair, on the CPU, in one run.

    python -m benchmarks.backends
    python -m benchmarks.backends --pair near.png far.png

Prints the fastest round of each: slower ones are due to other work of the machine.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fusion.backends import ONNX, WEIGHTS, Backend, OnnxBackend, TorchBackend
from fusion.fuse import fuse
from models.build import load_model
from utils import markdown
from utils.errors import UserError, cli, option_parser
from utils.images import read_photo

PAIR = [WEIGHTS.parents[1] / f"data/samples/cat-{half}.png" for half in "AB"]
EAGER = "PyTorch"


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
    backends: dict[str, Backend] = {
        EAGER: TorchBackend(load_model(args.weights)),
        "ONNX Runtime": OnnxBackend(args.onnx, args.threads),
    }
    height, width = photos[0].shape[:2]
    print(f"{width}×{height}, {args.threads} threads, fastest of {args.rounds} rounds\n")
    print(table(compare(backends, photos, args.rounds)), end="")


def compare(
    backends: dict[str, Backend], photos: list[np.ndarray], rounds: int
) -> dict[str, tuple[float, int]]:
    """For each back end the least seconds to fuse two photographs (H, W, 3), and the greatest
    difference from PyTorch's result, in steps of their type."""
    images = {name: fuse(photos, backend, align=False).image for name, backend in backends.items()}
    first = images[EAGER].astype(np.float64)
    seconds = dict.fromkeys(backends, math.inf)
    for _ in tqdm(range(rounds), unit="round", leave=False):
        for name, backend in backends.items():
            started = time.perf_counter()
            fuse(photos, backend, align=False)
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    steps = {name: int(np.abs(image - first).max()) for name, image in images.items()}
    return {name: (seconds[name], steps[name]) for name in backends}


def table(found: dict[str, tuple[float, int]]) -> str:
    """What :func:`compare` found, as Markdown."""
    rows = []
    for name, (seconds, steps) in found.items():
        rows.append([name, f"{seconds:.3f}", f"{found[EAGER][0] / seconds:.2f}", str(steps)])
    return markdown.table(["", "seconds", "PyTorch's time / its", "differs by"], rows)


if __name__ == "__main__":
    sys.exit(main())
