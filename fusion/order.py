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


def by_focus(frames: Sequence[np.ndarray], numbers: Iterable[int] | None = None) -> list[int]:
    """Numbers of the frames from one end of the focus range to the other.

    Which end comes first cannot be seen; it is the one nearer to the order given.

    Args:
        frames: (H, W, 3) uint8, uint16 or float32, each read once.
        numbers: ``range(len(frames))``, by default; one that shows progress, otherwise.
    """
    numbers = range(len(frames)) if numbers is None else numbers
    maps = np.array([_sharpness(frames[i]) for i in numbers])
    # A place is sharp or not against the other frames: texture differs from place to place.
    shares = maps / np.maximum(maps.sum(0), 1e-12)
    shares /= np.maximum(np.linalg.norm(shares, axis=1, keepdims=True), 1e-12)
    similarity = (shares @ shares.T) ** NEAR
    laplacian = np.diag(similarity.sum(1)) - similarity
    along = np.linalg.eigh(laplacian)[1][:, 1]
    order = np.argsort(along, kind="stable")
    given = np.arange(len(order))
    backwards = (order * given).sum() < (order[::-1] * given).sum()
    return (order[::-1] if backwards else order).tolist()


def _sharpness(frame: np.ndarray) -> np.ndarray:
    """(CELLS²,) mean absolute Laplacian of the frame's cells."""
    full = 1.0 if frame.dtype == np.float32 else float(np.iinfo(frame.dtype).max)
    height, width = frame.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32) / full
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (0, 0), 0.7)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    return cv2.resize(detail, (CELLS, CELLS), interpolation=cv2.INTER_AREA).ravel()
