"""Many stacks: what is bad, what is done already, and what several processes do together."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from focus_stacks import focus_stack, save_stack
from test_inference import files, pixels

from run_inference import main
from utils import atomic
from utils.interrupts import heed_signals

COUNT = 8  # stacks that two processes share


@pytest.fixture
def run(tmp_path, weights):
    """Fuse the batch ``tmp_path/in`` into ``tmp_path/out``; exit code."""

    def runner(*args: str, output: Path = tmp_path / "out") -> int:
        batch = ["--batch", str(tmp_path / "in"), "--output", str(output), "--weights", weights]
        return main([*batch, *args])

    return runner


def save_batch(folder: Path, count: int, **size: int) -> list[str]:
    names = [f"s{i}" for i in range(count)]
    for seed, name in enumerate(names):
        save_stack(folder / name, focus_stack(3, seed=seed, **size))
    return names


def test_a_bad_stack_does_not_lose_the_others(tmp_path, run, capsys):
    save_batch(tmp_path / "in", 3)
    (tmp_path / "in/s1/f2.png").unlink()
    (tmp_path / "in/s1/f3.png").write_bytes(b"broken")
    (tmp_path / "in/s2/f2.png").write_bytes(b"broken")
    assert run("--json", str(tmp_path / "r.json")) == 2
    error = capsys.readouterr().err
    assert "s1: 1 frame can be read" in error and "s2/f2.png is no image" in error
    report = json.loads((tmp_path / "r.json").read_text())
    assert [stack["name"] for stack in report["stacks"]] == ["s0", "s2"]
    assert len(report["errors"]) == 2
    assert files(tmp_path / "out") == [
        f"{name}-{kind}" for name in ("s0", "s2") for kind in ("Fusion.png", "Record.json")
    ]


def test_a_service_that_sets_the_world_size_alone_does_no_harm(tmp_path, run, monkeypatch):
    save_batch(tmp_path / "in", 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run() == 0
    assert files(tmp_path / "out") == ["s0-Fusion.png", "s0-Record.json"]


def fused_anew(capsys) -> list[str]:
    """Names of the stacks that the last run did not pass over."""
    return re.findall(r"(\w+)-Fusion\.\w+: \d", capsys.readouterr().out)


def test_resume_does_what_is_left_and_what_has_changed(tmp_path, run, capsys):
    names = save_batch(tmp_path / "in", 3)
    out = tmp_path / "out"
    assert run() == 0 and fused_anew(capsys) == names
    assert run("--resume") == 0 and fused_anew(capsys) == []
    (out / "s0-Fusion.png").unlink()  # the result is gone
    (out / "s1-Record.json").write_text("{")  # the record is broken
    assert run("--resume") == 0 and fused_anew(capsys) == ["s0", "s1"]
    frame = tmp_path / "in/s2/f1.png"
    frame.write_bytes((tmp_path / "in/s1/f1.png").read_bytes())  # another frame
    before = pixels(out / "s2-Fusion.png")
    assert run("--resume") == 0 and fused_anew(capsys) == ["s2"]
    assert before.shape != (after := pixels(out / "s2-Fusion.png")).shape or (before != after).any()
    assert run("--resume", "--maps") == 0 and fused_anew(capsys) == names  # other options
    assert run("--resume", "--maps", "--memory", "4G") == 0 and fused_anew(capsys) == names
    assert run("--resume", "--maps", "--memory", "4G") == 0 and fused_anew(capsys) == []
    assert run("--maps") == 0 and fused_anew(capsys) == names  # not asked to resume
    report = tmp_path / "r.json"
    assert run("--resume", "--maps", "--json", str(report)) == 0
    assert [stack["name"] for stack in json.loads(report.read_text())["stacks"]] == names


def test_the_record_of_a_stack_comes_after_all_its_results(tmp_path, run, monkeypatch):
    """Killed before it, a stack is unfinished; results without a record would be refused."""
    moved, move = [], atomic._move
    monkeypatch.setattr(atomic, "_move", lambda path, to: (moved.append(to.name), move(path, to)))
    save_batch(tmp_path / "in", 1)
    assert run("--maps", "--preview", "--save-steps") == 0
    assert moved[-1] == "s0-Record.json" and {"s0-Fusion.png", "s0-Steps"} <= set(moved)


def test_results_of_an_interrupted_move_do_not_pass_for_finished_ones(
    tmp_path, run, capsys, monkeypatch
):
    save_batch(tmp_path / "in", 1)
    assert run("--maps") == 0
    before = pixels(tmp_path / "out/s0-Fusion.png")
    moved, move = [], atomic._move

    def stop(path: Path, to: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(move(path, to))

    monkeypatch.setattr(atomic, "_move", stop)
    assert run("--resume", "--maps", "--keep-size") == 130
    monkeypatch.setattr(atomic, "_move", move)
    capsys.readouterr()
    assert run("--resume", "--maps") == 0 and fused_anew(capsys) == ["s0"]
    assert np.array_equal(pixels(tmp_path / "out/s0-Fusion.png"), before)
    assert not list(tmp_path.glob("out/.*"))


def test_dry_run_of_a_batch(tmp_path, run, capsys):
    save_batch(tmp_path / "in", 2)
    (tmp_path / "in/s1/f3.png").write_bytes(b"broken")
    assert run("--dry-run") == 2  # as the run itself
    plan = capsys.readouterr().out
    assert "s0: 3 frames" in plan and "s1: 2 frames" in plan
    assert "left out: " in plan and "f3.png" in plan
    assert not (tmp_path / "out").exists()


def test_bad_batches(tmp_path, run, capsys):
    assert run() == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "in/empty").mkdir(parents=True)
    assert run() == 2
    assert "holds no stacks" in capsys.readouterr().err


# Interruptions


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def wait_for(condition, process: subprocess.Popen) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.01)


def whole(out: Path, expected: Path) -> list[str]:
    """Names of the finished stacks; everything in ``out`` is whole and as in ``expected``.

    To a grey level: another number of threads adds up in another order.
    """
    fused = [name for name in files(out) if name.endswith("-Fusion.png")]
    for name in fused:
        difference = pixels(out / name).astype(int) - pixels(expected / name)
        assert np.abs(difference).max() <= 1
    assert not [name for name in files(out) if not re.fullmatch(r"s\d-(Fusion|Record)\..*", name)]
    return [name.removesuffix("-Fusion.png") for name in fused]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_the_scheduler_leave_whole_files(tmp_path, run, weights, end):
    """Nothing half-written, no traceback, the rest by --resume."""
    names = save_batch(tmp_path / "in", 10, height=300, width=400)
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "run_inference.py"), "--batch", str(tmp_path / "in")]
    command += ["--output", str(out), "--weights", weights]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as process:
        wait_for(lambda: (out / "s0-Record.json").exists(), process)
        process.send_signal(end)
        _, error = process.communicate()
    assert (process.returncode, b"Traceback" in error) == (130, False), error
    assert run(output=tmp_path / "expected") == 0
    assert 0 < len(whole(out, tmp_path / "expected")) < len(names)
    assert run("--resume") == 0
    assert whole(out, tmp_path / "expected") == names


@pytest.mark.parametrize("after", [None, OSError(errno.EBADF, "Bad file descriptor")])
def test_an_interrupt_that_a_library_loses_ends_the_batch(tmp_path, run, monkeypatch, after):
    """As in a finalizer, or in the middle of shutil.rmtree, which then closes a folder twice."""
    save_batch(tmp_path / "in", 3)
    remove = shutil.rmtree

    def lose(folder: Path, **how: bool) -> None:
        remove(folder, **how)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        if after:
            raise after

    monkeypatch.setattr(atomic.shutil, "rmtree", lose)
    with heed_signals():
        assert run() == 130
    assert files(tmp_path / "out") == ["s0-Fusion.png", "s0-Record.json"]


def rank_of(pid: int) -> int | None:
    try:
        found = re.search(rb"\0RANK=(\d+)\0", Path(f"/proc/{pid}/environ").read_bytes())
        return int(found[1]) if found else None
    except OSError:
        return None


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux to find the ranks")
def test_two_processes_share_a_batch_and_one_is_killed(tmp_path, run, weights):
    names = save_batch(tmp_path / "in", COUNT, height=200, width=300)
    assert run(output=tmp_path / "expected") == 0
    out = tmp_path / "out"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    launch += [str(ROOT / "run_inference.py"), "--batch", str(tmp_path / "in")]
    launch += ["--output", str(out), "--weights", weights]
    with subprocess.Popen(launch, stderr=subprocess.DEVNULL, env=environment()) as process:
        wait_for(lambda: len(list(out.glob("*-Record.json"))) >= 2, process)
        for child in children(process.pid):
            if rank_of(child) == 1:
                os.kill(child, signal.SIGKILL)
        process.wait(timeout=120)
    assert process.returncode != 0
    for partial in out.glob(".*.partial"):  # of the one that was killed; resuming replaces it
        assert partial.is_dir()
    done = {path.name.split("-")[0] for path in out.glob("*-Record.json")}
    assert 2 <= len(done) < COUNT
    report = tmp_path / "r.json"
    result = subprocess.run(
        [*launch, "--resume", "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    assert result.returncode == 0, result.stderr
    assert sorted(re.findall(r"(\w+) was finished before", result.stdout)) == sorted(done)
    anew = re.findall(r"(\w+)-Fusion\.png: \d", result.stdout)
    assert sorted(anew) == sorted(set(names) - done)  # each once
    assert whole(out, tmp_path / "expected") == names
    told = json.loads(report.read_text())
    assert [stack["name"] for stack in told["stacks"]] == names and told["errors"] == []
