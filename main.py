"""Train MMF-Net, or measure weights on generated ground truth.

    python main.py configs/mmfnet.yaml train.steps=20000
    python main.py configs/mmfnet.yaml --evaluate --weights weights/mmfnet.safetensors
    python main.py configs/mmfnet.yaml --profile
    torchrun --nproc-per-node 4 main.py configs/paper.yaml data.stored=datasets/train

Run the same command again to resume an interrupted run. Keys and defaults: configs/schema.py.
"""

import argparse
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from configs.schema import Config, load_config
from data.build import training_set, validation_sets
from models.build import load_model
from training import profile as profiling
from training.trainer import Trainer, train
from training.validation import for_json, table, takes, validate
from utils.atomic import replaceable, write_json
from utils.device import choose_device
from utils.errors import UserError, cli, option_parser
from utils.process import keep_freed_memory, processes


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = option_parser(__doc__)
    parser.add_argument("config", help="YAML file, see configs/")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="overrides")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--evaluate", action="store_true", help="print the validation table only")
    text = "time data generation and computation; write a trace to RUN/profile, no weights"
    what.add_argument("--profile", action="store_true", help=text)
    parser.add_argument("--weights", help="weights to evaluate; default: RUN/best.safetensors")
    parser.add_argument("--steps", type=int, help="steps to profile; default: 20")
    parser.add_argument("--json", metavar="FILE", help="also write the evaluation to FILE")
    args = parser.parse_intermixed_args(argv)
    if args.weights and not args.evaluate:
        parser.error("--weights is for --evaluate; train.init=FILE starts training from weights")
    if args.json and not args.evaluate:
        parser.error("--json is for --evaluate")
    if args.steps is not None and not args.profile:
        parser.error("--steps is for --profile; train.steps=N is the length of training")
    return args


@cli
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    config = load_config(args.config, args.overrides)
    if args.evaluate:
        if processes() == 1 or os.environ["RANK"] == "0":  # one of them is enough
            evaluate(config, args.weights, args.json)
        return
    distributed = processes() > 1
    device = choose_device(config.device)
    if distributed:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    keep_freed_memory()
    if args.profile:
        measure(config, device, 20 if args.steps is None else args.steps)
    else:
        train(config, device)
    if distributed:  # not after an error: it would wait for processes that wait for this one
        dist.destroy_process_group()


def measure(config: Config, device: torch.device, steps: int) -> None:
    """Print where the time of a training step goes."""
    if steps < 1:
        raise UserError(f"--steps {steps}: has to be at least 1")
    trainer = Trainer(config, training_set(config), {}, device)
    times = profiling.profile(trainer, steps)
    if trainer.rank == 0:
        print(profiling.table(times, trainer, steps))


def evaluate(config: Config, weights: str | None, output: str | None) -> None:
    """Print initial fusion, final fusion and oracle selection on the validation sets."""
    if output:
        replaceable(Path(output))  # before any work
    path = weights or Path(config.run) / "best.safetensors"
    device = choose_device(config.device)
    model = load_model(path).to(device, memory_format=torch.channels_last)
    sets = validation_sets(config, config.validation.samples, config.validation.scene_samples)
    figures = {}
    for name, samples in sets.items():
        if not takes(model, samples.generator.config):
            print(f"{path} takes {model.initial.largest} photographs at once: no set {name}\n")
            continue
        figures[name] = validate(model, samples, device, config.data.workers)
        print(table(figures[name], name, len(samples)), end="\n\n", flush=True)
    if output:
        about = {"samples": {name: len(part) for name, part in sets.items()}, "weights": str(path)}
        write_json(output, about | {name: for_json(part) for name, part in figures.items()})


if __name__ == "__main__":
    sys.exit(main())
