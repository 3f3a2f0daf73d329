"""Valid ranges of the config's keys, checked before anything is built."""

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from utils.errors import UserError


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``; ``open_low``, ``open_high``: without that end."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below  # NaN is in no range

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        high = f"{'below' if self.open_high else 'at most'} {self.high:g}"
        bounds = [text for text, end in ((low, self.low), (high, self.high)) if math.isfinite(end)]
        return " and ".join(bounds) or "a number"


# By range, the patterns of keys; the first that a key fits decides. Of a list each number counts.
# What fits none is a finite number all the same.
_PATTERNS = {
    Range(0, 2**63 - 1): "seed validation.seed",
    Range(0, 1): "data.pairs validation.fraction *.probability *.linear_light *.procedural "
    "*.fill_frame *.sharp_everywhere *.defocus.swap *.scenes*.ends",
    Range(0, 1, open_high=True): "train.ema",
    Range(0): "train.guidance_weight train.lr train.weight_decay train.clip data.workers "
    "validation.every *.noise.* *.residual_blur.* *.defocus.unfocused.* *.scenes*.layers "
    "model.*.args.blocks",
    Range(0, open_low=True): "*.defocus.zoom",
    Range(1): "train.steps train.batch train.log_every train.save_every validation.samples "
    "validation.scene_samples validation.quick *.defocus.sigma_ratio model.*.args.widths "
    "model.*.args.channels model.*.args.half model.*.args.quarter",
    Range(16, 8192): "*.size",
    Range(0, 100): "*.jpeg.*",
    Range(-1, 1, open_low=True, open_high=True): "*.breathing.*",
    Range(0, 64, open_low=True): "*.defocus.sigma",
    Range(2, 64): "*.scenes*.photographs",
    Range(0, 256, open_low=True): "*.scenes*.radius",
}
RANGES = {pattern: span for span, line in _PATTERNS.items() for pattern in line.split()}
NEVER_EMPTY = "*.psfs *.mattes *.defocus.sigma *.defocus.zoom *.scenes*.layers model.*.args.*"


def check_values(values: dict[str, Any], origin: str) -> None:
    """Check every value of a config, plain and nested, that comes from ``origin``; raises a
    :class:`UserError` that names the key and its range."""
    for key, value in flat(values):
        if value == [] and any(fnmatchcase(key, pattern) for pattern in NEVER_EMPTY.split()):
            raise UserError(f"{origin}: {key} is empty; name one at least, or leave the key out")
        allowed = next((RANGES[p] for p in RANGES if fnmatchcase(key, p)), Range())
        for number in value if isinstance(value, list) else [value]:
            if type(number) in (int, float) and not allowed.holds(number):
                raise UserError(f"{origin}: {key}={number:g}: has to be {allowed}")


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys, dotted, and their values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
