"""Sort frames by focus distance, from the frames themselves.

Frames focused at neighbouring depths are sharp in nearly the same places. Sorting by similarity is
the seriation problem; it is solved by the eigenvector of the second smallest eigenvalue of the
similarities' Laplacian matrix (Atkins, Boman and Hendrickson, SIAM J. Comput. 28, 1998).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from fusion.windows import shrink
from utils.images import white

SIDE = 640  # pixels: long side of the reduced frames whose detail is measured
NEAR = 8  # power of the similarities: only the nearest frames count
CELLS = 24  # rows and columns of the sharpness maps: coarse, as the frames are not aligned yet
FEWEST = 4  # frames: the order of fewer makes no difference
DETOUR = 1.5  # ratio of path lengths, given order to best order, above which it is shuffled
ALIKE = 0.01  # frames nearer than this cannot be ordered


def sort_by_focus(maps: Sequence[np.ndarray]) -> list[int]:
    """Sort frames, given the :func:`sharpness` of each, from one end of the focus range to the
    other; returns their numbers. The images do not tell which end is near; the direction closer to
    the order given is taken."""
    order = _seriate(_similarity(maps))
    given = np.arange(len(order))
    backwards = (order * given).sum() < (order[::-1] * given).sum()
    return (order[::-1] if backwards else order).tolist()


def is_shuffled(maps: Sequence[np.ndarray]) -> bool:
    """Whether frames, given the :func:`sharpness` of each, are in no order of focus, neither
    forwards nor backwards."""
    if len(maps) < FEWEST:
        return False
    similarity = _similarity(maps)
    orders = np.arange(len(maps)), _seriate(similarity)
    given, best = ((1 - similarity[order[:-1], order[1:]]).sum() for order in orders)
    return bool(given > DETOUR * best + ALIKE * len(maps))


def _similarity(maps: Sequence[np.ndarray]) -> np.ndarray:
    """(N, N), 1 for frames that are sharp in the same places."""
    maps = np.array(maps)
    # Relative to the other frames at the same place, since texture differs from place to place.
    shares = maps / np.maximum(maps.sum(0), 1e-12)
    shares /= np.maximum(np.linalg.norm(shares, axis=1, keepdims=True), 1e-12)
    return shares @ shares.T


def _seriate(similarity: np.ndarray) -> np.ndarray:
    """Numbers of the frames from one end of the focus range to the other."""
    near = similarity**NEAR
    laplacian = np.diag(near.sum(1)) - near
    return np.argsort(np.linalg.eigh(laplacian)[1][:, 1], kind="stable")


def sharpness(frame: np.ndarray) -> np.ndarray:
    """(CELLS²,) mean absolute Laplacian of the cells of a frame (H, W, 3) uint8, uint16 or
    float32."""
    small = shrink(frame, SIDE).astype(np.float32) / white(frame.dtype)
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (0, 0), 0.7)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    return cv2.resize(detail, (CELLS, CELLS), interpolation=cv2.INTER_AREA).ravel()
