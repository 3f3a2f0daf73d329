"""How near a fused picture is to the truth: whole, beside depth edges, and away from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from utils.metrics.reference import psnr

JUMP = 0.5  # px of blur between neighbouring pixels: more is a depth edge
REACH = 12 / 720  # of the width: so far from a depth edge is beside it
WRONG = 20  # of 255: an error that is seen at once


def beside_edges(disparity: np.ndarray) -> np.ndarray:
    """Where (H, W) something is within 12 pixels, at a width of 720, of a depth edge.

    Args:
        disparity: (H, W), the blur radius in pixels that each point has where the camera is
            focused at infinity.
    """
    edges = np.zeros(disparity.shape, bool)
    for axis in (0, 1):
        jumps = np.abs(np.diff(disparity, axis=axis)) > JUMP
        before, after = np.moveaxis(edges, axis, 0)[:-1], np.moveaxis(edges, axis, 0)[1:]
        before |= np.moveaxis(jumps, axis, 0)
        after |= np.moveaxis(jumps, axis, 0)
    if not edges.any():
        return edges
    return distance_transform_edt(~edges) < REACH * disparity.shape[1]


def score(fused: np.ndarray, truth: np.ndarray, edges: np.ndarray) -> dict[str, float]:
    """PSNR in dB of a fused picture, and the share of pixels that are wrong beside edges.

    Args:
        fused, truth: (H, W, 3) uint8.
        edges: (H, W) bool, see :func:`beside_edges`.

    Returns:
        whole, edges, away in dB; wrong: share of the pixels beside edges in which a channel is
        wrong by more than 20/255.
    """
    error = np.abs(fused.astype(np.int16) - truth).max(axis=2)
    masks = {"whole": None, "edges": edges, "away": ~edges}
    scores = {key: float(psnr(truth, fused, mask)) for key, mask in masks.items()}
    return {**scores, "wrong": float((error[edges] > WRONG).mean())}


def oracle(truth: np.ndarray, frames: Sequence[np.ndarray]) -> np.ndarray:
    """For each pixel (H, W, 3) uint8 the frame that is nearest to the truth: no selection can
    beat it."""
    best, least = None, None
    for frame in frames:
        error = np.square(frame.astype(np.int32) - truth).sum(axis=2)
        if best is None:
            best, least = frame.copy(), error
            continue
        nearer = error < least
        best[nearer], least[nearer] = frame[nearer], error[nearer]
    return best
