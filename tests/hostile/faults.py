"""Run a table of bad inputs and full disks, and check how each command ends.

    python -m tests.hostile.faults
    python -m tests.hostile.faults --only names "full disk" --out faults.md

Each case is a command with files that are damaged, hostile, missing or in the way. It has to end
with the expected exit code, within 20 seconds and a memory limit, without a traceback and with one
line for the error; the user's files stay unchanged, and what is written is whole. Exit code: 0 if
all cases pass.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import io
import json
import multiprocessing
import os
import re
import resource
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from tests.hostile.fault_cases import Case, cases
from utils.atomic import atomic_path
from utils.errors import UserError, cli, option_parser
from utils.images import EXTENSIONS, read_photo

SECONDS = 20  # of a case
MEGABYTES = 1000  # of the process that runs the cases one after another, PyTorch loaded


class Outcome(NamedTuple):
    """The result of a case; texts are empty where nothing is wrong."""

    code: int | None = None
    traceback: str = ""
    harm: str = ""  # to files
    wrong: str = ""  # code or message
    megabytes: float = 0
    seconds: float = 0

    def fault(self) -> str:
        return self.traceback or self.harm or self.wrong


def run(case: Case, home: Path) -> Outcome:
    """Run a case in this process."""
    started = time.monotonic()
    argv = case.lay_out(home)
    before = snapshot(home)
    code, errors, failure = call(case, argv)
    seconds = time.monotonic() - started
    wrong = ""
    if code not in case.codes:
        wrong = f"exit code {code}, not {' or '.join(map(str, case.codes))}: {errors[-300:]}"
    elif code == 2 and "error: " not in errors:
        wrong = f"no error is named: {errors[-300:]}"
    return Outcome(code, failure, damage(case, home, before), wrong, peak(), seconds)


def call(case: Case, argv: list[str]) -> tuple[int | None, str, str]:
    """(exit code, error output, traceback) of a command."""
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    code, failure = None, ""
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            with room(case.room):
                code = importlib.import_module(case.script).main(argv)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except Exception:  # what a user would see as a traceback
            failure = traceback.format_exc()
        errors.flush()
    text = errors.buffer.getvalue().decode("utf-8", "replace")
    return code, text, failure or (text if "Traceback" in text else "")


@contextlib.contextmanager
def room(size: int | None) -> Iterator[None]:
    """Limit the size of files, in bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def snapshot(home: Path) -> dict[Path, str]:
    """Type and content of each path below a folder."""
    return {path: describe(path) for path in sorted(home.rglob("*"))}


def describe(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link to {path.readlink()}"
    if stat.S_ISREG(mode):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return f"no file, {stat.S_IFMT(mode):o}"


def damage(case: Case, home: Path, before: dict[Path, str]) -> str:
    """The first file that is lost, left behind, half-written or missing; empty if none is."""
    after = snapshot(home)
    for path, state in before.items():
        if after.get(path) != state:
            return f"{path} is {'changed' if path in after else 'gone'}"
    for path in after.keys() - before.keys():
        if path.name.startswith("."):
            return f"{path} is left behind"
        if path.suffix.lower() in EXTENSIONS and path.is_file():
            try:
                read_photo(path)
            except UserError as error:
                return f"half-written: {error}"
        if path.suffix == ".json" and path.is_file():
            json.loads(path.read_bytes())
    missing = [name for name in case.expected if not (home / name).exists()]
    return f"{missing[0]} is not there" if missing else ""


def peak() -> float:
    """Peak memory of this process in megabytes since the last call."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def work(connection: Connection, chosen: Sequence[str]) -> None:
    """Run the cases whose numbers arrive, until the other side closes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is written to /dev/stdout
    found = choose(chosen)
    for script in {case.script for case in found}:
        importlib.import_module(script)  # takes seconds, which no case should count
    script = importlib.import_module("run_inference")
    script.load_backend = functools.cache(script.load_backend)  # most of the time of a case
    with contextlib.suppress(EOFError):
        while True:
            case = found[connection.recv()]
            with tempfile.TemporaryDirectory(prefix="fault-") as folder:
                connection.send(run(case, Path(folder)))


def measure(chosen: Sequence[str] = (), every: int = 1) -> list[tuple[Case, Outcome]]:
    """Run cases in a process of their own, which is killed and replaced when a case hangs."""
    context = multiprocessing.get_context("spawn")
    outcomes, worker, connection = [], None, None
    found = choose(chosen)
    for number in tqdm(range(0, len(found), every), unit="case", disable=None):
        if worker is None:
            connection, other = context.Pipe()
            worker = context.Process(target=work, args=(other, chosen), daemon=True)
            worker.start()
            other.close()
            limit = SECONDS * 3  # the process starts and loads its libraries
        else:
            limit = SECONDS
        connection.send(number)
        try:
            outcome = connection.recv() if connection.poll(limit) else Outcome(wrong="it hangs")
        except EOFError:
            outcome = Outcome(wrong="the process died")
        if outcome.code is None and not outcome.traceback:
            worker.kill()
            worker.join()
            worker = None
        case = found[number]
        outcomes.append((case, outcome))
        if fault := outcome.fault():
            tqdm.write(f"{case.group}, {case.name}: {fault}", sys.stderr)
    if worker is not None:
        connection.close()
        worker.join()
    return outcomes


def choose(groups: Sequence[str]) -> list[Case]:
    found = cases()
    known = {case.group for case in found}
    for group in groups:
        if group not in known:
            raise UserError(f"--only {group}: there is no such group; {', '.join(sorted(known))}")
    return [case for case in found if not groups or case.group in groups]


def table(outcomes: Sequence[tuple[Case, Outcome]]) -> str:
    """A row for each group, and one for all."""
    lines = [
        "| group | cases | right | tracebacks | hangs | files harmed | longest, s | memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups = dict.fromkeys(case.group for case, _ in outcomes)
    for group in (*groups, "all"):
        found = [o for case, o in outcomes if group in (case.group, "all")]
        cells = [
            len(found),
            sum(not o.fault() for o in found),
            sum(bool(o.traceback) for o in found),
            sum(o.wrong == "it hangs" for o in found),
            sum(bool(o.harm) for o in found),
            f"{max(o.seconds for o in found):.1f}",
            f"{max(o.megabytes for o in found):.0f}",
        ]
        lines.append(f"| {group} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


@cli
def main(argv: list[str] | None = None) -> int:
    parser = option_parser(__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="GROUP", help="groups to run")
    parser.add_argument("--every", type=int, default=1, help="run only every n-th case")
    parser.add_argument("--out", type=Path, help="also write the table there")
    args = parser.parse_args(argv)
    if args.every < 1:
        raise UserError(f"--every {args.every}: at least 1")
    outcomes = measure(args.only, args.every)
    text = table(outcomes)
    print(text)
    most = max(outcome.megabytes for _, outcome in outcomes)
    if most > MEGABYTES:
        print(f"{most:.0f} MB of memory, more than {MEGABYTES}", file=sys.stderr)
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return 1 if most > MEGABYTES or any(outcome.fault() for _, outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
