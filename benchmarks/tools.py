"""The programs compared on stacks: ours and those of :mod:`evaluation.peers`."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import ROOT, Cost, Failed, measure
from evaluation.peers import PEERS, Commands, Peer
from utils.images import read_photo
from utils.provenance import provenance


class Ours(Peer):
    """This repository's command line."""

    def version(self) -> str:
        return str(provenance()["revision"])


def _ours(
    stacks: Sequence[Path], output: Path, align: bool, memory: int | None = None, crop: bool = True
) -> Commands:
    options = ["--output", str(output), *([] if align else ["--no-align"])]
    options += [] if memory is None else ["--memory", str(memory)]
    options += [] if crop else ["--keep-size"]
    command = [sys.executable, str(ROOT / "run_inference.py")]
    return [[*command, "--stack", str(stack), *options] for stack in stacks]


OURS = Ours("ours", sys.executable, "", _ours)
TOOLS = (OURS, *PEERS)
NAMES = [tool.name for tool in TOOLS]
OPENFOCUS_DEFAULT = "OpenFocus StackMFF V3"


def fuse_with(tool: Peer, frames: Path, align: bool) -> tuple[np.ndarray, Cost]:
    """Let a program fuse a folder of frames: the fused image (H, W, 3) and its cost; raises
    :class:`~benchmarks.measure.Failed` if it ends with an error or writes no image."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        output = Path(folder)
        cost = measure(tool.command_lines([frames], output, align))
        images = [*output.glob("*-Fusion.*"), *output.glob("*.png")]
        if not images:
            raise Failed(f"{tool.name} wrote no image")
        return read_photo(images[0]).rgb, cost
