"""How near a fused image is to the truth: whole, beside depth edges, and away from them."""

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import distance_transform_edt

from utils.metrics.reference import psnr

JUMP = 0.5  # px of blur between neighbouring pixels: more is a depth edge
REACH = 12 / 720  # of the width: nearer to a depth edge is beside it
WRONG = 20  # of 255: an error that is seen at once


def beside_edges(disparity: np.ndarray) -> np.ndarray:
    """(H, W) bool: within 12 pixels, at a width of 720, of a depth edge.

    Args:
        disparity: (H, W), blur radius in pixels of each point when infinity is in focus.
    """
    edges = np.zeros(disparity.shape, bool)
    for one, jumps in ((edges, np.diff(disparity, axis=0)), (edges.T, np.diff(disparity).T)):
        one[:-1] |= np.abs(jumps) > JUMP
        one[1:] |= np.abs(jumps) > JUMP
    if not edges.any():
        return edges
    return distance_transform_edt(~edges) < REACH * disparity.shape[1]


def score(fused: np.ndarray, truth: np.ndarray, edges: np.ndarray) -> dict[str, float]:
    """PSNR in dB of a fused image, and the share of wrong pixels beside edges.

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


def oracle(truth: np.ndarray, frames: Iterable[np.ndarray]) -> np.ndarray:
    """Oracle selection (H, W, 3) uint8: each pixel from the frame that is nearest to the truth.
    No selection can beat it."""
    best, least = np.empty_like(truth), np.full(truth.shape[:2], 2**31 - 1, np.int32)
    for frame in frames:
        error = np.square(frame.astype(np.int32) - truth).sum(axis=2)
        nearer = error < least
        best[nearer], least[nearer] = frame[nearer], error[nearer]
    return best
