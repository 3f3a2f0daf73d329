"""Write a dataset in the layout of the authors' released code, with a manifest of its parameters.

    python -m data.generate --config configs/mmfnet.yaml --split train --output datasets/train \
        --count 6000

OUTPUT holds, for each sample N, ``InputL/N_L.png`` and ``InputR/N_R.png`` (the two photographs),
``FusionGT/N_FR.png`` (all-in-focus), ``FusionMapT/N_G.png`` (guidance: 255 where L is right, 0
where R is, 128 where neither), and a line in ``manifest.jsonl``; ``dataset.json`` says what made
them. Run the same command again to resume. A sample depends only on the seed and its number.

    python -m data.generate --set scenes --output datasets/scenes --count 1000 --size 160

With ``--set`` it writes scenes (``scenes``, or one of the names in ``validation.scenes``): the
photographs are then ``Photographs/N_0.png``, ``Photographs/N_1.png``, …, and ``FusionMapT/N_G.png``
holds the number of the photograph that is right, 255 where none is, or several alike.
"""

import argparse
import json
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from configs.schema import RANGES, load_config
from data.build import training_set, validation_sets
from data.datasets import in_order
from defocus.camera import to_pixels
from defocus.materials import Generator
from defocus.sample import Sample
from utils.atomic import append, clear, write_file, write_json
from utils.errors import UserError, cli, option_parser, os_errors
from utils.process import cores
from utils.provenance import provenance

MANIFEST = "manifest.jsonl"
LARGEST = int(RANGES["*.size"].high)  # pixels, the side of a sample

# Stored, not deflated: zlib would take a quarter of the time. A sample of 256×256 takes 660 kB.
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = option_parser(__doc__)
    parser.add_argument("--config", default="configs/mmfnet.yaml", help="YAML file, see configs/")
    parser.add_argument("--split", choices=("train", "validation"), default="train")
    parser.add_argument("--set", default="pairs", metavar="NAME", help="pairs (default) or scenes")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--count", required=True, type=int, metavar="N", help="number of samples")
    parser.add_argument("--size", type=int, default=256, help="side in pixels; default: 256")
    parser.add_argument("--seed", type=int, help="default: the config's")
    parser.add_argument("--workers", type=int, default=cores(), help="default: one per core")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="overrides")
    args = parser.parse_intermixed_args(argv)
    for option, low in (("count", 1), ("size", 16), ("workers", 1), ("seed", 0)):
        if (value := getattr(args, option)) is not None and value < low:
            raise UserError(f"--{option} must be {low} or more, got {value}")
    if args.size > LARGEST:
        raise UserError(f"--size must be {LARGEST} or less, got {args.size}")
    for override in args.overrides:
        if override.partition("=")[0].endswith(".size"):
            raise UserError(f"{override}: the side of what is written is given by --size")
    return args


@cli
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    # Before any work, so that the workers fork from a process without threads.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores
    generator = make_generator(args)
    made, elapsed = generate(generator, args.output, args.count, args.workers, args.split)
    speed = made / elapsed
    done = f"{args.output}: {made} samples of {args.size}×{args.size} in {elapsed:.1f} s"
    if made:
        print(f"{done}, {speed:.1f} samples/s, {speed / args.workers:.1f} a worker")
    else:
        print(f"{args.output} holds these {args.count} samples already")


def make_generator(args: argparse.Namespace) -> Generator:
    """The generator of a config's training or validation samples, its size and seed replaced."""
    config = load_config(args.config, args.overrides)
    data, validation = config.data, config.validation
    data.stored = None
    every = data.defocus, data.scenes, validation.defocus, *validation.scenes.values()
    for ranges in filter(None, every):
        ranges.size = args.size
    if args.seed is not None:
        config.seed = validation.seed = args.seed
    if args.split == "train":
        mixture = training_set(config)
        sets = {"pairs": mixture.pairs, "scenes": mixture.scenes}
    else:
        made = validation_sets(config, args.count, args.count)
        sets = {name: dataset.generator for name, dataset in made.items()}
    if sets.get(args.set) is None:
        known = ", ".join(name for name, generator in sets.items() if generator)
        raise UserError(f"{args.config} has no {args.split} set {args.set}; it has {known}")
    return sets[args.set]


