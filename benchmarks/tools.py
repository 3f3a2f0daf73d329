"""The programs that are compared on stacks, each by its own command line.

Registered stacks go through what each documents for these, see :mod:`evaluation.peers`. Otherwise
each aligns by itself: OpenFocus with ``--align openfocus``, FocusWeave by default, enfuse after
``align_image_stack`` as its manual says.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT
from evaluation.peers import OPENFOCUS_METHODS, PEERS, Peer

OPENFOCUS_REGISTERED = ("--align", "none", "--no-exposure-match")
ENFUSE = ("--exposure-weight=0", "--saturation-weight=0", "--contrast-weight=1", "--hard-mask")

Commands = list[list[str]]


@dataclass(frozen=True)
class Tool:
    """A program that fuses the frames in a folder.

    Attributes:
        name: in tables; one of :data:`evaluation.peers.PEERS`, or ``ours``.
        commands: (folder of frames, folder for results, align) to command lines. The fused picture
            is the file :meth:`result`.
        helper: another program that it needs to align, or None.
    """

    name: str
    commands: Callable[[Path, Path, bool], Commands]
    helper: str | None = None

    @property
    def peer(self) -> Peer | None:
        return next((peer for peer in PEERS if peer.name == self.name), None)

    def absent(self) -> str | None:
        """How to install what is missing, or None if nothing is."""
        if self.peer and self.peer.executable() is None:
            return f"{self.name} is not installed and left out; {self.peer.install}"
        if self.helper and shutil.which(self.helper) is None:
            return f"{self.name} is left out without {self.helper}; apt install hugin-tools"
        return None

    def version(self) -> str:
        return self.peer.version() if self.peer else "this revision"


def result(output: Path) -> Path:
    """The fused picture that a tool has written to its folder for results."""
    return next(iter([*output.glob("*-Fusion.*"), *output.glob("fused.*")]))


def _frames(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


def _ours(folder: Path, output: Path, align: bool) -> Commands:
    command = [sys.executable, str(ROOT / "run_inference.py"), "--stack", str(folder)]
    return [[*command, "--output", str(output), *([] if align else ["--no-align"])]]


def _openfocus(method: str) -> Callable[[Path, Path, bool], Commands]:
    def commands(folder: Path, output: Path, align: bool) -> Commands:
        options = ["--align", "openfocus"] if align else OPENFOCUS_REGISTERED
        files = ["--input", str(folder), "--output", str(output / "fused.png")]
        return [[_program("openfocus"), *files, "--method", method, *options]]

    return commands


def _focusweave(folder: Path, output: Path, align: bool) -> Commands:
    options = [] if align else ["--no-align"]
    return [[_program("focusweave"), str(folder), "--output", str(output / "fused.png"), *options]]


def _enfuse(folder: Path, output: Path, align: bool) -> Commands:
    frames, commands = _frames(folder), []
    if align:
        # Numbered from 0; -m lets the field of view change, as it does with the focus.
        commands = [["align_image_stack", "-m", "-a", str(output / "aligned-"), *frames]]
        frames = [str(output / f"aligned-{i:04d}.tif") for i in range(len(frames))]
    fuse = [_program("enfuse"), *ENFUSE, f"--output={output / 'fused.png'}", *frames]
    return [*commands, fuse]


def _program(name: str) -> str:
    peer = next(peer for peer in PEERS if peer.program == name)
    return peer.executable() or name


OURS = Tool("ours", _ours)
TOOLS = (
    OURS,
    *(Tool(f"OpenFocus {name}", _openfocus(m)) for m, name in OPENFOCUS_METHODS.items()),
    Tool("FocusWeave", _focusweave),
    Tool("enfuse", _enfuse, helper="align_image_stack"),
)
OPENFOCUS_DEFAULT = "OpenFocus StackMFF V3"


def choose(names: Sequence[str]) -> tuple[list[Tool], list[str]]:
    """The installed tools of some names (all by default), and a sentence for each absent one."""
    wanted = [tool for tool in TOOLS if not names or tool.name in names]
    absent = {tool.name: said for tool in wanted if (said := tool.absent())}
    return [tool for tool in wanted if tool.name not in absent], list(absent.values())
