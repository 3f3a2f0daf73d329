"""Every command of the README runs: each is called here with its own arguments, made quick.

Its options and links are checked by test_docs.py.
"""

from __future__ import annotations

import importlib
import shlex
import subprocess
from pathlib import Path

import pytest
from focus_stacks import focus_stack, save_stack

from tests.commands import ROOT, commands

COMMANDS = commands(ROOT / "README.md")
# What these do, CI does before it comes here, or (tensorboard) does not end.
ELSEWHERE = ("python3 -m venv", "pip install", "python -m pytest", "tensorboard --logdir")
# Lessons from the local server are in test_prepare.py, from tiny segmentations in test_sources.py.
# The page does not end by itself: test_app.py.
PARSED_ONLY = ("data.prepare", "defocus.cutouts", "app")


def quick_training(run: Path, photographs: Path) -> list[str]:
    """Overrides that make training and validation a matter of a second."""
    return [
        f"run={run}",
        f"data.photographs={photographs}",
        "data.cutouts=null",
        "data.workers=0",
        "data.defocus.size=32",
        "data.defocus.sigma=[0.7,1.5]",
        "validation.photographs=''",
        "validation.cutouts=null",
        "validation.fraction=0.3",
        "validation.samples=1",
        "validation.quick=1",
        "validation.defocus.size=64",
        "train.steps=1",
        "train.batch=1",
    ]


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith(ELSEWHERE)])
def test_command_of_the_readme(command, tmp_path, photographs, stored, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    if words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], check=True, capture_output=True)
        return
    if words[0] == "torchrun":  # two processes: test_distributed.py
        words = ["python", *words[words.index("main.py") :]]
    assert words[0] == "python"
    name, *arguments = words[2:] if words[1] == "-m" else [words[1].removesuffix(".py"), *words[2:]]
    module = importlib.import_module(name)
    if name in PARSED_ONLY:
        with pytest.raises(SystemExit) as end:
            module.main([*arguments, "--help"])
        assert end.value.code == 0
        return
    here = {
        "datasets/lytro": "data/samples",
        "data.stored=datasets/train": f"data.stored={stored()}",
        "photographs": str(tmp_path / "stacks"),
    }
    save_stack(tmp_path / "stacks/flower", focus_stack(2))
    arguments = [here.get(argument, argument) for argument in arguments]
    if name in ("main", "defocus.generate"):
        arguments += quick_training(tmp_path / "run", photographs)
    if name == "evaluate":
        arguments += ["--cache", str(tmp_path / "cache"), "--workers", "1"]
        if "--synthetic" in arguments:
            arguments += ["--set", *quick_training(tmp_path / "run", photographs)]
    for option, value in (
        ("--out", tmp_path / "results"),
        ("--onnx", tmp_path / "out.onnx"),
        ("--output", tmp_path / "output.png"),
        ("--count", 2),
        ("--size", 64),
    ):
        if option in arguments:
            arguments[arguments.index(option) + 1] = str(value)
    assert module.main(arguments) == 0
    assert any(tmp_path.iterdir()) or "--evaluate" in arguments or "--output" not in arguments
