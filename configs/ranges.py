"""Valid ranges of the config's keys, checked before anything is built."""

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from utils.errors import UserError

SHARE = (0, 1)
SEED = (0, 2**63 - 1)


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


# The first pattern that a key fits decides; of a list each number counts. What fits none, is a
# finite number all the same.
RANGES = {
    "seed": Range(*SEED),
    "train.steps": Range(1),
    "train.batch": Range(1),
    "train.log_every": Range(1),
    "train.save_every": Range(1),
    "train.guidance_weight": Range(0),
    "train.lr": Range(0),
    "train.weight_decay": Range(0),
    "train.clip": Range(0),
    "train.ema": Range(*SHARE, open_high=True),
    "data.workers": Range(0),
    "data.pairs": Range(*SHARE),
    "validation.fraction": Range(*SHARE),
    "validation.samples": Range(1),
    "validation.scene_samples": Range(1),
    "validation.quick": Range(1),
    "validation.every": Range(0),
    "validation.seed": Range(*SEED),
    # What pairs (defocus) and scenes share.
    "*.size": Range(16, 8192),
    "*.probability": Range(*SHARE),
    "*.linear_light": Range(*SHARE),
    "*.procedural": Range(*SHARE),
    "*.fill_frame": Range(*SHARE),
    "*.sharp_everywhere": Range(*SHARE),
    "*.jpeg.*": Range(0, 100),
    "*.breathing.*": Range(-1, 1, open_low=True, open_high=True),
    "*.noise.*": Range(0),
    "*.residual_blur.*": Range(0),
    "*.defocus.sigma": Range(0, 64, open_low=True),
    "*.defocus.sigma_ratio": Range(1),
    "*.defocus.zoom": Range(0, open_low=True),
    "*.defocus.swap": Range(*SHARE),
    "*.defocus.unfocused.*": Range(0),
    "*.scenes*.photographs": Range(2, 64),
    "*.scenes*.layers": Range(0),
    "*.scenes*.radius": Range(0, 256, open_low=True),
    "*.scenes*.ends": Range(*SHARE),
    "model.*.args.widths": Range(1),
    "model.*.args.channels": Range(1),
    "model.*.args.half": Range(1),
    "model.*.args.quarter": Range(1),
    "model.*.args.blocks": Range(0),
}
NEVER_EMPTY = ("*.psfs", "*.mattes", "*.defocus.sigma", "*.defocus.zoom", "*.scenes*.layers")
NEVER_EMPTY += ("model.*.args.*",)


def check_values(values: dict[str, Any], origin: str) -> None:
    """Check every value of a config.

    Args:
        values: plain and nested.
        origin: where they come from, for the message.

    Raises:
        UserError: one is not; the message names its key and its range.
    """
    for key, value in _flat(values):
        if isinstance(value, list) and not value and _fits(key, NEVER_EMPTY):
            raise UserError(f"{origin}: {key} is empty; name one at least, or leave the key out")
        allowed = next((RANGES[p] for p in RANGES if fnmatchcase(key, p)), Range())
        for number in value if isinstance(value, list) else [value]:
            if _is_number(number) and not allowed.holds(number):
                raise UserError(f"{origin}: {key}={number:g}: has to be {allowed}")


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys, dotted, and their values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _fits(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
