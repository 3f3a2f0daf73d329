"""The paper's argument, tested: one network and budget, trained on other defocus models.

    python -m evaluation.ablation --sources datasets/lytro --out docs/results/ablation

Trains each of configs/ablation/*.yaml from three seeds (finished runs are skipped,
interrupted ones resumed), then tabulates mean and spread on generated ground truth, whose
α-matte model is what a lens does, and compares the networks of the first seed on real pairs, with
places enlarged. Each model has the guidance map of its own definition.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.schema import Config, flat, load_config
from data.build import validation_sets
from evaluation import figures, scores, tables
from evaluation.cache import default_cache
from evaluation.matching import collect, some_pairs
from evaluation.runs import fuse_folder
from models.build import load_model
from training.trainer import train
from training.validation import validate
from utils.atomic import write_file, write_json
from utils.device import choose_device
from utils.errors import UserError, cli, option_parser
from utils.markdown import table
from utils.process import cores

CONFIGS = Path(__file__).parents[1] / "configs/ablation"
METRICS = ("AG", "LIF", "MSD", "GLD", "Q_G", "Q_MI", "Q_Y", "Q_CB")
WEIGHTS = "latest.safetensors"
Runs = dict[str, list[Config]]  # of each model, by seed
Means = dict[str, float]  # over the samples, see :func:`training.validation.validate`


@cli
def main(argv: list[str] | None = None) -> int:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="configs in configs/ablation/; default: all")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="default: 1 2 3")
    add("--set", nargs="+", default=[], metavar="key.sub=value", help="overrides of each config")
    add("--sources", type=Path, metavar="DIR", help="folder of real pairs to compare on")
    pairs = ["lytro-05", "lytro-07", "lytro-03"]
    add("--pairs", nargs="+", default=pairs, metavar="PAIR", help="pairs to enlarge")
    add("--insets", nargs="+", metavar="x,y[,size]", help="default: found on the FDB")
    add("--workers", type=int, default=cores(), help="processes for the metrics")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the report")
    args = parser.parse_args(argv)
    check(args)
    runs = choose(args.only, args.seeds, args.set)
    found: dict[str, list[Means]] = {}
    for name, configs in runs.items():
        for config in configs:
            finish(config)
        found[name] = [measure(config) for config in configs]
    text = synthetic_table(found, next(iter(runs.values()))[0])
    print(text)
    write_file(args.out / "synthetic.md", text)
    write_json(args.out / "synthetic.json", found)
    return compare_pairs(args, {name: configs[0] for name, configs in runs.items()})


def choose(only: list[str] | None, seeds: Sequence[int], overrides: list[str]) -> Runs:
    """The configs, each once with every seed and a run of its own; raises :class:`UserError` for
    an unknown name, or a wrong override."""
    known = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    runs: Runs = {}
    for name in dict.fromkeys(only or known):
        if name not in known:
            raise UserError(f"--only {name}: choose of {', '.join(known)}")
        for seed in dict.fromkeys(seeds):  # one counted twice would narrow the spread
            config = load_config(CONFIGS / f"{name}.yaml", overrides)
            home = Path(config.run) if config.run.endswith(name) else Path(config.run, name)
            config.run, config.seed = str(home / f"seed-{seed}"), seed
            runs.setdefault(name, []).append(config)
    return runs


def finish(config: Config) -> None:
    """Train to the end, unless that is done; raises KeyboardInterrupt if it was interrupted, and
    :class:`UserError` if the run is of other settings: its network is not the one asked for."""
    former = Path(config.run, "config.yaml")
    if former.exists():
        trained, wanted = (_trained_with(c) for c in (load_config(former), config))
        for key in trained | wanted:
            if trained.get(key, "") != wanted.get(key, ""):
                way = "give another one by --set run=DIR, or delete it"
                raise UserError(f"{config.run} was trained with another {key}; {way}")
    steps = 0
    with contextlib.suppress(Exception):  # absent, or damaged, which training reports
        state = torch.load(Path(config.run, "latest.pt"), map_location="cpu", weights_only=True)
        steps = state["step"]
    if steps < config.train.steps:
        print(f"training {config.run}", file=sys.stderr)
        if not train(config, choose_device(config.device)):
            raise KeyboardInterrupt


def _trained_with(config: Config) -> dict[str, Any]:
    """What the weights of a run depend on, by dotted key."""
    values = dict(flat(asdict(config)))
    sections = ("seed", "model.", "data.", "train.")
    free = ("data.workers", "train.log_every", "train.save_every")
    found = {k: v for k, v in values.items() if k.startswith(sections) and k not in free}
    if not config.validation.photographs:  # a share of what would train is held out
        found["validation.fraction"] = config.validation.fraction
    return found


def measure(config: Config) -> Means:
    """:func:`training.validation.validate` on the validation set, which all configs share."""
    print(f"validating {config.run}", file=sys.stderr)
    device = choose_device(config.device)
    model = load_model(Path(config.run, WEIGHTS), asdict(config.model))
    model = model.to(device, memory_format=torch.channels_last)
    samples = validation_sets(config, config.validation.samples)["pairs"]
    return validate(model, samples, device, config.data.workers)


def synthetic_table(found: Mapping[str, Sequence[Means]], config: Config) -> str:
    """Markdown: a row for each model, of the figures of its seeds, and oracle selection."""

    def cell(rows: Sequence[Means], key: str, scale: float = 1) -> str:
        values = np.array([row[key] for row in rows]) * scale
        spread = f" ± {values.std(ddof=1):.2f}" if len(rows) > 1 else ""
        return f"{values.mean():.2f}{spread}"

    columns = ("initial_whole", "initial_band", "fused_whole", "fused_band")
    lines = [
        [name.replace("_", " "), *(cell(rows, key) for key in columns), cell(rows, "guidance", 100)]
        for name, rows in found.items()
    ]
    first = next(iter(found.values()))
    oracle = [cell(first[:1], f"oracle_{part}") for part in ("whole", "band")]
    lines.append(["*oracle selection*", *oracle, *oracle, ""])
    head = ["trained on", "initial, whole", "initial, FDB", "final, whole", "final, FDB"]
    return (
        f"Generated ground truth (α-matte model): PSNR in dB, mean of {config.validation.samples} "
        f"samples; each trained for {config.train.steps} steps of {config.train.batch} samples; "
        f"mean ± standard deviation over {len(first)} seeds\n\n"
        f"{table([*head, 'G right, %'], lines)}"
    )


def check(args: argparse.Namespace) -> None:
    """Refuse before any training what would fail after it."""
    if args.workers < 1:
        raise UserError("--workers has to be at least 1")
    if min(args.seeds) < 0:
        raise UserError("--seeds are 0 or more")
    if args.sources:
        figures.check("--pairs", args.pairs, args.insets, args.sources)


def compare_pairs(args: argparse.Namespace, configs: Mapping[str, Config]) -> int:
    """Fuse real pairs with a network of each model; write metrics, and places enlarged."""
    if not args.sources:
        return 0
    pairs, _ = some_pairs(args.sources)
    problems = []
    with tempfile.TemporaryDirectory(prefix="ablation-") as fused:
        methods = {name.replace("_", " "): Path(fused, name) for name in configs}
        for folder, config in zip(methods.values(), configs.values(), strict=True):
            weights = Path(config.run, WEIGHTS)
            problems += fuse_folder(weights, pairs, folder, config.device)[1]
        cases, wrong = collect(args.sources, methods)
        figures.write(cases, args.pairs, args.insets, args.out)
        values, more = scores.measure(cases, METRICS, args.workers, default_cache())
    problems += [*wrong, *more]
    about = {"sources": str(args.sources), "methods": list(methods)}
    columns = tables.write(args.out, values, list(methods), METRICS, problems, about)
    write_file(args.out / "tables.md", tables.markdown(columns))
    print(tables.markdown(columns))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
