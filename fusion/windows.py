"""Windows of images (rows and columns, as a pair of slices), and reduced images."""

from typing import Any

import cv2
import numpy as np

GRID = 32  # tiles and boxes begin at multiples of this, on the grid of the sub-nets

Window = tuple[slice, slice]


def squares(window: Window, side: int) -> list[Window]:
    """Squares that cover a window, cut at its far borders."""
    rows, columns = window
    return [
        (slice(y, min(y + side, rows.stop)), slice(x, min(x + side, columns.stop)))
        for y in range(rows.start, rows.stop, side)
        for x in range(columns.start, columns.stop, side)
    ]


def tiles(size: tuple[int, int], side: int) -> list[Window]:
    """Tiles on the grid that cover an image (H, W), of about equal size, at most ``side``."""

    def cut(length: int) -> list[slice]:
        cells = -(-length // GRID)
        count = -(-cells // max(1, side // GRID))
        edges = [cells * i // count * GRID for i in range(count)] + [length]
        return [slice(*edge) for edge in zip(edges[:-1], edges[1:], strict=True)]

    return [(rows, columns) for rows in cut(size[0]) for columns in cut(size[1])]


def at(planes: Any, window: Window) -> Any:
    """A window of planes (…, H, W), array or tensor."""
    rows, columns = window
    return planes[..., rows, columns]


def boxes(mask: np.ndarray, window: Window, side: int) -> list[Window]:
    """For each square of a window that a mask (h, w) touches, the bounding box of the mask in it,
    enlarged to the grid."""

    def on_grid(line: slice, start: int, length: int) -> slice:
        first, last = start // GRID * GRID, -(-(start + length) // GRID) * GRID
        return slice(line.start + first, min(line.start + last, line.stop))

    found = []
    for rows, columns in squares(window, side):
        left, top, width, height = cv2.boundingRect(mask[rows, columns].astype(np.uint8))
        if width:
            found.append((on_grid(rows, top, height), on_grid(columns, left, width)))
    return found


def halved(window: Window) -> Window:
    """A window at half resolution."""
    return tuple(slice(s.start // 2, -(-s.stop // 2)) for s in window)


def doubled(window: Window) -> Window:
    """A window of half resolution at full."""
    return tuple(slice(2 * s.start, 2 * s.stop) for s in window)


def around(window: Window, size: tuple[int, int], view: int) -> Window:
    """A window of an image (H, W) enlarged by ``view`` pixels on each side, where there are any."""
    return tuple(
        slice(max(s.start - view, 0), min(s.stop + view, n))
        for s, n in zip(window, size, strict=True)
    )


def within(window: Window, outer: Window) -> Window:
    """A window relative to an outer one."""
    return tuple(
        slice(s.start - o.start, s.stop - o.start) for s, o in zip(window, outer, strict=True)
    )


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """An image (H, W, …) with a long side of at most ``side`` pixels, a short one of at least 8."""
    scale = min(1.0, side / max(image.shape[:2]))
    height, width = (max(8, round(n * scale)) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
