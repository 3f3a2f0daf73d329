"""Ways to fuse a stack by the cascade."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from fusion.backends import load_backend
from fusion.engine import fuse_group
from fusion.fuse import fuse

Fold = Callable[[Sequence[np.ndarray]], np.ndarray]
backend = functools.cache(load_backend)


def groups(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Ours: :mod:`fusion.engine`."""
    return fuse(frames, backend(), align=False).image


def pairwise(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Fuse the result so far with the next frame."""
    picture, _ = fuse_group(backend(), frames[:2], [0, 1])
    for number, frame in enumerate(frames[2:], 2):
        picture, _ = fuse_group(backend(), [frame], [number], picture)
    return picture.image


def tree(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Fuse neighbours, then neighbouring results."""
    while len(frames) > 1:
        pairs = [frames[i : i + 2] for i in range(0, len(frames), 2)]
        frames = [groups(pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return frames[0]


FOLDS: dict[str, Fold] = {"groups (ours)": groups, "pairwise folding": pairwise, "tree": tree}
