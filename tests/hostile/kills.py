"""Kill training, generating and a batch at random moments, and resume them.

    python -m tests.hostile.kills
    python -m tests.hostile.kills --only batch --kills 3

Each runs once undisturbed, then is killed (kill -9) several times, each time in a new folder, and
the same command is run again to its end. No process and no temporary file may be left, and the
results have to equal those of the undisturbed run, bit for bit. Exit code: 0 if all do.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from data import prepare
from tests.commands import ROOT
from utils.errors import UserError, cli, option_parser

SECONDS = 10  # until processes that lost their parent have ended
STACKS = 8


class Job(NamedTuple):
    command: Callable[[Path, Path], list[str]]  # from the folder of its inputs and its own
    promised: str  # pattern of the files that have to be equal
    but: str = ""  # pattern of those that need not


JOBS = {
    "training": Job(
        lambda home, out: [
            *("main.py", "configs/smoke.yaml", f"run={out}", f"data.photographs={home}/demo"),
            *("data.workers=2", "train.steps=60", "train.save_every=5", "validation.every=20"),
        ],
        "*.safetensors",
    ),
    "generating": Job(
        lambda home, out: [
            *("-m", "data.generate", "--config", "configs/smoke.yaml", "--output", str(out)),
            *("--count", "400", "--size", "96", "--workers", "2", f"data.photographs={home}/demo"),
        ],
        "*",
        but="dataset.json",  # says when
    ),
    "batch": Job(
        lambda home, out: [
            *("run_inference.py", "--batch", f"{home}/stacks", "--output", str(out)),
            *("--maps", "--preview", "--save-steps", "--resume", "--no-align"),
        ],
        "*",
        but="*-Record.json",  # says how long it took
    ),
}


class Outcome(NamedTuple):
    """The result of a kill."""

    at_work: bool  # killed before it ended by itself
    went_on: bool  # the second run succeeded
    equal: bool  # to the undisturbed run
    processes: int  # left
    files: int  # left

    @property
    def good(self) -> bool:
        return self.went_on and self.equal and not self.processes and not self.files


def lay_out(home: Path) -> None:
    """Photographs to train on and stacks to fuse, none of them downloaded."""
    with contextlib.redirect_stdout(io.StringIO()):
        if prepare.main(["demo", "--root", str(home)]):
            raise UserError("the photographs of scikit-image cannot be had")
    for number in range(STACKS):
        name = ("cat", "coffee", "rocket")[number % 3]
        (home / f"stacks/{number}").mkdir(parents=True)
        for side in "AB":
            shutil.copy(ROOT / f"data/samples/{name}-{side}.png", home / f"stacks/{number}")


def start(command: Sequence[str]) -> subprocess.Popen:
    """Run a command in a session of its own, by which its processes are found."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, start_new_session=True, **quiet)


def session(number: int) -> list[int]:
    """The running processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, *rest = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(rest[2]) == number and state != "Z":
            found.append(int(path.parent.name))
    return found


def contents(job: Job, folder: Path) -> dict[str, str]:
    """Digests of the promised files."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and fnmatch(path.name, job.promised) and not fnmatch(path.name, job.but)
    }


def undisturbed(job: Job, home: Path, out: Path) -> tuple[float, float]:
    """Run a job; seconds until its folder exists, and until it ends."""
    started, begun = time.monotonic(), None
    process = start(job.command(home, out))
    while process.poll() is None:
        if begun is None and out.exists():
            begun = time.monotonic() - started
        time.sleep(0.01)
    if process.returncode or begun is None:
        raise UserError(f"{' '.join(job.command(home, out))} ended with {process.returncode}")
    return begun, time.monotonic() - started


def kill(job: Job, home: Path, out: Path, delay: float, expected: dict[str, str]) -> Outcome:
    """Kill a job after ``delay`` seconds and whatever outlives it, then resume the job."""
    process = start(job.command(home, out))
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
    at_work = process.wait() == -signal.SIGKILL
    end = time.monotonic() + SECONDS
    while (left := session(process.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    for number in left:
        os.kill(number, signal.SIGKILL)
    went_on = start(job.command(home, out)).wait() == 0
    files = sum(path.name.startswith(".") for path in out.rglob("*"))
    return Outcome(at_work, went_on, contents(job, out) == expected, len(left), files)


def measure(name: str, kills: int, seed: int) -> list[Outcome]:
    """Kill a job at random moments of its work."""
    job, rng, outcomes = JOBS[name], random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        home = Path(folder)
        lay_out(home)
        begun, ended = undisturbed(job, home, home / "whole")
        expected = contents(job, home / "whole")
        for number in tqdm(range(kills), name, unit="kill", disable=None):
            out, delay = home / str(number), rng.uniform(0.9 * begun, ended)
            outcomes.append(kill(job, home, out, delay, expected))
            shutil.rmtree(out, ignore_errors=True)
    return outcomes


@cli
def main(argv: list[str] | None = None) -> int:
    parser = option_parser(__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each; 20 by default")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS), help="what to kill")
    args = parser.parse_args(argv)
    if args.kills < 1:
        raise UserError(f"--kills {args.kills}: at least 1")
    if not Path("/proc/self/stat").exists():
        raise UserError("processes are looked for in /proc, which only Linux has")
    found = {name: measure(name, args.kills, args.seed) for name in args.only}
    print("| | kills | at work | went on | equal | processes left | files left |")
    print("|---|---|---|---|---|---|---|")
    for name, outcomes in found.items():
        cells = [len(outcomes), *map(sum, zip(*outcomes, strict=True))]
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    return int(not all(outcome.good for outcomes in found.values() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
