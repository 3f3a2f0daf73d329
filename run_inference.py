"""Fuse photographs that are focused differently: pairs, or stacks of any number.

    python run_inference.py --input DIR --output DIR
    python run_inference.py --input near.jpg far.jpg --output DIR --maps
    python run_inference.py --stack DIR --output DIR --maps --preview
    python run_inference.py --batch DIR --output DIR --resume
    torchrun --nproc-per-node 2 run_inference.py --batch DIR --output DIR --resume

Pairs (--input) are taken to be registered; --align registers them first. In a folder,
lytro-01-A.png and lytro-01-B.png (or …_A/…_B, …A/…B, …-1/…-2, …_1/…_2, of any types) are a pair
and give lytro-01-Fusion.png.

A stack (--stack) is a folder, a list of files or a multi-page TIFF; its frames are registered
first, unless --no-align is given. Frames that cannot be registered are left out and named. A batch
(--batch) is a folder with a folder or a multi-page TIFF for each stack; or all photographs of a
camera's folder, whose stacks --pause tells apart. Each gives NAME-Fusion.png and NAME-Record.json,
with the result of each frame; torchrun splits a batch between processes.

Results keep the depth of the photographs, their profile and metadata; 8-bit photographs among
16-bit ones are widened. Grey photographs give a grey result. Transparent ones are fused by their
colours, and the result is as opaque as the most transparent of them. Exit code: 0, or 2 if anything
could not be read or fused; everything else is fused.
"""

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from fusion.align import MOTIONS
from fusion.backends import choose_weights, load_backend
from fusion.batch import Ranks, fuse_batch, outline_batch
from fusion.outputs import FORMATS, Options
from fusion.pairs import Problem, find_pairs, is_read, name_pair
from fusion.stack_files import ORDERS, Source, find_stack, find_stacks
from utils.atomic import check_regular, clear, is_stream, replaceable, write_json
from utils.errors import UserError, cli, option_parser, os_errors
from utils.interrupts import heed_signals
from utils.process import give_back_frames
from utils.provenance import provenance

OPTIONS = {field.name for field in fields(Options)}
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = option_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--input", nargs="+", type=named, help="pairs: a folder, or two files")
    about = "a folder, the files, or a multi-page TIFF"
    what.add_argument("--stack", nargs="+", type=named, help=about)
    what.add_argument("--batch", metavar="DIR", type=named, help="a folder of stacks")
    add, flag = parser.add_argument, {"action": "store_true"}
    add("--output", required=True, type=path, help="folder for the results")
    about = (
        "also …-Index.png (16-bit: the photograph that each pixel comes from, from 0), …-Depth.png "
        "(the same in colours) and …-Confidence.png; of two photographs …-Guidance.png and "
        "…-Boundary.png as well"
    )
    add("--maps", **flag, help=about)
    add("--format", choices=FORMATS, help="default: png; tiff for floating point")
    add("--weights", type=path, help="safetensors, or ONNX from models.export; default: shipped")
    add("--device", default="auto", type=named, help="cpu, cuda, cuda:N or auto (default)")
    add("--json", metavar="FILE", type=named, help="report; - for standard output")
    about = "register the photographs first; default: for stacks, not for pairs"
    add("--align", action=argparse.BooleanOptionalAction, help=about)
    add("--motion", choices=MOTIONS, help="of alignment; default: similarity")
    off = {"action": "store_false"}
    add("--no-exposure", dest="exposure", **off, help="do not match the exposure when aligning")
    about = "do not crop to what all aligned photographs show"
    add("--keep-size", dest="crop", **off, help=about)
    about = "name (2 before 10; the default), time (EXIF), focus (from where they are sharp)"
    add("--order", choices=ORDERS, help=f"of a stack's frames: {about}")
    about = "…-Steps/: aligned photographs, guidance and boundary maps"
    add("--save-steps", dest="steps", **flag, help=about)
    add("--preview", **flag, help="…-Preview.webp: the photographs, then the result")
    add("--memory", metavar="BYTES", type=amount, help="memory limit, such as 2G")
    about = (
        "with --batch: tell stacks in the folder itself apart by time (EXIF) instead of name; a "
        "pause of more seconds than this begins the next"
    )
    add("--pause", type=float, metavar="SECONDS", help=about)
    add("--strict", **flag, help="fail on a stack of which a frame cannot be used")
    add("--resume", **flag, help="skip finished stacks")
    add("--dry-run", **flag, help="say what would be done; write nothing but the report")
    args = parser.parse_args(argv)
    if args.align is None:
        args.align = not args.input
    if args.input and (args.order or args.resume):
        parser.error(f"--{'order' if args.order else 'resume'} is for --stack or --batch")
    if args.pause is not None and not (args.batch and args.pause > 0):
        parser.error(f"--pause {'has to be above 0' if args.batch else 'is for --batch'}")
    if args.motion and not args.align:
        parser.error("--motion is for --align")
    if args.input and args.strict:
        parser.error("--strict is for --stack or --batch; both photographs of a pair are needed")
    if args.input and not args.align and not (args.exposure and args.crop):
        parser.error(f"--{'keep-size' if args.exposure else 'no-exposure'} is for --align")
    return args


