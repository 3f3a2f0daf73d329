"""Fuse pairs of photographs that are focused differently.

    python run_inference.py --input DIR --output DIR
    python run_inference.py --input near.jpg far.jpg --output DIR --maps

In a folder, lytro-01-A.png and lytro-01-B.png (or …_A/…_B, …A/…B, …-1/…-2, …_1/…_2, of any types)
are a pair and give lytro-01-Fusion.png. Photographs are aligned, 8-bit, and equally large. Two grey
ones give a grey result. Transparent ones are fused by their colours, and the result is as opaque as
the more transparent of the two. Large photographs are fused in tiles. Exit code: 0, or 2 if
anything could not be fused; the rest is fused all the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data.pairs import Pair, Problem, find_pairs, name_pair
from models.build import load_model
from models.fuse import SMALLEST, fuse_arrays
from models.mmfnet import MMFNet
from utils.atomic import atomic_path
from utils.config import load_config, to_dict
from utils.device import choose_device
from utils.errors import UserError, cli
from utils.images import Photo, read_photo, write_png
from utils.malloc import keep_freed_memory
from utils.provenance import provenance

WEIGHTS = Path(__file__).parent / "weights/mmfnet.safetensors"
WARM_UP = 520  # pixels: side of the blank pair that is fused before the clock runs


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", nargs="+", required=True, help="a folder, or the two files")
    parser.add_argument("--output", required=True, help="folder of the results")
    parser.add_argument("--maps", action="store_true", help="also …-Guidance.png, …-Boundary.png")
    parser.add_argument("--weights", default=WEIGHTS, help="safetensors, by default the shipped")
    parser.add_argument("--config", help="YAML that the weights must fit, see configs/")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N; auto by default")
    parser.add_argument("--tile", type=int, help="side of tiles in pixels; automatic by default")
    parser.add_argument("--json", metavar="FILE", help="summary, - for standard output")
    return parser.parse_args(argv)


@cli
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    keep_freed_memory()
    if args.tile is not None and args.tile < 1:
        raise UserError(f"--tile {args.tile}: the side of a tile is at least 1 pixel")
    pairs, problems = pairs_of(args.input)
    device = choose_device(args.device)
    config = to_dict(load_config(args.config).model) if args.config else None
    model = load_model(args.weights, config).to(device, memory_format=torch.channels_last)
    output = Path(args.output)
    check_folder(output)
    if args.json not in (None, "-"):
        check_folder(Path(args.json).parent)

    log = sys.stderr if args.json == "-" else sys.stdout
    blank = np.zeros((WARM_UP, WARM_UP, 3), np.uint8)
    fuse_arrays(model, blank, blank)
    done = []
    with tqdm(pairs, unit="pair", disable=len(pairs) < 2) as bar:
        for pair in bar:
            try:
                done.append(fuse_pair(model, pair, output, args.maps, args.tile))
            except UserError as error:
                problems.append(Problem((pair.image1, pair.image2), str(error)))
            else:
                bar.write("{fused}: {width}×{height}, {seconds:.3f} s".format(**done[-1]), log)
    for problem in problems:
        print(f"error: {problem.error}", file=sys.stderr)
    mean = sum(pair["seconds"] for pair in done) / len(done) if done else None
    if done:
        threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        print(
            f"{len(done)} fused, {mean:.3f} s a pair on {device}{threads} (mean; model loaded and "
            "warmed up, without reading and writing files)",
            file=log,
        )
    if args.json:
        summary = {
            "pairs": done,
            "errors": [
                {"files": [str(path) for path in problem.files], "error": problem.error}
                for problem in problems
            ],
            "mean_seconds": mean,
            "device": str(device),
            "weights": str(args.weights),
            **provenance(),
        }
        write_json(args.json, summary)
    return 2 if problems else 0


def pairs_of(inputs: list[str]) -> tuple[list[Pair], list[Problem]]:
    """The pairs that ``--input`` names."""
    if len(inputs) == 1:
        if Path(inputs[0]).is_file():
            raise UserError(f"--input {inputs[0]} is one file; give two, or a folder")
        return find_pairs(inputs[0])
    if len(inputs) != 2:
        raise UserError(f"--input takes a folder or two files, not {len(inputs)}")
    return [name_pair(*inputs)], []


def fuse_pair(
    model: MMFNet, pair: Pair, output: Path, maps: bool = False, tile: int | None = None
) -> dict[str, str | int | float]:
    """Read, fuse and write a pair; files and the network's time in seconds.

    Raises:
        UserError: a photograph cannot be read, their sizes differ or are below 16×16, or the
            results cannot be written.
    """
    photo1, photo2 = read_photo(pair.image1), read_photo(pair.image2)
    height, width = photo1.rgb.shape[:2]
    if photo1.rgb.shape != photo2.rgb.shape:
        raise UserError(
            f"{pair.image1} has {width}×{height} pixels, {pair.image2} "
            f"{photo2.rgb.shape[1]}×{photo2.rgb.shape[0]}; a pair must be aligned and equally large"
        )
    if min(height, width) < SMALLEST:
        raise UserError(
            f"{pair.image1} has {width}×{height} pixels, {SMALLEST}×{SMALLEST} is the least"
        )
    started = time.perf_counter()
    fused, guidance, boundary = fuse_arrays(model, photo1.rgb, photo2.rgb, tile, show_tiles)
    seconds = time.perf_counter() - started
    grey = photo1.grey and photo2.grey
    files = {"fused": output / pair.result("Fusion")}
    if maps:
        files["guidance"] = output / pair.result("Guidance")
        files["boundary"] = output / pair.result("Boundary")
        write_png(files["guidance"], guidance)
        write_png(files["boundary"], boundary)
    icc = photo1.icc if photo1.grey == grey else None  # a profile of grey does not fit colours
    write_png(files["fused"], fused, common_alpha(photo1, photo2), grey, icc)
    return {
        "name": pair.name,
        "image1": str(pair.image1),
        "image2": str(pair.image2),
        **{kind: str(path) for kind, path in files.items()},
        "width": width,
        "height": height,
        "seconds": round(seconds, 4),
    }


def common_alpha(photo1: Photo, photo2: Photo) -> np.ndarray | None:
    """What both photographs show; None if neither hides anything."""
    alphas = [photo.alpha for photo in (photo1, photo2) if photo.alpha is not None]
    alpha = np.minimum.reduce(alphas) if alphas else None
    return None if alpha is None or alpha.min() == 255 else alpha


def show_tiles(tiles, stage: str):
    """A bar for large pairs."""
    return tqdm(tiles, stage, unit="tile", leave=False, disable=len(tiles) < 12)


def check_folder(folder: Path) -> None:
    """Make the output folder and try to write there, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to folder {folder}: {error.strerror}") from error


def write_json(path: str, summary: dict) -> None:
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    if path == "-":
        return print(text)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
