"""Fuse many pairs or stacks: failures are isolated, finished stacks are skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from fusion import records
from fusion.backends import Backend
from fusion.fuse import Progress
from fusion.fuse_files import fuse_stack, outline
from fusion.options import Options
from fusion.pairs import Problem
from fusion.ranks import Ranks
from fusion.report import summarize
from fusion.stack_files import Source
from utils.errors import UserError


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
    """Fuse pairs or the stacks of a batch, shared among ``ranks``.

    Args:
        weights: the file of ``backend``.
        say: called with the result of each stack.
        resume: skip stacks that an earlier run finished, from the same files and options.

    Returns:
        The reports of all fused stacks, in order, and the failures; the same in each process.

    Raises:
        UserError: a process was lost.
    """
    reports: dict[int, dict] = {}
    problems: list[Problem] = []
    quiet = ranks.rank > 0  # bars of several processes would overwrite one another
    with tqdm(total=len(sources), unit="stack", disable=quiet or len(sources) < 2) as bar:
        for number in ranks.take(len(sources)):
            bar.update(number - bar.n)  # other processes took the numbers between
            source = sources[number]
            try:
                origin = None if source.pair else records.describe_origin(source, options, weights)
                report = records.load_finished(output, source.name, origin) if resume else None
                if report is None:
                    bar_of_frames = frames_bar(quiet)
                    report = fuse_stack(
                        backend, source, output, options, bar_of_frames, origin=origin
                    )
                    say(f"{output}/{summarize(report)}")
                else:
                    say(f"{source.name} was finished before, passed over")
                reports[number] = report
            except UserError as error:
                files = source.files if source.pair else (source.origin,)
                problems.append(Problem(files, str(error)))
            except Exception as error:  # of a library; the other stacks go on
                if len(sources) < 2:
                    raise
                reason = f"{source.origin}: {type(error).__name__} {error}".strip()
                problems.append(Problem((source.origin,), " ".join(reason.split())))
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
    sources: Sequence[Source],
    output: Path,
    options: Options,
    say: Callable[[str], None],
) -> list[Problem]:
    """Say what :func:`fuse_batch` would do, and return what it could not fuse; writes nothing."""
    problems = []
    for source in sources:
        try:
            say(outline(backend, source, output, options, frames_bar()))
        except UserError as error:
            problems.append(Problem((source.origin,), str(error)))
    return problems


def frames_bar(quiet: bool = False) -> Progress:
    """A progress bar for the frames of a stack, erased at the end."""
    return lambda numbers, stage: tqdm(numbers, stage, unit="frame", leave=False, disable=quiet)
