"""Run command lines and measure wall time, CPU time and peak memory.

A forked process counts its parent's memory as its own until it executes another program. So
programs are started from a small process: this module, which imports little.
"""

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
    """Run command lines one after another; raises :class:`Failed` if one does."""
    costs = []
    for command in commands:
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            own = [sys.executable, __file__, *map(str, command)]
            ran = subprocess.run(own, stdout=subprocess.PIPE, stderr=said, check=True)
            code, *cost = json.loads(ran.stdout)
            if code:
                said.seek(0)
                last = (said.read().strip().splitlines() or ["it said nothing"])[-1]
                raise Failed(f"{Path(command[0]).name} ended with exit code {code}: {last}")
            costs.append(cost)
    seconds, cpu, megabytes = zip(*costs, strict=True)
    return Cost(sum(seconds), sum(cpu), max(megabytes))


def main(*command: str) -> None:
    """Run one command line and print [exit code, seconds, cpu, megabytes]."""
    # Not the path of this checkout: OpenFocus has packages of the same names.
    streams = {"stdin": subprocess.DEVNULL, "stdout": sys.stderr}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    start = time.perf_counter()
    try:
        process = subprocess.Popen(command, env=environment, **streams)
    except OSError as error:  # a script whose Python has gone, say
        print(error.strerror, file=sys.stderr)
        print(json.dumps([127, 0, 0, 0]))  # the code of a shell
        return
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes
    cost = Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6)
    print(json.dumps([os.waitstatus_to_exitcode(status), *cost]))


if __name__ == "__main__":
    main(*sys.argv[1:])
