"""Transparency of a result: the intersection of its photographs'."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fusion.align import Registration, warp
from fusion.frames import Frames, widened
from fusion.fuse import Fusion


def least(alphas: Iterable[np.ndarray]) -> np.ndarray | None:
    """Least of alpha planes (H, W) of one type; None if all are opaque."""
    alpha = None
    for plane in alphas:
        alpha = plane if alpha is None else np.minimum(alpha, plane)
    if alpha is None:
        return None
    opaque = 1 if alpha.dtype == np.float32 else np.iinfo(alpha.dtype).max
    return None if alpha.min() == opaque else alpha


def of_stack(images: Frames, fusion: Fusion) -> np.ndarray | None:
    """What all frames of a stack show, as they lie on its result; they are read once more."""
    return least(_planes(images, fusion)) if images.transparent else None


def _planes(images: Frames, fusion: Fusion) -> Iterable[np.ndarray]:
    rows, columns = fusion.area
    offset = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]], np.float64)
    for number, frame in enumerate(fusion.frames):
        alpha = images.photo(number).alpha if frame.used else None
        if alpha is not None:
            place = Registration(np.array(frame.matrix) @ offset, np.ones(3))
            yield warp(widened(alpha, fusion.image.dtype), place, fusion.image.shape[:2])
