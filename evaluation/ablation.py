"""The paper's argument, tested: one network and budget, trained on other defocus models.

    python -m evaluation.ablation --sources ../shared/data/lytro --out docs/results/ablation

Trains each of configs/ablation/*.yaml (a finished run is not trained again, one that was
interrupted goes on), then tabulates them on generated ground truth, whose α-matte model is what a
lens does, and on real pairs, with enlarged places of one of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch

import evaluate
import main as training
from data.build import validation_set
from data.datasets import in_order
from evaluation.network import fuse_folder
from fusion.pairs import find_pairs
from models.build import load_model
from training.validation import validate
from utils.atomic import atomic_path
from utils.config import Config, load_config, to_dict
from utils.device import choose_device
from utils.errors import UserError, cli

CONFIGS = Path(__file__).parents[1] / "configs/ablation"
METRICS = "AG,LIF,MSD,GLD,Q_G,Q_MI,Q_Y,Q_CB"
Figures = dict[str, float]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="of configs/ablation/; all by default")
    add("--set", nargs="+", default=[], metavar="key.sub=value", help="over every config")
    add("--sources", type=Path, metavar="DIR", help="folder of real pairs to compare on")
    add("--pair", default="lytro-05", help="of them, the one to enlarge")
    add("--insets", nargs="+", metavar="x,y[,size]", help="where; found on the FDB by default")
    add("--workers", type=int, default=evaluate.scores.cores(), help="for metrics")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    return parser.parse_args(argv)


@cli
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    configs = choose(args.only, args.set)
    for name, config in configs.items():
        if trained_steps(config) < config.train.steps:
            print(f"training {name}", file=sys.stderr)
            training.train(config, choose_device(config.device))
    figures = {name: measure(name, config) for name, config in configs.items()}
    text = synthetic_table(figures, next(iter(configs.values())))
    print(text)
    with atomic_path(args.out / "synthetic.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    with atomic_path(args.out / "synthetic.json") as temporary:
        temporary.write_text(json.dumps(figures, indent=1))
    return compare_pairs(args, configs) if args.sources else 0


def choose(only: list[str] | None, overrides: list[str]) -> dict[str, Config]:
    """{name: config}; a ``run=`` among the overrides becomes the folder of all runs.

    Raises:
        UserError: an unknown name, or a run that did not end as its config says.
    """
    known = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    for name in only or ():
        if name not in known:
            raise UserError(f"--only {name}: choose of {', '.join(known)}")
    configs = {}
    for name in only or known:
        own = [f"{text}/{name}" if text.startswith("run=") else text for text in overrides]
        configs[name] = load_config(CONFIGS / f"{name}.yaml", own)
    return configs


def trained_steps(config: Config) -> int:
    """How far a run has come."""
    checkpoint = Path(config.run) / "latest.pt"
    if not checkpoint.exists():
        return 0
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["step"]


def weights_of(config: Config) -> Path:
    return Path(config.run) / "latest.safetensors"


def measure(name: str, config: Config) -> Figures:
    """:func:`training.validation.validate` on the validation set, which all configs share."""
    print(f"validating {name}", file=sys.stderr)
    device = choose_device(config.device)
    model = load_model(weights_of(config), to_dict(config.model))
    model = model.to(device, memory_format=torch.channels_last)
    samples = validation_set(config, config.validation.samples)
    return validate(model, in_order(samples, 4, config.data.workers), device)


def synthetic_table(figures: dict[str, Figures], config: Config) -> str:
    """Markdown: a row for each training, and oracle selection."""
    lines = [
        f"Generated ground truth (α-matte model), mean of {config.validation.samples} samples; "
        f"each trained for {config.train.steps} steps of {config.train.batch} samples",
        "",
        "| trained on | initial, whole | initial, FDB | final, whole | final, FDB | G right |",
        "|---|---|---|---|---|---|",
    ]
    columns = ("initial_whole", "initial_band", "fused_whole", "fused_band")
    for name, row in figures.items():
        cells = " | ".join(f"{row[column]:.2f}" for column in columns)
        lines.append(f"| {name.replace('_', ' ')} | {cells} | {row['guidance']:.2%} |")
    oracle = next(iter(figures.values()))
    cells = f"{oracle['oracle_whole']:.2f} | {oracle['oracle_band']:.2f}"
    return "\n".join([*lines, f"| *oracle selection* | {cells} | {cells} | |"])


def compare_pairs(args: argparse.Namespace, configs: dict[str, Config]) -> int:
    """Fuse real pairs with each network, and hand them to ``evaluate.py``."""
    pairs, problems = find_pairs(args.sources)
    for problem in problems:
        print(f"error: {problem.error}", file=sys.stderr)
    images = args.out / "fused"
    methods = []
    for name, config in configs.items():
        fuse_folder(weights_of(config), pairs, images / name, config.device)
        methods.append(f"{name.replace('_', ' ')}={images / name}")
    insets = ["--insets", *args.insets] if args.insets else []
    code = evaluate.main(
        ["--sources", str(args.sources), "--fused", *methods, "--metrics", METRICS]
        + ["--figures", args.pair, *insets, "--workers", str(args.workers)]
        + ["--out", str(args.out)]
    )
    shutil.rmtree(images)
    return code


if __name__ == "__main__":
    sys.exit(main())
