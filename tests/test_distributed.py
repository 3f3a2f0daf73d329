"""Data-parallel training on two CPU processes: the same as one process with twice the batch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import main
from tests.conftest import ROOT, SMOKE

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
LAUNCH += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
LAUNCH += [str(ROOT / "main.py"), SMOKE, "device=cpu"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*LAUNCH, *arguments], capture_output=True, text=True, timeout=300, env=ONE_THREAD
    )


@pytest.mark.parametrize("boundary", ["SetBoundaryFusion", None])
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


def test_sigterm_to_torchrun_saves_and_another_call_goes_on(tmp_path, photographs):
    """As a cluster does it when the time is up: the step under way is saved, not lost."""
    run = tmp_path / "run"
    shared = [f"data.photographs={photographs}", f"run={run}", "validation.every=0"]
    shared += ["train.save_every=100000", "train.log_every=1"]  # so nothing else is saved
    arguments = [*LAUNCH, *shared, "train.steps=100000"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=ONE_THREAD) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if "step 3 " in line:
                process.terminate()
    step = torch.load(run / "latest.pt", weights_only=True)["step"]
    assert f"stopped at step {step}, saved" in "".join(said)
    result = torchrun(*shared, f"train.steps={step + 1}")
    assert result.returncode == 0, result.stderr
    assert f"from step {step} to {step + 1}" in result.stderr


def test_an_error_in_one_process_ends_all(tmp_path, stored):
    root = stored(samples=8)
    (root / "FusionGT" / "3_FR.png").write_bytes(b"broken")
    data = [f"data.stored={root}", "data.defocus.size=16", "validation.every=0"]
    result = torchrun(*data, f"run={tmp_path / 'run'}", "train.batch=1", "train.steps=50")
    assert result.returncode != 0
    assert f"error: {root / 'FusionGT' / '3_FR.png'}: unreadable" in result.stderr
