"""Our network and other programs, run on folders of pairs."""

import contextlib
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
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from evaluation.peers import OURS, Commands, Peer
from fusion.backends import load_backend
from fusion.frames import widen
from fusion.fuse import fuse
from fusion.pairs import Pair
from utils.atomic import write_json
from utils.errors import UserError, os_errors
from utils.images import read_photo, write_png

TEMPORARY = "TMP"  # stands for the folder of the stacks where a command line is recorded


def fuse_folder(
    weights: Path, pairs: Sequence[Pair], output: Path, device: str = "auto"
) -> tuple[dict[str, object], list[str]]:
    """Fuse pairs with trained weights and write ``NAME-Fusion.png`` for each; those of an earlier
    run are removed. Returns what was run, with the seconds of fusion alone, and a sentence for each
    pair that failed; raises :class:`UserError` if the weights cannot be loaded, or the output
    cannot be written."""
    backend = load_backend(weights, device)
    with os_errors(f"write to folder {output}"):
        for former in output.glob("*-Fusion.png"):
            former.unlink()
    problems, times = [], []
    for pair in tqdm(pairs, unit="pair", desc=OURS, disable=None):
        try:
            images = [read_photo(path).rgb for path in (pair.image1, pair.image2)]
            images = [widen(image, np.result_type(*images)) for image in images]
            start, cpu_start = time.perf_counter(), time.process_time()
            fused = fuse(images, backend, align=False).image
            times.append((time.perf_counter() - start, time.process_time() - cpu_start))
        except (UserError, ValueError) as error:
            problems.append(f"{OURS}: {pair.name}: {error}")
        else:
            write_png(output / f"{pair.name}-Fusion.png", fused)
    seconds, cpu_seconds = np.mean(times or [(0.0, 0.0)], axis=0).tolist()
    about = {"weights": str(weights), "device": backend.device}
    return about | {"seconds_per_pair": seconds, "cpu_seconds_per_pair": cpu_seconds}, problems


class Run(NamedTuple):
    """What a peer was run with; the first three settle whether it would give the same images."""

    version: str
    commands: Commands
    sources: str  # hash of names and contents
    pairs: int
    seconds: float  # all pairs, with the start of the program
    cpu_seconds: float  # of all cores together: what else the machine does matters little

    def about(self) -> dict[str, str | float]:
        """For ``summary.json``: options are those of the first command line, "…" for its files."""
        words = (re.sub(rf"{TEMPORARY}/\S*", "…", word) for word in self.commands[0][1:])
        return {
            "version": self.version,
            "options": " ".join(word for word, _ in itertools.groupby(words)),
            "seconds_per_pair": self.seconds / self.pairs,
            "cpu_seconds_per_pair": self.cpu_seconds / self.pairs,
        }


def run_peer(peer: Peer, pairs: Sequence[Pair], output: Path) -> tuple[Run, list[str]]:
    """Fuse registered pairs with an installed peer, unless the same run has done so before; the
    output folder gets the images and, when all is done, ``run.json``. Returns the run, and a
    sentence for each failure; raises :class:`UserError` if a file cannot be read or written."""
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        home, results = Path(folder) / "stacks", Path(folder) / "results"
        results.mkdir()
        sources = _copy_as_stacks(pairs, home)
        stacks = sorted(home.iterdir())
        lines = peer.commands(stacks, results, False)
        said = [[word.replace(folder, TEMPORARY) for word in line] for line in lines]
        planned = (peer.version(), said, sources)
        with contextlib.suppress(OSError, ValueError, TypeError):  # absent or damaged
            former = Run(**json.loads((output / "run.json").read_text(encoding="utf-8")))
            there = all((output / f"{pair.name}.png").exists() for pair in pairs)
            if there and former[:3] == planned:
                return former, []
        start, before = time.perf_counter(), os.times()
        problems = _execute(peer, stacks, results)
        if not problems:
            lost = [pair.name for pair in pairs if not (results / f"{pair.name}.png").exists()]
            problems = [f"{peer.name} wrote nothing for {name}" for name in lost]
        seconds, after = time.perf_counter() - start, os.times()
        # user and system time of what ran meanwhile; always 0 under Windows
        cpu_seconds = sum(after[2:4]) - sum(before[2:4])
        with os_errors(f"write {output}"):
            shutil.rmtree(output, ignore_errors=True)
            shutil.copytree(results, output)
    run = Run(*planned, len(pairs), seconds, cpu_seconds)
    if not problems:
        write_json(output / "run.json", run._asdict())
    return run, problems


def _copy_as_stacks(pairs: Sequence[Pair], home: Path) -> str:
    """Copy each pair into a folder of its own; the hash of all names and contents."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(os.fsencode(pair.name))
        stack = home / pair.name
        stack.mkdir(parents=True)
        for number, path in enumerate((pair.image1, pair.image2), 1):
            with os_errors(f"read {path}"):
                content = path.read_bytes()
            digest.update(hashlib.sha256(content).digest())
            (stack / f"{number}{path.suffix.lower()}").write_bytes(content)
    return digest.hexdigest()


def _execute(peer: Peer, stacks: Sequence[Path], results: Path) -> list[str]:
    """Run the command lines one by one; progress is the number of images written."""
    # Not the path of this checkout: OpenFocus has packages of the same names.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    problems = []
    with tqdm(total=len(stacks), unit="pair", desc=peer.name, disable=None) as progress:
        for command in peer.command_lines(stacks, results, False):
            with tempfile.TemporaryFile("w+", errors="replace") as said:
                streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
                try:
                    process = subprocess.Popen(
                        command, cwd=results.parent, env=environment, **streams
                    )
                except OSError as error:  # a script whose Python has gone, say
                    problems.append(f"{peer.name}: cannot run {command[0]}: {error.strerror}")
                    break
                try:
                    while process.poll() is None:
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            process.wait(0.5)
                        progress.update(len(list(results.glob("*.png"))) - progress.n)
                finally:
                    process.kill()
                if process.returncode:
                    said.seek(0)
                    lines = said.read().strip().splitlines() or ["it said nothing"]
                    reason = next((line for line in lines if "error" in line.lower()), lines[-1])
                    code = f"{peer.name} ended with exit code {process.returncode}"
                    problems.append(f"{code}: {reason.strip()}")
    return problems
