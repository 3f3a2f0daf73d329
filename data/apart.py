"""What trains and what validates have no picture in common."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from defocus.matting import Unusable
from defocus.sources import photograph_of, read_image


def shared(trains: Iterable[Path], validates: Iterable[Path]) -> tuple[Path, Path] | None:
    """An image that trains and one that validates, where one is a copy of the other or cut out of
    it, and named after the same photograph. Photographs of one name alone may be different ones;
    those that are gone count as the same."""
    named: dict[str, list[Path]] = {}
    for path in trains:
        named.setdefault(photograph_of(path), []).append(path)
    for path in validates:
        for other in named.get(photograph_of(path), ()):
            if not other.exists() or _same_photograph(other, path):
                return other, path
    return None


def _same_photograph(one: Path, other: Path) -> bool:
    """Whether the opaque pixels of one image are in the other, by up to 64 runs of 8 in a row: most
    of them, since where alpha is just below 1 a cut-out has colours of its own."""
    try:
        sides = [_runs(path) for path in (one, other)]
    except Unusable:
        return False
    for (runs, opaque), (whole, _) in (sides, sides[::-1]):
        part = np.unique(runs[opaque])
        part = part[:: 1 + len(part) // 64]
        if 2 * sum((whole == run).any() for run in part) > len(part):
            return True
    return False


def _runs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Eight neighbouring green values as a number, (H, W − 7), and where all eight are opaque."""
    image = read_image(path, cv2.IMREAD_UNCHANGED)
    if image.ndim < 3 or image.shape[2] < 4:
        image = read_image(path)  # turned as its EXIF says, as elsewhere
    if image.shape[1] < 8:
        raise Unusable("tiny: less than 8 pixels wide")
    windows = [sliding_window_view(image[..., channel], 8, axis=1) for channel in (1, -1)]
    runs = np.ascontiguousarray(windows[0]).view(np.uint64)[..., 0]
    return runs, (windows[1] == 255).all(2) if image.shape[2] == 4 else np.ones_like(runs, bool)
