"""Where the time of training goes: making samples, or computing on them.

Both are timed alone, then together as in training; then PyTorch's profiler traces a few steps.
Weights change as in training, but none are written.
"""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import torch
from torch.profiler import tensorboard_trace_handler
from tqdm import tqdm

from data.datasets import Batch
from training.trainer import Trainer
from utils import markdown
from utils.process import peak_memory

WARM_UP = 2  # steps before those that are timed
TRACED = 3  # steps in the trace


class Times(NamedTuple):
    """Mean seconds a step of one process."""

    making: float  # alone
    computing: float  # alone
    waiting: float  # for samples, in a step of both
    together: float


def profile(trainer: Trainer, steps: int) -> Times:
    """Time ``steps`` steps of making, computing and both, and trace ``TRACED`` more into
    ``profile/`` of the run's folder, a file for each process (for https://ui.perfetto.dev)."""
    device, model, quiet = trainer.device, trainer.parallel(), trainer.rank > 0
    loader = trainer.batches(0, sys.maxsize)
    # When training begins workers are ahead by what they prefetch; after that they have to keep up.
    ahead = WARM_UP + loader.num_workers * (loader.prefetch_factor or 0)

    def compute(batch: Batch) -> None:
        trainer.learn(model, trainer.to_device(batch))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def measure(
        what: str, batches: Iterator[Batch], warm_up: int, work: Callable[[Batch], None]
    ) -> tuple[float, float]:
        """Mean seconds that a step waits for its batch, and that it takes in total."""
        count, arrived, done = warm_up + steps, [], []
        for batch in tqdm(islice(batches, count), what, count, leave=False, disable=quiet):
            arrived.append(time.perf_counter())
            work(batch)
            done.append(time.perf_counter())
        waited = sum(arrived[-steps:]) - sum(done[-1 - steps : -1])
        return waited / steps, (done[-1] - done[-1 - steps]) / steps

    with closing(iter(loader)) as batches:
        # The last ones, to compute on: steps differ in their photographs.
        made: deque[Batch] = deque(maxlen=WARM_UP + steps)
        _, making = measure("making", batches, ahead, made.append)
    _, computing = measure("computing", iter(made), WARM_UP, compute)
    with closing(iter(loader)) as batches:
        waiting, together = measure("both", batches, ahead, compute)
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # having no GPU is an error to it
        handler = tensorboard_trace_handler(str(trainer.run / "profile"), f"process{trainer.rank}")
        with torch.profiler.profile(on_trace_ready=handler):
            for batch in islice(batches, TRACED):
                compute(batch)
    return Times(making, computing, waiting, together)


def table(times: Times, trainer: Trainer, steps: int) -> str:
    """The times in Markdown, with the workers that faster devices need."""
    batch, workers = trainer.config.train.batch * trainer.world, trainer.config.data.workers
    feeds = batch / times.making / trainer.world / max(1, workers)
    own = batch / times.computing / trainer.world
    rates = [own, *(rate for rate in (100, 300, 1000) if rate > own)]
    needs = ", ".join(f"{math.ceil(rate / feeds)} for {rate:.0f}" for rate in rates)
    rows = {
        "making samples, alone": times.making,
        "computing, alone": times.computing,
        "both, as in training": times.together,
        "of it waiting for samples": times.waiting,
        "of it computing": times.together - times.waiting,
    }
    lines = [
        [name, f"{spent * 1e3:.1f}", "" if name.startswith("of it") else f"{batch / spent:.1f}"]
        for name, spent in rows.items()
    ]
    memory = {"host": peak_memory(), "GPU": torch.cuda.max_memory_allocated()}
    peaks = ", ".join(f"{name} {size / 2**30:.2f} GiB" for name, size in memory.items() if size)
    return (
        f"{trainer.world} process(es) on {trainer.device}, each with "
        f"{f'{workers} workers' if workers else 'no workers: made in between'}; "
        f"{batch} samples a step, mean of {steps} steps\n\n"
        f"{markdown.table(['', 'ms a step', 'samples/s'], lines)}\n"
        f"{'Samples are' if times.making > times.computing else 'Computing is'} the bottleneck. "
        f"Peak memory of process 0: {peaks}.\n"
        f"A worker makes {feeds:.1f} samples/s. Projection: a device that computes\n"
        f"r samples/s needs r / {feeds:.1f} workers, each on such a core: {needs}.\n"
        f"Trace of {TRACED} steps: {trainer.run / 'profile'}"
    )
