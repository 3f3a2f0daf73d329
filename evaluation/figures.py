"""Figures 7 and 8 of the paper for any pair: results side by side, insets, difference images.

Where the ground truth is known it stands beside the sources, and the differences are from it.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, sobel, uniform_filter

from drawing.canvas import AMBER, BLUE, Canvas, Point, eight_bits, save
from evaluation.matching import Case, some_pairs
from evaluation.scores import read_alike
from utils.errors import UserError, nearest
from utils.images import read_photo
from utils.metrics import luma

COLORS = (AMBER, BLUE, "#2a8f5b", "#b5306e")
CELL, GAP, LABEL, COLUMNS = 260, 14, 24, 6  # units of the sheet, which are its pixels


class Inset(NamedTuple):
    """A square to enlarge: its centre and side in pixels."""

    x: int
    y: int
    size: int


def check(option: str, names: Sequence[str], places: Sequence[str] | None, sources: Path) -> None:
    """Refuse before any work what :func:`write` could not draw: raises :class:`UserError` for a
    pair that is not in the folder, naming the ``option``, for one that is unreadable or of two
    sizes, and for a place outside an image."""
    pairs = {pair.name: pair for pair in some_pairs(sources)[0]}
    for name in names or list(pairs)[:1]:
        if name not in pairs:
            near = nearest(name, pairs)
            raise UserError(f"{option}: there is no pair {name!r}; did you mean {near}?")
        _, first, second = pairs[name]
        shape = read_photo(first).rgb.shape
        read_alike(second, first, shape)
        for text in places or ():
            read_inset(text, shape)


def write(
    cases: Sequence[Case], names: Sequence[str], places: Sequence[str] | None, out: Path
) -> list[str]:
    """Draw ``NAME-insets.jpg`` and ``NAME-differences.jpg`` for the pairs named, or the first, with
    insets at ``places``, or on the FDB; of both, only what :func:`check` accepts. Returns a
    sentence for each truth or result that is left out: unreadable, or not of its sources' size."""
    by_name = {case.name: case for case in cases}
    problems: list[str] = []
    for name in names or list(by_name)[:1]:
        case = by_name[name]
        first = case.sources[0]
        shape = read_photo(first).rgb.shape
        read = partial(read_alike, first=first, shape=shape)
        sources = [eight_bits(read(path)) for path in case.sources]
        right = given = dict(zip(("source A", "source B"), sources, strict=True))
        if case.truth is not None:
            with _noted(problems):
                right = {"truth": eight_bits(read(case.truth))}
        fused = {}
        for method, path in case.fused.items():
            with _noted(problems):
                fused[method] = eight_bits(read(path))
        insets = [read_inset(text, shape) for text in places or ()]
        insets = insets or choose_insets(sources, list(fused.values()))
        save(comparison(given | right | fused, insets), out / f"{name}-insets.jpg")
        if fused:
            save(differences(right, fused), out / f"{name}-differences.jpg")
    return problems


@contextlib.contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """Go on after an error of the user's, and note it."""
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def read_inset(text: str, shape: Sequence[int]) -> Inset:
    """An inset from ``x,y`` or ``x,y,size``, moved inside an image of a shape (H, W, …); raises
    :class:`UserError` if it is not of this form, or its centre is outside."""
    height, width = shape[:2]
    try:
        x, y, *rest = map(int, text.split(","))
        (size,) = rest or [default_size(shape)]
    except ValueError as error:
        raise UserError(f"--insets {text}: write it as x,y or x,y,size in pixels") from error
    if not (0 <= x < width and 0 <= y < height and 2 <= size <= min(height, width)):
        raise UserError(f"--insets {text} does not lie in an image of {width}×{height}")
    return _inside(x, y, size, shape)


