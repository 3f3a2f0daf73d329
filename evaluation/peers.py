"""Other fusion programs, run through their own releases.

Each gets the settings that its own documentation gives. For images that are registered already:

* OpenFocus, ten methods: ``--align none``; ``--no-exposure-match``, since both photographs of a
  pair have the same exposure (on generated pairs its methods come 0.5 to 1 dB nearer to the truth).
* FocusWeave: ``--no-align``.
* enfuse: the manual's weights for focus stacks, contrast alone, and a hard mask.

Where each has to align by itself: OpenFocus with ``--align openfocus``, FocusWeave by default,
enfuse after ``align_image_stack`` as its manual says.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from utils.errors import UserError, nearest

OURS = "MMF-Net (ours)"  # beside the others, in tables
Commands = list[list[str]]


def find_program(name: str) -> str | None:
    """The absolute path of a program in this Python environment or on the PATH, whose folders may
    be relative; None if it is not installed."""
    own = sysconfig.get_path("scripts")
    found = shutil.which(name, path=os.pathsep.join([own, os.environ.get("PATH", "")]))
    return found and os.path.abspath(found)


@dataclass(frozen=True)
class Peer:
    """A method of another program.

    ``commands`` makes command lines of (stacks, output, align). Each of ``stacks``, siblings, is a
    folder of frames; its result is ``output/NAME.png``, after the folder's name.
    """

    name: str
    program: str
    install: str  # how to get it
    commands: Callable[[Sequence[Path], Path, bool], Commands]
    package: str | None = None  # on PyPI, of a program that lacks ``--version``
    aligner: str | None = None  # another program that it needs to align

    def absent(self, align: bool = False) -> str | None:
        """What is missing and how to install it, or None if nothing is."""
        if find_program(self.program) is None:
            return f"{self.program} is not installed and left out; {self.install}"
        if align and self.aligner and find_program(self.aligner) is None:
            return f"{self.name} is left out without {self.aligner}; apt install hugin-tools"
        return None

    def version(self) -> str:
        """The installed release; "unknown" if the program does not say."""
        command = [program := find_program(self.program), "--version"]
        if self.package:  # the program may be of another Python environment than this one
            python = shutil.which("python", path=Path(program).resolve().parent)
            ask = f"import importlib.metadata as m; print(m.version({self.package!r}))"
            command = [python or sys.executable, "-c", ask]
        said = ""
        with contextlib.suppress(OSError):  # it cannot be run at all
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found = re.search(r"\d+(\.\d+)+\S*", said)
        return found[0] if found else "unknown"

    def command_lines(self, stacks: Sequence[Path], output: Path, align: bool) -> Commands:
        """:attr:`commands`, each program by its path."""
        lines = self.commands(stacks, output, align)
        return [[find_program(program) or program, *arguments] for program, *arguments in lines]


def _openfocus(method: str, stacks: Sequence[Path], output: Path, align: bool) -> Commands:
    one = ["--output", str(output / f"{stacks[0].name}.png")]
    where = one if len(stacks) == 1 else ["--output-dir", str(output)]
    options = ["openfocus"] if align else ["none", "--no-exposure-match"]
    command = ["openfocus", "--input", *map(str, stacks), *where, "--method", method]
    return [[*command, "--align", *options]]


def _focusweave(stacks: Sequence[Path], output: Path, align: bool) -> Commands:
    options = [] if align else ["--no-align"]
    if len(stacks) == 1:
        files = [str(stacks[0]), "--output", str(output / f"{stacks[0].name}.png")]
    else:
        files = ["--batch", str(stacks[0].parent), "--output", str(output)]
        options += ["--batch-format", "png"]
    return [["focusweave", *files, *options]]


def _enfuse(stacks: Sequence[Path], output: Path, align: bool) -> Commands:
    weights = ["--exposure-weight=0", "--saturation-weight=0", "--contrast-weight=1", "--hard-mask"]
    commands = []
    for stack in stacks:
        frames = [str(path) for path in sorted(stack.iterdir())]
        if align:
            # Numbered from 0; -m lets the field of view change, as it does with the focus.
            commands.append(["align_image_stack", "-m", "-a", str(output / "aligned-"), *frames])
            frames = [str(output / f"aligned-{i:04d}.tif") for i in range(len(frames))]
        commands.append(["enfuse", *weights, f"--output={output / stack.name}.png", *frames])
    return commands


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
APT = "apt install enfuse (Debian, Ubuntu)"
PEERS = (
    *(
        Peer(f"OpenFocus {name}", "openfocus", OWN_ENVIRONMENT, partial(_openfocus, m), "openfocus")
        for m, name in OPENFOCUS_METHODS.items()
    ),
    Peer("FocusWeave", "focusweave", OWN_ENVIRONMENT, _focusweave),
    Peer("enfuse", "enfuse", APT, _enfuse, aligner="align_image_stack"),
)


def choose_peers(
    names: Sequence[str], peers: Sequence[Peer] = PEERS, align: bool = False
) -> tuple[list[Peer], list[str]]:
    """The installed ones of the peers or programs named ("OpenFocus DCT", "enfuse"; none means
    all), and a line for each that is absent; ``align`` says whether they have to align. Raises
    :class:`UserError` for an unknown name (the nearest is given)."""
    known = [text for peer in peers for text in (peer.program, peer.name)]
    for name in names:
        if name.casefold() not in map(str.casefold, known):
            near = nearest(name, known)
            raise UserError(f"--run-peers: there is no {name!r}; did you mean {near}?")
    wanted = set(map(str.casefold, names or known))
    peers = [p for p in peers if wanted & {p.name.casefold(), p.program.casefold()}]
    absent = [peer.absent(align) for peer in peers]
    chosen = [peer for peer, note in zip(peers, absent, strict=True) if not note]
    return chosen, list(dict.fromkeys(filter(None, absent)))
