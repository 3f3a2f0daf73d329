"""Where the time of training goes: making samples, or computing on them.

Both are timed alone, then together as in training; then PyTorch's profiler traces a few steps.
Weights change as in training, but none are written.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, tensorboard_trace_handler
from tqdm import tqdm

from data.datasets import Batch
from fusion.report import peak_memory
from training.trainer import Trainer

WARM_UP = 2  # steps before those that are timed
TRACED = 3  # steps in the trace
ENDLESS = 10**9  # steps


@dataclass(frozen=True)
class Profile:
    """What :func:`profile` found; times are means in seconds a step of one process.

    Attributes:
        steps: that were timed.
        batch: samples a step of all processes together.
        processes, device: as trained on.
        workers: of each process.
        making, computing: each alone.
        waiting, together: of a step of both, for its samples and in all.
        memory: peak of this process in bytes, None where that is not known.
        gpu_memory: peak of what PyTorch took of its GPU in bytes, None without one.
        trace: folder of the trace.
    """

    steps: int
    batch: int
    processes: int
    device: str
    workers: int
    making: float
    computing: float
    waiting: float
    together: float
    memory: int | None
    gpu_memory: int | None
    trace: Path

    @property
    def feeds(self) -> float:
        """Samples per second that one worker makes (without workers, the process itself)."""
        return self.batch / self.making / self.processes / max(1, self.workers)

    def workers_for(self, rate: float) -> int:
        """Workers that a process needs if it computes ``rate`` samples per second."""
        return math.ceil(rate / self.feeds)


def profile(trainer: Trainer, steps: int) -> Profile:
    """Time ``steps`` steps of making, computing and both, and trace ``TRACED`` more.

    The trace goes to ``profile/`` in the run's folder, a file for each process, for TensorBoard
    with torch-tb-profiler and for https://ui.perfetto.dev.
    """
    config, device, model = trainer.config, trainer.device, trainer.parallel()
    loader = trainer.batches(0, ENDLESS)
    # When training begins workers are ahead by what they prefetch; after that they have to keep up.
    ahead = WARM_UP + loader.num_workers * (loader.prefetch_factor or 0)
    alone = WARM_UP + loader.num_workers
    bar = tqdm(
        total=alone + WARM_UP + ahead + 3 * steps + TRACED,
        unit="step",
        leave=False,
        disable=trainer.rank > 0,
    )

    def tick() -> float:
        bar.update()
        return time.perf_counter()

    def compute(batch: Batch) -> float:
        """Learn from a batch; when that was done."""
        trainer.learn(model, trainer.load(batch))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return tick()

    with closing(bar):
        with closing(iter(loader)) as batches:
            batch = next(batches)
            made = [tick() for _ in islice(batches, alone + steps)]
        computed = [compute(batch) for _ in range(WARM_UP + steps)]
        with closing(iter(loader)) as batches:
            arrived, done = [], []
            for batch in islice(batches, ahead + steps):
                arrived.append(time.perf_counter())
                done.append(compute(batch))
            trace = trainer.run / "profile"
            activities = [ProfilerActivity.CPU]
            if device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            handler = tensorboard_trace_handler(str(trace), f"process{trainer.rank}")
            profiler = torch.profiler.profile(activities=activities, on_trace_ready=handler)
            with _quiet():
                profiler.start()
            for batch in islice(batches, TRACED):
                compute(batch)
            with _quiet():
                profiler.stop()
    waits = [start - before for before, start in zip(done[:-1], arrived[1:], strict=True)]
    return Profile(
        steps=steps,
        batch=config.train.batch * trainer.world,
        processes=trainer.world,
        device=str(device),
        workers=loader.num_workers,
        making=(made[-1] - made[-1 - steps]) / steps,
        computing=(computed[-1] - computed[-1 - steps]) / steps,
        waiting=sum(waits[-steps:]) / steps,
        together=(done[-1] - done[-1 - steps]) / steps,
        memory=peak_memory(),
        gpu_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        trace=trace,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what libraries print to standard error: to the profiler, having no GPU is an error."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def table(profile: Profile) -> str:
    """A profile as Markdown, with the workers that faster devices need."""

    def row(name: str, seconds: float, rate: bool = True) -> str:
        speed = f"{profile.batch / seconds:.1f}" if rate else ""
        return f"| {name} | {seconds * 1e3:.1f} | {speed} |"

    workers = f"{profile.workers} workers" if profile.workers else "no workers: made in between"
    memory = [
        f"{name} {amount / 2**30:.2f} GiB"
        for name, amount in (("host", profile.memory), ("GPU", profile.gpu_memory))
        if amount is not None
    ]
    own = profile.batch / profile.processes / profile.computing
    verdict = "Samples are" if profile.making > profile.computing else "Computing is"
    rates = [own, *(rate for rate in (100, 300, 1000) if rate > own)]
    needs = ", ".join(f"{profile.workers_for(rate)} for {rate:.0f}" for rate in rates)
    return "\n".join(
        [
            f"{profile.processes} process(es) on {profile.device}, each with {workers}; "
            f"{profile.batch} samples a step, mean of {profile.steps} steps",
            "",
            "| | ms a step | samples/s |",
            "|---|---|---|",
            row("making samples, alone", profile.making),
            row("computing, alone", profile.computing),
            row("both, as in training", profile.together),
            row("of it waiting for samples", profile.waiting, rate=False),
            row("of it computing", profile.together - profile.waiting, rate=False),
            "",
            f"{verdict} the bottleneck. Peak memory of process 0: {', '.join(memory)}.",
            f"A worker makes {profile.feeds:.1f} samples/s. Projection: a device that computes",
            f"r samples/s needs r / {profile.feeds:.1f} workers, each on such a core: {needs}.",
            f"Trace of {TRACED} steps: {profile.trace}",
        ]
    )