def default_size(shape: Sequence[int]) -> int:
    """Side of an inset: a ninth of the image's shorter side."""
    return min(min(shape[:2]), max(16, min(shape[:2]) // 9))


def boundary(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Where the sharper of two sources changes, (H, W) bool: the FDB as the sources show it, by the
    gradient's energy in a window of 1/64 of the shorter side; flat regions are left out."""
    sigma = min(sources[0].shape[:2]) / 64
    gradients = [[sobel(luma(source), axis) ** 2 for axis in (0, 1)] for source in sources]
    energy = [gaussian_filter(y + x, sigma) for y, x in gradients]
    first, reach = energy[0] > energy[1], max(1, round(sigma))
    edge = binary_dilation(first, iterations=reach) & binary_dilation(~first, iterations=reach)
    textured = np.maximum(*energy)
    return edge & (textured > np.median(textured))


def choose_insets(sources: Sequence[np.ndarray], fused: Sequence[np.ndarray]) -> list[Inset]:
    """Two places on the FDB where the results differ most (if there are fewer than two results, the
    two sources); one place if no FDB is to be seen. All are (H, W, 3) uint8 of one shape."""
    size = default_size(sources[0].shape)
    images = np.stack([luma(image) for image in (fused if len(fused) > 1 else sources)])
    spread = uniform_filter(images.std(axis=0), size)
    score = np.where(boundary(sources), spread, -1.0)
    half = size // 2
    score[:half] = score[-half:] = score[:, :half] = score[:, -half:] = -1.0
    insets, count = [], 2
    if score.max() < 0:
        score, count = spread, 1
    while len(insets) < count and score.max() >= 0:
        y, x = map(int, np.unravel_index(score.argmax(), score.shape))
        insets.append(_inside(x, y, size, score.shape))
        score[max(0, y - 2 * size) : y + 2 * size, max(0, x - 2 * size) : x + 2 * size] = -1.0
    return insets


def comparison(images: dict[str, np.ndarray], insets: Sequence[Inset]) -> Image.Image:
    """Figure 7: every image, (H, W, 3) uint8 of one shape by label, with its insets marked, one at
    least, and enlarged below it."""
    rows, columns = next(iter(images.values())).shape[:2]
    scale, height = CELL / columns, round(CELL * rows / columns)
    side = (CELL - GAP * (len(insets) - 1) / 2) / len(insets)
    canvas, corners = _grid(len(images), LABEL + height + GAP / 2 + side)
    for (label, image), (left, top) in zip(images.items(), corners, strict=True):
        canvas.text((left + CELL / 2, top + LABEL / 2), label, most=CELL)
        top += LABEL
        canvas.picture(Image.fromarray(image), left, top, CELL, height)
        for i, inset in enumerate(insets):
            color = COLORS[i % len(COLORS)]
            centre = (left + inset.x * scale, top + inset.y * scale)
            half = inset.size * scale / 2
            canvas.frame(centre[0] - half, centre[1] - half, 2 * half, color)
            _point(canvas, centre, half, color, (left + CELL / 2, top + height / 2))
            x, y = left + i * (side + GAP / 2), top + height + GAP / 2
            canvas.picture(Image.fromarray(_cut(image, inset)), x, y, side, side)
            canvas.frame(x, y, side, color)
            _point(canvas, (x + side / 2, y + side / 2), 6, color, (x + side, y))
    return canvas.finish()


def differences(references: dict[str, np.ndarray], fused: dict[str, np.ndarray]) -> Image.Image:
    """Figure 8: each result minus each reference, (H, W, 3) uint8 of one shape by label; grey where
    they are equal. All share one gain, at which 99.5 % of the differences are not clipped."""
    subtracted = {
        f"{method} minus {name}": image.astype(np.float32) - other
        for method, image in fused.items()
        for name, other in references.items()
    }
    reach = max(1.0, *(np.percentile(np.abs(values), 99.5) for values in subtracted.values()))
    rows, columns = next(iter(fused.values())).shape[:2]
    height = round(CELL * rows / columns)
    step = LABEL + height + GAP / 2
    canvas, corners = _grid(len(fused), len(references) * step)
    places = [(left, top + i * step) for left, top in corners for i in range(len(references))]
    for (label, values), (left, top) in zip(subtracted.items(), places, strict=True):
        canvas.text((left + CELL / 2, top + LABEL / 2), label, most=CELL)
        shown = np.clip(127.5 * (1 + values / reach), 0, 255).round().astype(np.uint8)
        canvas.picture(Image.fromarray(shown), left, top + LABEL, CELL, height)
    return canvas.finish()


def _grid(count: int, height: float) -> tuple[Canvas, list[Point]]:
    """A sheet with room for cells, and the cells' corners."""
    rows = math.ceil(count / COLUMNS)
    columns = math.ceil(count / rows)
    width, height = CELL + GAP, height + GAP
    canvas = Canvas(columns * width + GAP, round(rows * height + GAP))
    places = [divmod(i, columns) for i in range(count)]
    return canvas, [(GAP + column * width, GAP + row * height) for row, column in places]


def _inside(x: int, y: int, size: int, shape: Sequence[int]) -> Inset:
    half = size // 2
    x, y = (min(max(c, half), n - (size - half)) for c, n in ((x, shape[1]), (y, shape[0])))
    return Inset(x, y, size)


def _cut(image: np.ndarray, inset: Inset) -> np.ndarray:
    top, left = inset.y - inset.size // 2, inset.x - inset.size // 2
    return image[top : top + inset.size, left : left + inset.size]


def _point(canvas: Canvas, centre: Point, radius: float, color: str, side: Point) -> None:
    """An arrow from the side of a point to the rim of a circle around a place."""
    along = np.subtract(side, centre)
    distance = np.hypot(*along)
    along = along / distance if distance > 1 else np.array((1.0, 0.0))
    tip = centre + along * (radius * (2**0.5) + 1)
    canvas.arrow([tuple(tip + 28 * along), tuple(tip)], color, 2)
