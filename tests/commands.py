"""The commands of the documentation: found in its pages, and run as a reader would run them.

A fenced block marked by ``<!-- run -->`` on the line before it is run by test_docs.py. Blocks that
are not marked take too long, need the network or a GPU; of these the options are checked.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
LANGUAGES = ("bash", "python")
_BLOCK = re.compile(r"^(<!-- run -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`((?:python|torchrun) [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``line`` is where its text begins, counted from 1."""

    language: str
    text: str
    line: int
    marked: bool


def entries() -> list[Path]:
    """What belongs to the repository at its top, as far as its ignore file tells."""
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
    return sorted(p for p in ROOT.iterdir() if p.name not in ignored and p.name[0] != ".")


def pages() -> list[Path]:
    """Every Markdown page of the repository."""
    found = (p.rglob("*.md") if p.is_dir() else [p] for p in entries())
    return [page for page in itertools.chain(*found) if page.suffix == ".md"]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[2], match[3], text.count("\n", 0, match.start(3)) + 1, bool(match[1]))
        for match in _BLOCK.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    """The command lines of a page's bash blocks."""
    shell = (block.text for block in blocks(page) if block.language == "bash")
    lines = "".join(shell).replace("\\\n", " ").splitlines()
    return [line for line in lines if line and line[0] != "#"]


def mentions(page: Path) -> list[str]:
    """The commands in a page's running text; parts of them may be left out with an ellipsis."""
    return _SPAN.findall(prose(page))


def script_of(command: str) -> tuple[str, list[str]] | None:
    """The script or module of ours that a command runs, and its arguments; None if none."""
    words = shlex.split(command, comments=True)
    for i, word in enumerate(words):
        if word.endswith(".py"):
            return word, words[i + 1 :]
        if word == "-m" and i + 1 < len(words):
            path = ROOT / words[i + 1].replace(".", "/")
            if path.is_dir() or path.with_suffix(".py").exists():
                return words[i + 1], words[i + 2 :]
    return None


@functools.cache
def help_of(script: str) -> str:
    """What a script (a path from the root) or a module prints for ``--help``."""
    text = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [script, "--help"]),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        if script.endswith(".py"):
            runpy.run_path(str(ROOT / script), run_name="__main__")
        else:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
    return text.getvalue()


def lay_out(folder: Path) -> None:
    """Make a copy of the repository; what commands write there stays there."""
    folder.mkdir()
    for path in entries():
        if path.is_dir():
            for file in path.rglob("*"):
                if file.is_file() and "__pycache__" not in file.parts:
                    copy = folder / file.relative_to(ROOT)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, copy)
        else:
            shutil.copy2(path, folder / path.name)


def environment(folder: Path) -> dict[str, str]:
    """That of commands which run in a folder: this Python is ``python``, and what make installs."""
    programs = folder / ".programs/bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    (programs.parent / "installed").touch()
    path = os.pathsep.join([str(programs), sysconfig.get_path("scripts"), os.environ["PATH"]])
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "VENV": str(programs.parent)}


def execute(words: list[str], folder: Path, surroundings: dict[str, str]) -> tuple[int, str]:
    """Run a program in a folder; its exit code, and what it printed."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout


def run(page: Path, folder: Path) -> list[str]:
    """Run the marked blocks of a page in order; blocks of one language in a row are one program.

    Returns:
        What each program printed.

    Raises:
        AssertionError: a program failed; the message is its output.
    """
    surroundings = environment(folder)
    marked = [block for block in blocks(page) if block.marked]
    outputs = []
    for language, group in itertools.groupby(marked, lambda block: block.language):
        assert language in LANGUAGES, f"{page}: a {language} block cannot be run"
        program = ""
        for block in group:  # lines keep their numbers, so that an error names the page's
            program += "\n" * (block.line - 1 - program.count("\n")) + block.text
        start = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": ["python", "-c"]}[language]
        code, said = execute([*start, program], folder, surroundings)
        assert code == 0, f"{page.name}, {language}: {said}"
        outputs.append(said)
    return outputs
