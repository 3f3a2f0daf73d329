"""Fuse many pairs or stacks: failures are isolated, finished stacks are skipped, and the processes
that torchrun starts, on one machine or several, share the work."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fusion.backends import Backend
from fusion.fuse import Progress
from fusion.fuse_files import describe_origin, fuse_stack, load_finished, plan
from fusion.outputs import Options
from fusion.pairs import Problem
from fusion.stack_files import Source
from utils.errors import UserError
from utils.interrupts import check_interrupted
from utils.process import processes

PATIENCE = timedelta(days=7)  # a rank may wait for another's last stack


class Ranks(contextlib.AbstractContextManager):
    """Process number ``rank`` of the ``count`` that share the work: one without torchrun."""

    def __init__(self) -> None:
        self.rank, self.count = 0, processes()
        self._store = None
        if self.count > 1:
            import torch.distributed as dist

            self._dist = dist
            store, self.rank, self.count = next(iter(dist.rendezvous("env://")))
            self._store = dist.PrefixStore("work", store)
            group = dist.PrefixStore("group", store)
            about = {"store": group, "rank": self.rank, "world_size": self.count}
            dist.init_process_group("gloo", **about, timeout=PATIENCE)

    def take(self, count: int) -> Iterator[int]:
        """Numbers below ``count``, each to one process: a free process takes the next."""
        if self._store is None:
            yield from range(count)
            return
        while (number := self._store.add("taken", 1) - 1) < count:
            yield number

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, for each process; waits for the slowest, and raises
        :class:`UserError` if one was lost."""
        if self._store is None:
            return [value]
        values: list[Any] = [None] * self.count
        try:
            self._dist.all_gather_object(values, value)
        except RuntimeError as error:
            way = "run the same command again with --resume for what it left"
            raise UserError(f"a process was lost; {way}") from error
        return values

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Wait for the others: torchrun ends all processes as soon as one fails."""
        if self._store is not None and kind is None:
            self.gather(None)
            self._dist.destroy_process_group()


def fuse_batch(
    backend: Backend,
    weights: Path,
    sources: Sequence[Source],
    output: Path,
    options: Options,
    ranks: Ranks,
    say: Callable[[str], None],
    resume: bool = False,
) -> tuple[list[dict], list[Problem]]:
    """Fuse pairs or the stacks of a batch, shared among ``ranks``; ``weights`` is the file of
    ``backend``, ``say`` is called with the result of each stack. With ``resume`` stacks are skipped
    that an earlier run finished, from the same files and options. Returns the reports of all fused
    stacks, in order, and the failures; the same in each process.
    """
    reports: dict[int, dict] = {}
    problems: list[Problem] = []
    quiet = ranks.rank > 0  # bars of several processes would overwrite one another
    with tqdm(total=len(sources), unit="stack", disable=quiet or len(sources) < 2) as bar:
        for number in ranks.take(len(sources)):
            bar.update(number - bar.n)  # other processes took the numbers between
            source = sources[number]
            with _isolated(source, problems, alone=len(sources) == 1):
                origin = None if source.pair else describe_origin(source, options, weights)
                report = load_finished(output, source.name, origin) if resume else None
                if report:
                    say(f"{source.name} was finished before, skipped")
                else:
                    frames = frames_bar(quiet)
                    report = fuse_stack(backend, source, output, options, frames, origin=origin)
                    say(f"{output}/{summarize(report)}")
                reports[number] = report
            check_interrupted()
        bar.update(len(sources) - bar.n)
    everything = ranks.gather((reports, problems))
    reports = dict(sorted(item for part, _ in everything for item in part.items()))
    problems = [problem for _, part in everything for problem in part]
    problems += [
        Problem((Path(frame["file"]),), frame["reason"])
        for report in reports.values()
        for frame in report["unread"]
    ]
    return list(reports.values()), problems


def outline_batch(
    backend: Backend,
    weights: Path,
    sources: Sequence[Source],
    output: Path,
    options: Options,
    say: Callable[[str], None],
    resume: bool = False,
) -> tuple[list[dict], list[Problem]]:
    """Say what :func:`fuse_batch` would do, and return that as plain values for JSON, and what it
    could not fuse; write nothing."""
    planned, problems = [], []
    for source in sources:
        with _isolated(source, problems, alone=len(sources) == 1):
            origin = describe_origin(source, options, weights) if resume else None
            if resume and load_finished(output, source.name, origin):
                say(f"{source.name} was finished before, would be skipped")
                continue
            stack, result, memory = plan(backend, source, output, options, frames_bar())
            about = f"{len(stack.frames)} frames of {stack.frames[0].size} pixels, {stack.dtype}"
            say(f"{source}: {about}, give {result}; {memory / 1e9:.2f} GB of memory will do")
            for number, frame in enumerate(stack.frames):
                say(f"  {number} {frame}")
            for problem in stack.problems:
                say(f"  left out: {problem.error}")
            problems += stack.problems
            height, width = stack.size
            planned.append(
                {
                    "name": source.name,
                    "fused": str(result),
                    "width": width,
                    "height": height,
                    "type": str(stack.dtype),
                    "frames": [{"file": str(x.path), "page": x.page} for x in stack.frames],
                    "memory": memory,
                }
            )
    return planned, problems


@contextlib.contextmanager
def _isolated(source: Source, problems: list[Problem], alone: bool) -> Iterator[None]:
    """Add why a source fails to the problems, so that the others go on. An error that is not the
    user's is raised if it is ``alone``."""
    files = source.files if source.origin in source.files else (source.origin,)
    try:
        yield
    except UserError as error:
        problems.append(Problem(files, str(error)))
    except Exception as error:  # of a library
        if alone:
            raise
        reason = f"{source}: {type(error).__name__} {error}".strip()
        problems.append(Problem(files, " ".join(reason.split())))


def summarize(report: dict) -> str:
    """A line on the stack, and one for each frame left out and each warning."""
    used = sum(frame["used"] for frame in report["frames"])
    count = len(report["frames"]) + len(report["unread"])
    size = f"{report['width']}×{report['height']}"
    about = f"{used} of {count} frames, {size}, {report['seconds']:.2f} s"
    lines = [f"{report['files']['fused']}: {about}"]
    named = [*zip(frame_names(report), report["frames"], strict=True)]
    lines += [f"  {name} left out: {x['reason']}" for name, x in named if not x["used"]]
    lines += [f"  {name}: {x['warning']}" for name, x in named if x["warning"]]
    if report["shuffled"]:
        what = "the frames are in no order of focus, which harms alignment"
        lines.append(f"  {what}; see --order focus")
    return "\n".join(lines)


def frame_names(report: dict) -> list[str]:
    """The names of a stack's frames for its readers, without folders."""
    frames = report["frames"]
    pages = len({frame["file"] for frame in frames}) < len(frames)
    return [Path(x["file"]).name + f", page {x['page'] + 1}" * pages for x in frames]


def frames_bar(quiet: bool = False) -> Progress:
    """A progress bar for the frames of a stack, erased at the end."""
    return lambda numbers, stage: tqdm(numbers, stage, unit="frame", leave=False, disable=quiet)
