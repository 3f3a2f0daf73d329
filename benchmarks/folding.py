"""Ways to fuse a stack by the cascade."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from fusion.backends import Backend, load_backend
from fusion.engine import fuse_group
from fusion.fuse import fuse

Fold = Callable[[Sequence[np.ndarray]], np.ndarray]


def groups(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Ours: :mod:`fusion.engine`."""
    return fuse(frames, _backend(), align=False).image


def pairwise(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The picture so far with the next frame."""
    picture, _ = fuse_group(_backend(), frames[:2], [0, 1])
    for number, frame in enumerate(frames[2:], 2):
        picture, _ = fuse_group(_backend(), [frame], [number], picture)
    return picture.image


def tree(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Neighbours first, then the results of neighbours."""
    while len(frames) > 1:
        pairs = [frames[i : i + 2] for i in range(0, len(frames), 2)]
        frames = [p[0] if len(p) == 1 else fuse(p, _backend(), align=False).image for p in pairs]
    return frames[0]


@functools.cache
def _backend() -> Backend:
    return load_backend()


FOLDS: dict[str, Fold] = {
    "groups (ours)": groups,
    "pairwise folding": pairwise,
    "tree": tree,
}
