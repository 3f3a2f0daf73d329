"""The order in which a stack was focused through, found from the frames themselves.

Frames focused at neighbouring depths are sharp in nearly the same places. To sort them by that is
the seriation problem, solved by the eigenvector of the second smallest eigenvalue of the
similarities' Laplacian matrix (Atkins, Boman and Hendrickson, SIAM J. Comput. 28, 1998).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

SIDE = 640  # pixels: long side of the reduced frames whose detail is measured
NEAR = 8  # power of the similarities: what matters is who is next to whom
CELLS = 24  # rows and columns of the sharpness maps: coarse, for the frames are not aligned
FEWEST = 4  # frames: fewer are as good in any order
DETOUR = 1.5  # times as far from frame to frame as in the order found here is out of order
ALIKE = 0.01  # frames nearer than this do not tell which comes first


def by_focus(frames: Sequence[np.ndarray], numbers: Iterable[int] | None = None) -> list[int]:
    """Numbers of the frames from one end of the focus range to the other.

    The direction is ambiguous; it is the one nearer to the order given.

    Args:
        frames: (H, W, 3) uint8, uint16 or float32, each read once.
        numbers: ``range(len(frames))`` by default, or one that shows progress.
    """
    numbers = range(len(frames)) if numbers is None else numbers
    order = _along(_similarity([sharpness(frames[i]) for i in numbers]))
    given = np.arange(len(order))
    backwards = (order * given).sum() < (order[::-1] * given).sum()
    return (order[::-1] if backwards else order).tolist()


def is_shuffled(maps: Sequence[np.ndarray]) -> bool:
    """Whether frames, given the :func:`sharpness` of each, are out of focus order, forwards and
    backwards."""
    if len(maps) < FEWEST:
        return False
    similarity = _similarity(maps)
    given, best = (
        (1 - similarity[order[:-1], order[1:]]).sum()
        for order in (np.arange(len(maps)), _along(similarity))
    )
    return bool(given > DETOUR * best + ALIKE * len(maps))


def _similarity(maps: Sequence[np.ndarray]) -> np.ndarray:
    """(N, N), 1 for frames that are sharp in the same places."""
    maps = np.array(maps)
    # A place is sharp or not against the other frames: texture differs from place to place.
    shares = maps / np.maximum(maps.sum(0), 1e-12)
    shares /= np.maximum(np.linalg.norm(shares, axis=1, keepdims=True), 1e-12)
    return shares @ shares.T


def _along(similarity: np.ndarray) -> np.ndarray:
    """Numbers of the frames from one end of the focus range to the other."""
    near = similarity**NEAR
    laplacian = np.diag(near.sum(1)) - near
    return np.argsort(np.linalg.eigh(laplacian)[1][:, 1], kind="stable")


def sharpness(frame: np.ndarray) -> np.ndarray:
    """(CELLS²,) mean absolute Laplacian of the cells of a frame (H, W, 3)."""
    full = 1.0 if frame.dtype == np.float32 else float(np.iinfo(frame.dtype).max)
    height, width = frame.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32) / full
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (0, 0), 0.7)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    return cv2.resize(detail, (CELLS, CELLS), interpolation=cv2.INTER_AREA).ravel()
