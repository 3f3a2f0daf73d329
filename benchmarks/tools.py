"""The programs that are compared on stacks: ours and those of :mod:`evaluation.peers`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import ROOT
from evaluation.peers import PEERS, Commands, Peer


class Ours(Peer):
    """This repository's command line."""

    def version(self) -> str:
        return "this revision"


def _ours(stacks: Sequence[Path], output: Path, align: bool) -> Commands:
    command = [sys.executable, str(ROOT / "run_inference.py"), "--output", str(output)]
    return [
        [*command, "--stack", str(stack), *([] if align else ["--no-align"])] for stack in stacks
    ]


OURS = Ours("ours", sys.executable, "", _ours)
TOOLS = (OURS, *PEERS)
OPENFOCUS_DEFAULT = "OpenFocus StackMFF V3"


def result(output: Path) -> Path:
    """The fused picture that a tool has written to its folder for results."""
    return next(iter([*output.glob("*-Fusion.*"), *output.glob("*.png")]))