def named(text: str) -> str:
    """Refuse an empty name, which Path would take for the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def path(text: str) -> Path:
    return Path(named(text))


def amount(text: str) -> int:
    """Bytes: a number, with K, M or G behind it or nothing."""
    found = re.fullmatch(r"(\d{1,15}\.?\d{0,15})([KMG]?)B?", text.upper())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory, such as 2G or 500M")
    return int(float(found[1]) * UNITS[found[2]])


@cli
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    give_back_frames()
    if args.weights is not None:
        check_regular(args.weights)
    weights = choose_weights(args.weights, args.device)
    with Ranks() as ranks:
        sources, problems = sources_of(args)
        given = vars(args).items()
        options = Options(**{k: v for k, v in given if k in OPTIONS and v is not None})
        say = partial(say_on, sys.stderr if args.json == "-" else sys.stdout)
        backend = load_backend(weights, args.device)
        first = ranks.rank == 0
        todo = backend, weights, sources, args.output, options
        check_outputs(args)
        if not args.dry_run:
            done, failed = fuse_batch(*todo, ranks, say, args.resume)
            problems += failed
            report = {"stacks": done}
            if args.input and first:
                report = pairs_report(done, args.output, backend.device, say)
        elif first:
            planned, failed = outline_batch(*todo, say, args.resume)
            problems += failed
            report = {"planned": planned}
        if first:
            conclude(args, report, problems, weights)
    return 2 if problems else 0


def sources_of(args: argparse.Namespace) -> tuple[list[Source], list[Problem]]:
    """The pairs or stacks to fuse, and files that cannot be."""
    if args.batch:
        return find_stacks(args.batch, args.pause)
    if args.stack:
        return [find_stack(args.stack)], []
    if len(args.input) > 2:
        raise UserError(f"--input takes a folder or two files, not {len(args.input)}; see --stack")
    if len(args.input) == 2:
        pairs, problems = [name_pair(*args.input)], []
    elif Path(args.input[0]).is_file():
        raise UserError(f"--input {args.input[0]} is one file; give two, or a folder")
    else:
        pairs, problems = find_pairs(args.input[0])
    return [Source(pair.name, pair.image1, tuple(pair[1:]), pair=True) for pair in pairs], problems


def pairs_report(done: list[dict], output: Path, device: str, say: Callable[[str], None]) -> dict:
    """The report of pairs, from the reports of :func:`fusion.fuse_files.fuse_stack`."""
    pairs = []
    for stack in done:
        first, second = stack["frames"]
        files = {kind: str(output / name) for kind, name in stack["files"].items()}
        seconds = round(first["seconds"] + second["seconds"], 4)
        images = {"image1": first["file"], "image2": second["file"]}
        pairs.append({**stack, **images, **files, "seconds": seconds})
    mean = sum(pair["seconds"] for pair in pairs) / len(pairs) if pairs else None
    if pairs:
        about = "mean, without reading and writing files"
        say(f"{len(pairs)} fused, {mean:.3f} s a pair on {device} ({about})")
    return {"pairs": pairs, "mean_seconds": mean, "device": device}


def say_on(stream: TextIO, text: str) -> None:
    """Print above progress bars; a reader that has left does not stop the work."""
    with contextlib.suppress(OSError):  # in one piece: lines of several processes may meet
        tqdm.write(f"{text}\n", stream, end="")


def check_outputs(args: argparse.Namespace) -> None:
    """Make the folders of the results and try to write to them, before any work is done, unless
    it is a dry run. Refuse to replace anything but a report with the report."""
    report = None if args.json in (None, "-") else Path(args.json)
    folders = (args.output, report.parent) if report else (args.output,)
    for folder in () if args.dry_run else folders:
        with os_errors(f"write to folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    if report is None:
        return
    if is_read(report):
        what = "has the name of a photograph; give one that ends in .json"
        raise UserError(f"--json {report} {what}")
    if report.name.endswith("-Record.json"):
        raise UserError(f"--json {report} has the name of a stack's record; give another name")
    if is_stream(report) or not replaceable(report).exists():
        return
    with os_errors(f"read {report}"), report.open("rb") as file:
        if file.read(1) not in (b"", b"{"):
            raise UserError(f"--json {report} exists and is no report; give another name")


def conclude(
    args: argparse.Namespace, report: dict, problems: list[Problem], weights: Path
) -> None:
    """Print what could not be fused, and write the report."""
    for problem in problems:
        print(f"error: {problem.error}", file=sys.stderr)
    if args.json is None:
        return
    report["errors"] = [{"files": [*map(str, files)], "error": why} for files, why in problems]
    report |= {"weights": str(weights), **provenance()}
    if args.json == "-":
        return print(json.dumps(report, indent=2))  # in ASCII, for any terminal
    clear(Path(args.json).parent, Path(args.json).stem)
    write_json(args.json, report)


if __name__ == "__main__":
    with heed_signals():  # with nothing half-written
        sys.exit(main())