def generate(
    generator: Generator, root: Path, count: int, workers: int, split: str
) -> tuple[int, float]:
    """Write the first ``count`` samples of a generator to ``root``, except those already there;
    return the number of samples made and the seconds it took. Raises :class:`UserError` if ``root``
    holds other data or cannot be written, or a worker was killed."""
    _claim(root, generator, split)
    for folder in (root, *filter(Path.is_dir, root.iterdir())):
        clear(folder)
    lines = _finished(root)
    _write_manifest(root, lines)
    todo = [index for index in range(count) if index not in lines]
    start = time.perf_counter()
    try:
        with tqdm(total=count, initial=count - len(todo), unit="sample", smoothing=0.05) as bar:
            for index, line in in_order(_Writing(generator, root, todo), None, workers):
                lines[index] = line
                append(root / MANIFEST, line)
                bar.update()
    finally:
        _write_manifest(root, lines)  # again, in order: the new ones may have filled gaps
    return len(todo), time.perf_counter() - start


def write_sample(sample: Sample, root: Path, index: int) -> None:
    """Write the files of a sample, each whole or not at all."""
    guidance = sample.guidance[0]  # of which 0.5 becomes 128
    if "photographs" in sample.parameters:
        peak, right = sample.guidance.max(0)
        guidance = torch.where(peak == 1, right, 255) / 255
    images = (*sample.photographs, sample.truth, guidance)
    for path, image in zip(layout(sample.parameters, index), images, strict=True):
        write_file(root / path, cv2.imencode(".png", to_pixels(image), PNG)[1].tobytes())


def layout(parameters: dict[str, Any], index: int) -> list[str]:
    """The files of a sample: photographs, truth, guidance map."""
    if count := parameters.get("photographs"):
        photographs = [f"Photographs/{index}_{k}.png" for k in range(count)]
    else:
        photographs = [f"InputL/{index}_L.png", f"InputR/{index}_R.png"]
    return [*photographs, f"FusionGT/{index}_FR.png", f"FusionMapT/{index}_G.png"]


def _claim(root: Path, generator: Generator, split: str) -> None:
    """Write ``dataset.json``, or check that the one there is of the same samples."""
    path = root / "dataset.json"
    identity = {"split": split, **generator.identity()}
    if path.exists():
        what = {"defocus": "config", "digest": "photographs", "sources": "photographs"}
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            other = {what.get(key, key): 0 for key in identity if given[key] != identity[key]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged; choose another --output or delete it") from error
        if other:
            different = f"{root} holds samples of another {' and '.join(other)}"
            raise UserError(f"{different}; choose another --output or delete it")
    elif root.is_dir() and any(root.iterdir()):
        raise UserError(f"{root} holds other files; choose a new or empty folder for --output")
    else:
        sources = (generator.photographs, *generator.cutouts)
        used = sorted(str(path.resolve()) for part in sources for path in part.paths)
        about = {"provenance": provenance(), "photographs": used}  # which may not validate
        write_json(path, {**identity, **about})


def _finished(root: Path) -> dict[int, str]:
    """Manifest lines by index, of the samples whose files are all there."""
    path, lines = root / MANIFEST, {}
    with os_errors(f"read {path}"):
        found = path.read_bytes().splitlines() if path.exists() else []
    for line in found:
        try:
            parameters = json.loads(line.decode())
            index = int(parameters["index"])
            files = layout(parameters, index)
        except (ValueError, KeyError, TypeError):
            continue  # damaged, or cut short when the process was killed
        if all((root / file).exists() for file in files):
            lines[index] = line.decode()
    return lines


def _write_manifest(root: Path, lines: dict[int, str]) -> None:
    write_file(root / MANIFEST, "".join(f"{lines[i]}\n" for i in sorted(lines)))


@dataclass
class _Writing(Dataset):
    """Samples that are written as they are read; an item is an index and its manifest line."""

    generator: Generator
    root: Path
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, str]:
        index = self.indices[position]
        sample = self.generator[index]
        write_sample(sample, self.root, index)
        return index, json.dumps(sample.parameters)


if __name__ == "__main__":
    sys.exit(main())
