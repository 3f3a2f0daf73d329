"""Data-parallel training on two CPU processes: the same as one process with twice the batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import main

ROOT = Path(__file__).parents[1]
SMOKE = str(ROOT / "configs" / "smoke.yaml")


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return subprocess.run(
        [*launch, str(ROOT / "main.py"), SMOKE, "device=cpu", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("boundary", ["PairBoundaryFusion", None])
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path, photographs, boundary):
    # Weight decay would show a parameter without a gradient that DDP treats as one with a zero.
    shared = [f"data.photographs={photographs}", "train.steps=4", "train.weight_decay=0.01"]
    shared += ["validation.every=2"] if boundary else ["validation.every=0", "model.boundary=null"]
    two, one = tmp_path / "two", tmp_path / "one"
    result = torchrun(*shared, f"run={two}", "train.batch=2")
    assert result.returncode == 0, result.stderr
    assert main.main([SMOKE, "device=cpu", *shared, f"run={one}", "train.batch=4"]) == 0
    weights, expected = (load_file(folder / "latest.safetensors") for folder in (two, one))
    assert weights.keys() == expected.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-3, atol=2e-5, msg=name)
    # Only process 0 writes: one start, one file of events, one line for each look.
    assert len((two / "run.jsonl").read_text().splitlines()) == 1
    assert len(list((two / "tensorboard").iterdir())) == 1
    if boundary:
        assert len((two / "validation.jsonl").read_text().splitlines()) == 2
    assert result.stderr.count("2 process(es) on cpu") == 1


def test_an_error_in_one_process_ends_all(tmp_path, stored):
    root = stored(samples=8)
    (root / "FusionGT" / "3_FR.png").write_bytes(b"broken")
    data = [f"data.stored={root}", "data.defocus.size=16", "validation.every=0"]
    result = torchrun(*data, f"run={tmp_path / 'run'}", "train.batch=1", "train.steps=50")
    assert result.returncode != 0
    assert f"error: {root / 'FusionGT' / '3_FR.png'}: unreadable" in result.stderr
