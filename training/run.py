"""A training run in its folder: started, or continued from its latest checkpoint."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from configs.schema import Config, write_yaml
from data.build import training_set, validation_sets
from training.trainer import Trainer
from utils.atomic import append, atomic_path, clear
from utils.provenance import provenance


def train(config: Config, device: torch.device) -> None:
    """Train in ``config.run``, going on from its latest checkpoint if there is one."""
    run = Path(config.run)
    first = not dist.is_initialized() or dist.get_rank() == 0  # it alone looks and writes
    looks = first and config.validation.every > 0
    few = config.validation.quick
    quick = validation_sets(config, few, max(1, few // 3)) if looks else {}
    trainer = Trainer(config, training_set(config), quick, device)
    if (run / "latest.pt").exists():
        trainer.resume(run / "latest.pt")
    if first:
        clear(run)
        with atomic_path(run / "config.yaml") as temporary:
            write_yaml(config, temporary)
        # A line for each start of the run.
        append(run / "run.jsonl", json.dumps({"step": trainer.step, **provenance()}))
        parameters = sum(p.numel() for p in trainer.model.parameters())
        print(
            f"{run}: {parameters / 1e6:.2f} M parameters, {trainer.world} process(es) on "
            f"{device}, from step {trainer.step} to {config.train.steps}",
            file=sys.stderr,
        )
    trainer.train()
