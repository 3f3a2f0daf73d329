"""Run command lines and measure wall time, CPU time and peak memory.

A forked process counts its parent's memory as its own until it executes another program. So
programs are started from a small process: this module, which imports little.

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
    """The cost of programs that ran one after another."""

    seconds: float  # on the clock
    cpu: float  # seconds of all cores together
    megabytes: float  # peak resident memory (10⁶ bytes) of the largest process


class Failed(Exception):
    """A program ended with an error; says which and why."""


def measure(commands: Sequence[Sequence[str]]) -> Cost:
    """Run command lines one after another.

    Raises:
        Failed: one ends with an exit code other than 0.
    """
    costs = []
    for command in commands:
        with tempfile.TemporaryDirectory(prefix="measure-") as temporary:
            result, log = Path(temporary) / "cost.json", Path(temporary) / "log.txt"
            own = [sys.executable, __file__, str(result), str(log)]
            subprocess.run([*own, *map(str, command)], check=True)
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
    cost = Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6)
    Path(result).write_text(json.dumps([os.waitstatus_to_exitcode(status), *cost]))


if __name__ == "__main__":
    main(*sys.argv[1:])
