"""Run command lines and say what they took: wall time, CPU time, greatest memory.

A process that was forked counts the memory of its parent until it has become its own program. So
programs are started from a process of its own that is small: this module, which imports little.

    python -m benchmarks.measure RESULT.json LOG PROGRAM ARGUMENTS…
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Cost(NamedTuple):
    """What programs took that ran one after another.

    Attributes:
        seconds: on the clock.
        cpu: seconds of all cores together.
        megabytes: resident at most (10⁶ bytes), of the largest process.
    """

    seconds: float
    cpu: float
    megabytes: float


class Failed(Exception):
    """A program ended with an error; says which and why."""


def measure(commands: Sequence[Sequence[str]], folder: Path | None = None) -> Cost:
    """Run command lines one after another in a folder.

    Raises:
        Failed: one ends with an exit code other than 0.
    """
    costs = []
    for command in commands:
        with tempfile.TemporaryDirectory(prefix="measure-") as temporary:
            result, log = Path(temporary) / "cost.json", Path(temporary) / "log.txt"
            own = [sys.executable, str(Path(__file__)), str(result), str(log)]
            subprocess.run([*own, *map(str, command)], cwd=folder, check=True)
            code, *cost = json.loads(result.read_text())
            if code:
                said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                raise Failed(f"{Path(command[0]).name} ended with exit code {code}: {said[-1]}")
            costs.append(cost)
    seconds, cpu, megabytes = zip(*costs, strict=True)
    return Cost(sum(seconds), sum(cpu), max(megabytes))


def main(result: str, log: str, *command: str) -> None:
    """Run one command line and write [exit code, seconds, cpu, megabytes]."""
    # Not the path of this checkout: OpenFocus has packages of the same names.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with open(log, "wb") as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes
    row = [
        os.waitstatus_to_exitcode(status),
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * unit / 1e6,
    ]
    Path(result).write_text(json.dumps(row))


if __name__ == "__main__":
    main(*sys.argv[1:])
