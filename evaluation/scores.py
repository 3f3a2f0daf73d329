"""Metrics of many fused images, on all cores and through the cache."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from evaluation.cache import Cache
from evaluation.matching import Case
from evaluation.symbols import FDB, metric_of
from utils.errors import UserError
from utils.images import read_photo
from utils.metrics import evaluate
from utils.process import end_with_parent

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
Result = tuple[dict[str, float], list[str]]


class Score(NamedTuple):
    """A line of ``per_image.csv``."""

    pair: str
    method: str
    metric: str
    value: float


class Job(NamedTuple):
    """An image and the metrics that are not known for it yet."""

    case: Case
    method: str
    symbols: tuple[str, ...]
    key: str


def measure(
    cases: Iterable[Case], symbols: Sequence[str], workers: int, cache: Cache
) -> tuple[list[Score], list[str]]:
    """Every metric of every image.

    Args:
        cases: from :func:`evaluation.matching.collect`.
        symbols: from :func:`choose_metrics`.
        workers: processes; 1 computes in this one.
        cache: known values.
    Returns:
        Scores by pair, method and metric, and a sentence for each image that is unreadable or of
        another size, and for each metric that is not defined for an image.
    """
    scores: dict[tuple[str, str], dict[str, float]] = {}
    jobs, problems = [], []
    for case in cases:
        for method, path in case.fused.items():
            try:
                key = cache.key(case, path)
            except OSError as error:
                problems.append(f"cannot read {error.filename}: {error.strerror}")
                continue
            known = cache.recall(key, symbols)
            scores[case.name, method] = known
            if missing := tuple(symbol for symbol in symbols if symbol not in known):
                jobs.append(Job(case, method, missing, key))
    values = sum(map(len, scores.values()))
    todo = sum(len(job.symbols) for job in jobs)
    print(f"{values} values known, {todo} to compute on {workers} cores", file=sys.stderr)
    for job, (new, wrong) in _run(jobs, workers):
        scores[job.case.name, job.method] |= new
        problems += wrong
        if new:
            cache.remember(job.key, new)
    ordered = [
        Score(*image, symbol, row[symbol])
        for image, row in scores.items()
        for symbol in symbols
        if symbol in row
    ]
    return ordered, list(dict.fromkeys(problems))  # each method reports an unreadable source


def measure_image(job: Job) -> Result:
    """The values of one image, and its problems."""
    case, path = job.case, job.case.fused[job.method]
    truth = band = None
    try:
        fused = read_photo(path).rgb
        sources = [read_photo(source).rgb for source in case.sources]
        if any(metric_of(symbol).needs == "truth" for symbol in job.symbols):
            truth = _read(case, case.truth, "ground truth")
        if any(symbol.endswith(FDB) for symbol in job.symbols):
            band = _read(case, case.band, "FDB mask")
        images = [*zip(case.sources, sources, strict=True), (case.truth, truth), (case.band, band)]
        for name, other in images:
            if other is not None and other.shape != fused.shape:
                raise UserError(f"{path} is {_size(fused)}, {name} is {_size(other)}")
    except UserError as error:
        return {}, [str(error)]
    mask = None if band is None else band.any(axis=2)
    values, problems = {}, []
    for symbol in job.symbols:
        inside = mask if symbol.endswith(FDB) else None
        if inside is not None and not inside.any():
            continue  # a pair without FDB has no value there, which is no error
        try:
            values[symbol] = evaluate(metric_of(symbol), sources, fused, truth, inside)
        except UserError as error:
            problems.append(f"{case.name}, {job.method}: {error}")
    return values, problems


def _run(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """Yield each job with its result as it is done, under a progress bar."""
    with tqdm(total=len(jobs), unit="image", desc="metrics", disable=not jobs or None) as progress:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                yield job, measure_image(job)
                progress.update()
            return
        # Spawned, since a forked process may inherit locks that other threads hold.
        pool = ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), end_with_parent)
        with _for_workers():
            futures = {pool.submit(measure_image, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
                progress.update()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for lack of memory; try fewer --workers "
                "(finished values are cached)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _for_workers() -> Iterator[None]:
    """Processes started meanwhile inherit this: one thread each, and they ignore Ctrl-C."""
    before = os.environ.copy()
    os.environ.update(ONE_THREAD)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name in ONE_THREAD:
            del os.environ[name]
        os.environ.update(before)


def _read(case: Case, path: Path | None, what: str) -> np.ndarray:
    if path is None:
        raise UserError(f"there is no {what} for the pair {case.name}")
    return read_photo(path).rgb


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
