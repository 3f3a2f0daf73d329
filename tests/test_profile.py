"""`main.py --profile`: what it times, and that it leaves the run alone."""

import json
import time

import torch
from torch.utils.data import Dataset

import main
from configs.schema import load_config
from data.datasets import Batch, Draw
from tests.conftest import SMOKE
from training.profile import Times, profile, table
from training.trainer import Trainer


class Slow(Dataset):
    """Samples that take a known time to make."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def __getitem__(self, draw: Draw) -> Batch:
        time.sleep(self.seconds)
        random = torch.Generator().manual_seed(draw.number)
        *photographs, truth = torch.rand(3, 3, 32, 32, generator=random)
        return Batch(torch.stack(photographs), truth, torch.full((2, 1, 32, 32), 0.5))


def run(tmp_path, dataset: Dataset, *overrides: str) -> tuple[Times, str]:
    """Times and table of 4 steps."""
    config = load_config(SMOKE, [f"run={tmp_path / 'run'}", *overrides])
    trainer = Trainer(config, dataset, {}, torch.device("cpu"))
    times = profile(trainer, 4)
    return times, table(times, trainer, 4)


def test_slow_samples_are_waited_for(tmp_path, monkeypatch):
    """2 samples of 0.25 s are half a second a step, all of it waiting: computing takes no time."""
    monkeypatch.setattr(Trainer, "learn", lambda *_: None)
    found, said = run(tmp_path, Slow(0.25), "train.batch=2")
    assert 0.5 <= found.making < 1
    assert found.waiting >= 0.5
    assert 0.5 <= found.together < 3  # other work of the machine counts too
    assert f"A worker makes {2 / found.making:.1f} samples/s" in said
    assert "Samples are the bottleneck" in said


def test_workers_make_samples_while_the_device_computes(tmp_path, monkeypatch):
    """Computing takes 0.4 s, two workers make a sample in 0.2 s each: nothing is waited for."""
    learn = Trainer.learn

    def slow(*args):
        time.sleep(0.4)
        return learn(*args)

    monkeypatch.setattr(Trainer, "learn", slow)
    found, said = run(tmp_path, Slow(0.2), "train.batch=1", "data.workers=2")
    assert found.computing >= 0.4
    assert found.waiting < 0.1
    assert 0.09 <= found.making < 0.2  # by two
    assert "Computing is the bottleneck" in said


def test_workers_for_a_faster_device(tmp_path):
    """8 samples a step of 2 processes in 0.1 s by 2 workers each: 20 samples/s a worker."""
    overrides = [f"run={tmp_path}", "train.batch=4", "data.workers=2"]
    trainer = Trainer(load_config(SMOKE, overrides), Slow(0), {}, torch.device("cpu"))
    trainer.world = 2
    said = table(Times(0.1, 1.0, 0.0, 1.0), trainer, 20)
    assert "2 process(es) on cpu, each with 2 workers; 8 samples a step, mean of 20 steps" in said
    assert "| making samples, alone | 100.0 | 80.0 |" in said
    assert "needs r / 20.0 workers, each on such a core: 1 for 4, 5 for 100" in said


def test_the_command_leaves_a_trace_and_nothing_else(tmp_path, photographs, capfd):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "latest.pt").write_bytes(b"of a run")
    arguments = [f"run={folder}", f"data.photographs={photographs}", "device=cpu"]
    assert main.main([SMOKE, *arguments, "--profile", "--steps", "2"]) == 0
    printed = capfd.readouterr()
    assert "ERROR" not in printed.err  # of a profiler that misses a GPU
    printed = printed.out
    assert "mean of 2 steps" in printed and "Peak memory of process 0: host" in printed
    trace, weights = sorted(folder.iterdir(), key=lambda path: path.name, reverse=True)
    assert weights.read_bytes() == b"of a run"
    (file,) = trace.iterdir()
    events = json.loads(file.read_text())["traceEvents"]
    assert any("conv" in event.get("name", "") for event in events)


def test_no_steps_are_refused(tmp_path, photographs, capsys):
    arguments = [f"run={tmp_path}", f"data.photographs={photographs}", "--profile", "--steps", "0"]
    assert main.main([SMOKE, *arguments]) == 2
    assert "--steps" in capsys.readouterr().err
