"""Metrics of many fused images, on all cores and through the cache."""

import contextlib
import functools
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

from evaluation import cache
from evaluation.matching import Case
from utils.errors import UserError, nearest
from utils.images import read_photo
from utils.metrics import METRICS, Metric, evaluate
from utils.process import end_with_parent

FDB = "_FDB"  # ends the symbol of a ground-truth metric restricted to the FDB band
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
Scores = dict[tuple[str, str], dict[str, float]]  # of each (pair, method), by symbol
Result = tuple[dict[str, float], list[str]]


class Job(NamedTuple):
    """An image and the metrics that are not known for it yet."""

    case: Case
    method: str
    symbols: tuple[str, ...]
    file: Path  # where the cache keeps the values


def metric_of(symbol: str) -> Metric:
    """The registry's entry for a symbol, with or without :data:`FDB`."""
    return METRICS[symbol.removesuffix(FDB)]


def choose_metrics(text: str, truth: bool = False, band: bool = False) -> list[str]:
    """Symbols of a ``--metrics`` option: "all" means all that the given images allow; otherwise
    they are separated by commas, ``PSNR_FDB`` for PSNR inside the band. Raises :class:`UserError`
    for an unknown symbol (the nearest is named), or one that needs what is not given."""
    no_truth = "" if truth else "ground truth; give it with --truth DIR"
    no_band = no_truth or ("" if band else "masks of the FDB; give them with --band DIR")
    with_truth = [symbol for symbol, metric in METRICS.items() if metric.needs == "truth"]
    lacks = dict.fromkeys(METRICS, "") | dict.fromkeys(with_truth, no_truth)
    lacks |= dict.fromkeys((symbol + FDB for symbol in with_truth), no_band)
    if text == "all":
        return [symbol for symbol, missing in lacks.items() if not missing]
    symbols = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not symbols:
        raise UserError("--metrics names no metric; use all, or symbols such as AG,Q_G")
    for symbol in symbols:
        if symbol not in lacks:
            near = nearest(symbol, lacks)
            raise UserError(f"--metrics: there is no {symbol!r}; did you mean {near}?")
        if lacks[symbol]:
            raise UserError(f"--metrics: {symbol} needs {lacks[symbol]}")
    return symbols


def measure(
    cases: Iterable[Case], symbols: Sequence[str], workers: int, folder: Path
) -> tuple[Scores, list[str]]:
    """Every metric of every image, in ``workers`` processes, with a cache in a folder; and a
    sentence for each image that is unreadable or of another size, or has no value of a metric."""
    scores: Scores = {}
    jobs, problems = [], []
    for case in cases:
        for method, path in case.fused.items():
            try:
                file = cache.entry(folder, case, path)
            except OSError as error:
                problems.append(f"cannot read {error.filename}: {error.strerror}")
                continue
            stored = cache.recall(file)
            scores[case.name, method] = {s: stored[s] for s in symbols if s in stored}
            if missing := tuple(symbol for symbol in symbols if symbol not in stored):
                jobs.append(Job(case, method, missing, file))
    values = sum(map(len, scores.values()))
    todo = sum(len(job.symbols) for job in jobs)
    print(f"{values} values known, {todo} to compute on {workers} cores", file=sys.stderr)
    alone = workers == 1 or len(jobs) < 2
    results = zip(jobs, map(measure_image, jobs), strict=True) if alone else _run(jobs, workers)
    bar = {"unit": "image", "desc": "metrics", "disable": not jobs or None}
    for job, (new, wrong) in tqdm(results, total=len(jobs), **bar):
        scores[job.case.name, job.method] |= new
        problems += wrong
        if new:
            cache.remember(job.file, new)
    return scores, list(dict.fromkeys(problems))  # each method reports an unreadable source


def read_alike(path: Path, first: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An image (H, W, 3) at its depth; raises :class:`UserError` if it is unreadable or not of the
    ``shape`` of the first."""
    image = read_photo(path).rgb
    if image.shape != shape:
        sizes = ["{1}×{0}".format(*each) for each in (shape, image.shape)]
        raise UserError(f"{first} is {sizes[0]}, {path} is {sizes[1]}")
    return image


def measure_image(job: Job) -> Result:
    """The values of one image, and its problems. A truth or mask of the FDB that is missing or
    unreadable costs only the values that need it."""
    case = job.case
    try:
        first = read_photo(case.sources[0]).rgb
        read = functools.partial(read_alike, first=case.sources[0], shape=first.shape)
        sources = [first, *map(read, case.sources[1:])]
        fused = read(case.fused[job.method])
    except UserError as error:
        return {}, [str(error)]
    values, problems = {}, []

    @functools.cache
    def read_if_readable(other: Path | None) -> np.ndarray | None:
        try:
            return None if other is None else read(other)  # the search for images told the absent
        except UserError as error:
            problems.append(str(error))
            return None

    for symbol in job.symbols:
        metric, truth, mask = metric_of(symbol), None, None
        if metric.needs == "truth" and (truth := read_if_readable(case.truth)) is None:
            continue
        if symbol.endswith(FDB):
            band = read_if_readable(case.band)
            if band is None or not band.any():
                continue  # a pair without FDB has no value there, which is no error
            mask = band.any(axis=2)
        try:
            values[symbol] = evaluate(metric, sources, fused, truth, mask)
        except UserError as error:
            problems.append(f"{case.name}, {job.method}: {error}")
    return values, problems


def _run(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """Each job with its result, as it is done by a worker process."""
    # Spawned, since a forked process may inherit locks that other threads hold.
    pool = ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), end_with_parent)
    with _for_workers():
        futures = {pool.submit(measure_image, job): job for job in jobs}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
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
    before, handler = os.environ.copy(), signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        os.environ.clear()
        os.environ.update(before)
