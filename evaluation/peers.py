"""Other fusion programs, run through their own releases on folders of registered pairs.

Each runs with the settings that its own documentation gives for images that are registered already:

* OpenFocus, ten methods: ``--align none``; ``--no-exposure-match``, since both photographs of a
  pair have the same exposure (on generated pairs its methods come 0.5 to 1 dB nearer to the truth).
* FocusWeave: ``--no-align``.
* enfuse: the manual's weights for focus stacks, contrast alone, and a hard mask.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from fusion.pairs import Pair
from utils.atomic import atomic_path
from utils.errors import UserError

Commands = list[list[str]]
TEMPORARY = "TMP"
"""Stands for the folder of the stacks where a command line is recorded."""


@dataclass(frozen=True)
class Peer:
    """A method of another program.

    Attributes:
        name: in tables.
        program: executable.
        install: how to get it.
        commands: (stacks, output) to command lines without the program. ``stacks`` holds a folder
            for each pair, named after it, with the images ``1`` and ``2``; ``output/NAME.png``
            results.
        package: distribution on PyPI, for a program that does not know ``--version``.
    """

    name: str
    program: str
    install: str
    commands: Callable[[Path, Path], Commands]
    package: str | None = None

    def executable(self) -> str | None:
        """The program in this Python environment or on the PATH; None if it is not installed."""
        own = sysconfig.get_path("scripts")
        return shutil.which(self.program, path=os.pathsep.join([own, os.environ.get("PATH", "")]))

    def version(self) -> str:
        """The installed release."""
        program = self.executable()
        command = [program, "--version"]
        if self.package:  # the program may be of another Python environment than this one
            python = shutil.which("python", path=Path(program).resolve().parent)
            ask = f"import importlib.metadata as m; print(m.version({self.package!r}))"
            command = [python or sys.executable, "-c", ask]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"\d+(\.\d+)+\S*", said.stdout)
        return found[0] if found else "unknown"


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
        """The first command line, "…" for its files."""
        words = (re.sub(rf"{TEMPORARY}/\S*", "…", word) for word in self.commands[0])
        return " ".join(word for word, _ in itertools.groupby(words))

    def same_as(self, other: Run) -> bool:
        """Whether the other run would give the same images."""
        return (self.version, self.commands, self.sources) == (
            other.version,
            other.commands,
            other.sources,
        )


def _openfocus(method: str) -> Callable[[Path, Path], Commands]:
    def commands(stacks: Path, output: Path) -> Commands:
        folders = [str(folder) for folder in _folders(stacks)]
        options = ["--method", method, "--align", "none", "--no-exposure-match"]
        return [["--input", *folders, "--output-dir", str(output), *options]]

    return commands


def _focusweave(stacks: Path, output: Path) -> Commands:
    options = ["--no-align", "--batch-format", "png"]
    return [["--batch", str(stacks), "--output", str(output), *options]]


def _enfuse(stacks: Path, output: Path) -> Commands:
    weights = ["--exposure-weight=0", "--saturation-weight=0", "--contrast-weight=1", "--hard-mask"]
    return [
        [*weights, f"--output={output / folder.name}.png", *map(str, sorted(folder.iterdir()))]
        for folder in _folders(stacks)
    ]


OPENFOCUS_METHODS = {
    "stackmffv3": "StackMFF V3",
    "stackmffv2": "StackMFF V2",
    "stackmff": "StackMFF",
    "openfocus_a": "A",
    "openfocus_b": "B",
    "openfocus_c": "C",
    "guided_filter": "guided filter",
    "gfgfgf": "GFG-FGF",
    "dct": "DCT",
    "dtcwt": "DTCWT",
}
OWN_ENVIRONMENT = "requirements-benchmark.txt says how to install it"
PEERS = (
    *(
        Peer(f"OpenFocus {name}", "openfocus", OWN_ENVIRONMENT, _openfocus(m), "openfocus")
        for m, name in OPENFOCUS_METHODS.items()
    ),
    Peer("FocusWeave", "focusweave", OWN_ENVIRONMENT, _focusweave),
    Peer("enfuse", "enfuse", "apt install enfuse (Debian, Ubuntu)", _enfuse),
)


def choose_peers(names: Sequence[str]) -> tuple[list[Peer], list[str]]:
    """The installed ones of some peers, and a line for each program that is absent.

    Args:
        names: of programs or methods ("openfocus", "OpenFocus DCT", "enfuse"); none means all.
    Raises:
        UserError: an unknown name (the nearest is given).
    """
    for name in names:
        known = [known for peer in PEERS for known in (peer.program, peer.name)]
        if name.casefold() not in map(str.casefold, known):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise UserError(f"--run-peers: there is no {name!r}; did you mean {near}?")
    wanted = set(map(str.casefold, names))
    chosen = [
        peer
        for peer in PEERS
        if not wanted or wanted & {peer.name.casefold(), peer.program.casefold()}
    ]
    absent = {peer.program: peer.install for peer in chosen if peer.executable() is None}
    notes = [f"{name} is not installed and left out; {how}" for name, how in absent.items()]
    return [peer for peer in chosen if peer.program not in absent], notes


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
        commands = peer.commands(stacks, results)
        said = [[argument.replace(folder, TEMPORARY) for argument in line] for line in commands]
        planned = Run(peer.version(), said, sources, len(pairs), 0.0, 0.0)
        if (former := _former(output)) and former.same_as(planned):
            return former, []
        start, cpu_start = time.perf_counter(), _cpu_seconds()
        problems = _execute(peer, commands, results, len(pairs), Path(folder))
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
        for arguments in commands:
            with tempfile.TemporaryFile("w+", errors="replace") as said:
                process = subprocess.Popen(
                    [peer.executable(), *arguments],
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


def _folders(stacks: Path) -> list[Path]:
    return sorted(path for path in stacks.iterdir() if path.is_dir())


def _former(output: Path) -> Run | None:
    try:
        return Run(**json.loads((output / "run.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
