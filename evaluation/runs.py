"""Runs of other programs on folders of pairs, repeated only when something has changed."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from evaluation.peers import Commands, Peer
from fusion.pairs import Pair
from utils.atomic import atomic_path
from utils.errors import UserError

TEMPORARY = "TMP"
"""Stands for the folder of the stacks where a command line is recorded."""


@dataclass(frozen=True)
class Run:
    """What a peer was run with: enough to repeat it, and to know whether that is needed."""

    version: str
    commands: Commands
    sources: str  # hash of names and contents
    pairs: int
    seconds: float  # all pairs, with the start of the program
    cpu_seconds: float  # of all cores together: what else the machine does matters little

    def options(self) -> str:
        """Those of the first command line, "…" for its files."""
        words = (re.sub(rf"{TEMPORARY}/\S*", "…", word) for word in self.commands[0][1:])
        return " ".join(word for word, _ in itertools.groupby(words))

    def same_as(self, other: Run) -> bool:
        """Whether the other run would give the same images."""
        return (self.version, self.commands, self.sources) == (
            other.version,
            other.commands,
            other.sources,
        )


def run_peer(
    peer: Peer, pairs: Sequence[Pair], sources: str, output: Path
) -> tuple[Run, list[str]]:
    """Fuse pairs with a peer, unless the same run has done so before.

    Args:
        peer: an installed one.
        pairs: registered.
        sources: hash of the pairs' names and contents, see :func:`content`.
        output: folder for the images, and for ``run.json``, written when all is done.
    Returns:
        The run, and sentences about what failed.
    """
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        stacks, results = Path(folder) / "stacks", Path(folder) / "results"
        results.mkdir()
        for pair in pairs:
            stack = stacks / (pair.name or "pair")
            stack.mkdir(parents=True)
            for number, path in enumerate((pair.image1, pair.image2), 1):
                shutil.copyfile(path, stack / f"{number}{path.suffix.lower()}")
        folders = sorted(stacks.iterdir())
        commands = peer.commands(folders, results, False)
        said = [[argument.replace(folder, TEMPORARY) for argument in line] for line in commands]
        planned = Run(peer.version(), said, sources, len(pairs), 0.0, 0.0)
        if (former := _former(output)) and former.same_as(planned):
            return former, []
        start, cpu_start = time.perf_counter(), _cpu_seconds()
        problems = _execute(
            peer, peer.command_lines(folders, results, False), results, len(pairs), Path(folder)
        )
        run = replace(
            planned,
            seconds=time.perf_counter() - start,
            cpu_seconds=_cpu_seconds() - cpu_start,
        )
        try:
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir(parents=True)
            for image in results.iterdir():
                shutil.move(image, output / image.name)
        except OSError as error:
            raise UserError(f"cannot write {output}: {error.strerror or error}") from error
    if not problems:
        with atomic_path(output / "run.json") as temporary:
            temporary.write_text(json.dumps(asdict(run), indent=1))
    return run, problems


def content(pairs: Sequence[Pair]) -> str:
    """Hash of the names and contents of pairs.

    Raises:
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(pair.name.encode())
        for path in (pair.image1, pair.image2):
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def _execute(peer: Peer, commands: Commands, results: Path, pairs: int, working: Path) -> list[str]:
    """Run command lines one after another; progress is the number of images written."""
    # Not the path of this checkout: OpenFocus has packages of the same names.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    problems = []
    with tqdm(total=pairs, unit="pair", desc=peer.name, disable=None) as progress:
        for command in commands:
            with tempfile.TemporaryFile("w+", errors="replace") as said:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    cwd=working,
                    env=environment,
                )
                try:
                    while _unfinished(process):
                        progress.update(_written(results) - progress.n)
                finally:
                    process.kill()
                progress.update(_written(results) - progress.n)
                if process.returncode:
                    said.seek(0)
                    problems.append(
                        f"{peer.name} ended with exit code {process.returncode}: "
                        f"{_reason(said.read())}"
                    )
    return problems


def _cpu_seconds() -> float:
    """Of the programs that were run so far; always 0 under Windows, which does not tell."""
    spent = os.times()
    return spent.children_user + spent.children_system


def _reason(said: str) -> str:
    """The first line about an error, else the last line."""
    lines = said.strip().splitlines() or ["it said nothing"]
    return next((line for line in lines if "error" in line.lower()), lines[-1]).strip()


def _unfinished(process: subprocess.Popen) -> bool:
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        return True
    return False


def _written(results: Path) -> int:
    return sum(1 for _ in results.glob("*.png"))


def _former(output: Path) -> Run | None:
    try:
        return Run(**json.loads((output / "run.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
