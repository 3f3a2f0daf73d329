"""Where our results are worst: crops of the truth, of ours, of others, and of the error."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from drawing.canvas import Canvas

CELL, GAP, LABEL = 200, 8, 22  # units of the sheet
SIDE = 1 / 9  # of a crop, of the width
GAIN = 4  # of errors, around grey


class Place(NamedTuple):
    """A square of a stack, in pixels, and the mean squared error there."""

    stack: str
    top: int
    left: int
    side: int
    error: float


def worst_place(stack: str, fused: np.ndarray, truth: np.ndarray) -> Place:
    """The square that is farthest from the truth; both are (H, W, 3) uint8."""
    side = max(4, round(SIDE * truth.shape[1]))
    error = np.square(fused.astype(np.float32) - truth).mean(axis=2)
    half = side // 2
    inside = slice(half, half - side + 1)
    inner = uniform_filter(error, side, mode="constant")[inside, inside]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    return Place(stack, int(top), int(left), side, float(inner[top, left]))


def worst_places(
    places: Sequence[Place], images: Mapping[str, Mapping[str, np.ndarray]]
) -> Image.Image:
    """A row for each place, a column for each image, and last the error of ``ours``.

    Args:
        images: by stack and label, (H, W, 3) uint8; ``truth`` and ``ours`` are among them.
    """
    labels = list(dict.fromkeys(label for shown in images.values() for label in shown))
    difference = f"(ours - truth) x {GAIN}"
    lefts = {label: GAP + i * (CELL + GAP) for i, label in enumerate([*labels, difference])}
    canvas = Canvas(len(lefts) * (CELL + GAP) + GAP, LABEL + len(places) * (CELL + LABEL + GAP))
    for label, left in lefts.items():
        canvas.text((left + CELL / 2, LABEL / 2), label, 13)
    for row, place in enumerate(places):
        top = LABEL + row * (CELL + LABEL + GAP)
        text = f"{place.stack}, {place.left},{place.top}"
        canvas.text((GAP, top + LABEL / 2), text, 12, anchor="lm")
        here = tuple(slice(start, start + place.side) for start in (place.top, place.left))
        crops = {label: image[here] for label, image in images[place.stack].items()}
        error = crops["ours"].astype(np.float32) - crops["truth"]
        crops[difference] = np.clip(127.5 + GAIN * error, 0, 255).astype(np.uint8)
        for label, crop in crops.items():
            enlarged = Image.fromarray(crop).resize((CELL, CELL), Image.Resampling.BOX)
            canvas.picture(enlarged, lefts[label], top + LABEL, CELL, CELL)
    return canvas.finish()
