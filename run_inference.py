"""Fuse photographs that are focused differently: pairs, or stacks of any number.

    python run_inference.py --input DIR --output DIR
    python run_inference.py --input near.jpg far.jpg --output DIR --maps
    python run_inference.py --stack DIR --output DIR --maps --preview
    python run_inference.py --batch DIR --output DIR --resume
    torchrun --nproc-per-node 2 run_inference.py --batch DIR --output DIR --resume

Pairs (--input) lie on one another. In a folder, lytro-01-A.png and lytro-01-B.png (or …_A/…_B,
…A/…B, …-1/…-2, …_1/…_2, of any types) are a pair and give lytro-01-Fusion.png.

A stack (--stack) is a folder, a list of files or a multi-page TIFF; its frames are aligned first,
unless told otherwise. Those that cannot be are left out, and named. A batch (--batch) is a folder
with a folder or a multi-page TIFF for each stack. NAME-Fusion.png and NAME-Record.json, which tells
what became of each frame, are written for each; torchrun shares a batch among processes.

Results keep the depth of the photographs, their profile and metadata; 8-bit photographs among
16-bit ones are widened. Grey ones give a grey result. Transparent ones are fused by their colours,
and the result is as opaque as the most transparent of them. Exit code: 0, or 2 if anything could
not be read or fused; the rest is fused all the same.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from tqdm import tqdm

from fusion.pairs import Pair, Problem, find_pairs, name_pair
from fusion.stack_files import ORDERS, find_stack, find_stacks
from fusion.align import MOTIONS
from fusion.batch import fuse_batch, outline_batch
from fusion.backends import ONNX, WEIGHTS, load_cascade
from fusion.options import Options
from fusion.outputs import FORMATS
from fusion.ranks import Ranks
from utils.atomic import atomic_path
from utils.errors import UserError, cli
from utils.malloc import give_back_frames, keep_freed_memory
from utils.provenance import provenance

UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--input", nargs="+", help="pairs: a folder, or the two files")
    what.add_argument("--stack", nargs="+", help="a folder, the files, or a multi-page TIFF")
    what.add_argument("--batch", metavar="DIR", help="a folder of stacks")
    parser.add_argument("--output", required=True, type=Path, help="folder of the results")
    parser.add_argument(
        "--maps",
        action="store_true",
        help="also …-Guidance.png and …-Boundary.png of a pair; …-Index.png of a stack (16-bit: "
        "the frame that each pixel comes from, from 0), …-Depth.png (the same in colours) and "
        "…-Confidence.png",
    )
    parser.add_argument("--format", choices=FORMATS, help="by default png, tiff for floating point")
    parser.add_argument(
        "--weights", type=Path, help="safetensors, or ONNX of models.export; by default the shipped"
    )
    parser.add_argument(
        "--backend",
        choices=("torch", "onnxruntime"),
        help="as the weights are; of the shipped, onnxruntime for stacks on the CPU, else torch",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N; auto by default")
    parser.add_argument("--json", metavar="FILE", help="report, - for standard output")

    group = parser.add_argument_group("pairs", argument_default=argparse.SUPPRESS)
    pairs = [
        group.add_argument("--config", help="YAML that the weights must fit, see configs/"),
        group.add_argument("--tile", type=int, help="side of tiles in pixels; automatic if absent"),
    ]
    group = parser.add_argument_group("stacks", argument_default=argparse.SUPPRESS)
    option, flag, no = group.add_argument, {"action": "store_true"}, {"action": "store_false"}
    stacks = [
        option(
            "--order",
            choices=ORDERS,
            help="of frames: name (2 before 10; the default), time "
            "(EXIF), focus (from where they are sharp)",
        ),
        option("--no-align", dest="align", **no, help="the frames lie on one another"),
        option("--motion", choices=MOTIONS, help="similarity by default"),
        option("--no-exposure", dest="exposure", **no, help="leave brightness as it is"),
        option("--keep-size", dest="crop", **no, help="do not crop to what all frames show"),
        option(
            "--save-steps",
            dest="steps",
            **flag,
            help="…-Steps/: aligned frames, guidance and boundary maps",
        ),
        option("--preview", **flag, help="…-Preview.webp: the frames, then the result"),
        option("--memory", metavar="BYTES", type=amount, help="a limit that is kept, like 2G"),
        option("--strict", **flag, help="fuse all frames of a stack, or none"),
        option("--resume", **flag, help="pass over stacks that are finished"),
        option("--dry-run", **flag, help="tell what would be done, write nothing"),
    ]
    args = parser.parse_args(argv)
    for action in stacks if args.input else pairs:
        if action.dest in args:
            kind = "stacks" if args.input else "pairs (--input)"
            parser.error(f"{action.option_strings[0]} is for {kind}")
    return args


def amount(text: str) -> int:
    """Bytes: a number, with K, M or G behind it or nothing."""
    found = re.fullmatch(r"(\d+\.?\d*)([KMG]?)B?", text.upper())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory like 2G or 500M")
    return int(float(found[1]) * UNITS[found[2]])


@cli
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    args.weights = weights_of(args)
    with Ranks() as ranks:
        report, problems = fuse_input(args, ranks) if args.input else fuse_stacks(args, ranks)
        if ranks.rank == 0:
            conclude(args, report, problems)
    return 2 if problems else 0


def fuse_input(args: argparse.Namespace, ranks: Ranks) -> tuple[dict, list[Problem]]:
    """Fuse pairs; what the report says of them, and what could not be fused."""
    import torch  # stacks do without it where ONNX Runtime does its work

    from models.build import load_model
    from models.onnx_backend import load_onnx
    from fusion.pairs import fuse_pairs
    from utils.config import load_config, to_dict
    from utils.device import choose_device

    keep_freed_memory()
    if ranks.count > 1:
        raise UserError("torchrun shares the stacks of a --batch; start --input without it")
    tile, config = getattr(args, "tile", None), getattr(args, "config", None)
    if tile is not None and tile < 1:
        raise UserError(f"--tile {tile}: the side of a tile is at least 1 pixel")
    pairs, problems = pairs_of(args.input)
    weights = args.weights or WEIGHTS
    if weights.suffix == ".onnx":
        device, model = torch.device("cpu"), load_onnx(weights)
    else:
        device = choose_device(args.device)
        model = load_model(weights, to_dict(load_config(config).model) if config else None)
        model = model.to(device, memory_format=torch.channels_last)
    check_folders(args)
    say = teller(args)
    done, failed = fuse_pairs(model, pairs, args.output, say, args.maps, tile, args.format)
    mean = sum(pair["seconds"] for pair in done) / len(done) if done else None
    if done:
        threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        say(
            f"{len(done)} fused, {mean:.3f} s a pair on {device}{threads} (mean; model loaded and "
            "warmed up, without reading and writing files)"
        )
    return {"pairs": done, "mean_seconds": mean, "device": str(device)}, problems + failed


def fuse_stacks(args: argparse.Namespace, ranks: Ranks) -> tuple[dict, list[Problem]]:
    """Fuse a stack or a batch; what the report says of them, and what could not be fused."""
    give_back_frames()
    if args.stack and ranks.count > 1:
        raise UserError("torchrun shares the stacks of a --batch; start --stack without it")
    sources, problems = find_stacks(args.batch) if args.batch else ([find_stack(args.stack)], [])
    names = [field.name for field in fields(Options) if field.name in args]
    options = Options(**{name: getattr(args, name) for name in names})
    say = teller(args)
    cascade = load_cascade(args.weights, args.device)
    if "dry_run" in args:
        return {}, problems + outline_batch(cascade, sources, args.output, options, say)
    check_folders(args)
    weights = args.weights or WEIGHTS
    done, failed = fuse_batch(
        cascade, weights, sources, args.output, options, ranks, say, resume="resume" in args
    )
    return {"stacks": done}, problems + failed


def weights_of(args: argparse.Namespace) -> Path | None:
    """What ``--weights`` and ``--backend`` come to; None if neither was given."""
    weights = args.weights
    if weights is None and args.backend:
        weights = ONNX if args.backend == "onnxruntime" else WEIGHTS
    is_onnx = weights is not None and weights.suffix == ".onnx"
    if args.backend and is_onnx != (args.backend == "onnxruntime"):
        form = "safetensors" if is_onnx else ".onnx weights"
        raise UserError(f"--backend {args.backend} takes {form}, not {weights}")
    if is_onnx and args.device not in ("auto", "cpu"):
        raise UserError(f"--device {args.device}: {weights} runs on the CPU, by ONNX Runtime")
    return weights


def pairs_of(inputs: list[str]) -> tuple[list[Pair], list[Problem]]:
    """The pairs that ``--input`` names."""
    if len(inputs) == 1:
        if Path(inputs[0]).is_file():
            raise UserError(f"--input {inputs[0]} is one file; give two, or a folder")
        return find_pairs(inputs[0])
    if len(inputs) != 2:
        raise UserError(f"--input takes a folder or two files, not {len(inputs)}; see --stack")
    return [name_pair(*inputs)], []


def teller(args: argparse.Namespace) -> Callable[[str], None]:
    """Prints what happens, among bars, and not where the report goes."""
    return lambda text: tqdm.write(text, sys.stderr if args.json == "-" else sys.stdout)


def check_folders(args: argparse.Namespace) -> None:
    """Make the folders of the results and try to write there, before any work is done."""
    report = [] if args.json in (None, "-") else [Path(args.json).parent]
    for folder in (args.output, *report):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(f"cannot write to folder {folder}: {error.strerror}") from error


def conclude(args: argparse.Namespace, report: dict, problems: list[Problem]) -> None:
    """Name what could not be fused, and write the report."""
    for problem in problems:
        print(f"error: {problem.error}", file=sys.stderr)
    if args.json is None or not report:
        return
    report["errors"] = [
        {"files": [str(path) for path in problem.files], "error": problem.error}
        for problem in problems
    ]
    report |= {"weights": str(args.weights or WEIGHTS), **provenance()}
    text = json.dumps(report, indent=2, ensure_ascii=False)
    if args.json == "-":
        return print(text)
    with atomic_path(args.json) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    # What torchrun or a scheduler sends is to end as Ctrl-C does, with nothing half-written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
