"""Ways to fuse a stack by the pairwise cascade, from the plainest on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from fusion.merge import RunningFusion
from models.fuse import fuse_arrays

from fusion.backends import WEIGHTS, load_cascade
from models.build import load_model
from models.mmfnet import MMFNet

Fold = Callable[[Sequence[np.ndarray]], np.ndarray]


def running(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Ours: :mod:`fusion.merge`."""
    fusion = RunningFusion(load_cascade(), frames[0])
    for number, frame in enumerate(frames[1:], 1):
        fusion.merge(frame, number)
    return fusion.image


def pairwise(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The picture so far with the next frame, all at full resolution."""
    image = frames[0]
    for frame in frames[1:]:
        image = fuse_arrays(_model(), image, frame).fused
    return image


def tree(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Neighbours first, then the results of neighbours."""
    while len(frames) > 1:
        pairs = [frames[i : i + 2] for i in range(0, len(frames), 2)]
        frames = [p[0] if len(p) == 1 else fuse_arrays(_model(), *p).fused for p in pairs]
    return frames[0]


@functools.cache
def _model() -> MMFNet:
    return load_model(WEIGHTS)


def oracle(truth: np.ndarray, frames: Sequence[np.ndarray]) -> np.ndarray:
    """For each pixel the frame that is nearest to the truth: no selection can beat it."""
    best, least = None, None
    for frame in frames:
        error = np.square(frame.astype(np.int32) - truth).sum(axis=2)
        if best is None:
            best, least = frame.copy(), error
            continue
        nearer = error < least
        best[nearer], least[nearer] = frame[nearer], error[nearer]
    return best


FOLDS: dict[str, Fold] = {
    "running fusion (ours)": running,
    "pairwise folding": pairwise,
    "tree": tree,
}
