"""Register the frames of a focus stack to one another, and match their exposure.

Neighbours in the stack share sharp parts, distant frames may not. So each frame is registered to
the one before (:mod:`fusion.motion`), and the motions are chained to the middle one. Only the last
two frames are kept, reduced: memory does not depend on their number. Exposure is matched to the
median of the frames, so that a single wrong one changes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fusion.motion import MOTIONS, Small, compare, corners_of, find_gain, find_motion, reduce
from fusion.windows import Window

SAME_EXPOSURE = 0.003  # gains within this of 1 are noise
SHOULDER = 0.95  # of the full range: from there on, factors below 1 rise to 1 at white
# Pixels: smaller motions are ignored. Registration is about as accurate, and resampling softens.
STILL = 0.2
SHARP = 0.1  # of the stack's best detail: a frame below it everywhere counts as blurred
BLURRED = "it is blurred everywhere"
SCENES = 3  # at most: groups of frames that match one another but not the other groups

# Limits beyond which a frame gets a warning
OTHER_BRIGHTNESS = 1.25  # times as bright as the median, or that much darker
OTHER_COLOR = 1.2  # between channels
OTHER_CONTRAST = 0.3  # stops, between its dark and bright places, against each neighbour
STRANGE = 0.25  # share of the detail that no neighbour has

Progress = Callable[[Iterable[int], str], Iterable[int]]


@dataclass(frozen=True)
class Registration:
    """Motion and exposure of a frame against the reference frame."""

    matrix: np.ndarray | None  # 3×3, from pixels (x, y, 1) of the reference; None if left out
    gain: np.ndarray  # (3,) factors on stored R, G, B that match the median of the frames
    reason: str | None = None  # why it is left out
    warning: str | None = None  # how it differs from the other frames


@dataclass
class _Place:
    """Motion and gain of a frame against the first one of its scene; and how much it differs from
    the most similar of its neighbours, see :mod:`fusion.motion`."""

    matrix: np.ndarray
    gain: np.ndarray
    strange: float = 1.0
    bend: float = np.inf


@dataclass
class _Scene:
    """Frames that match one another: each matches one of the two before."""

    last: list[tuple[Small, _Place]]
    places: dict[int, _Place]


def register(
    frames: Sequence[np.ndarray],
    motion: str = "similarity",
    exposure: bool = True,
    reference: int | None = None,
    progress: Progress | None = None,
) -> list[Registration]:
    """Find the motion of each frame against the reference, and its exposure against the median. A
    frame that does not correlate with its neighbours, or is blurred everywhere, is left out.

    Args:
        frames: (H, W, 3) uint8, uint16 or float32, of one size; each is read once, in order.
        motion: "translation", "similarity" (shift, rotation and scale: what a hand and focus
            breathing do), "affine" or "homography"; others raise a ValueError.
        exposure: match exposure and white balance by a gain for each channel.
        reference: number of the frame that is not moved; by default the middle one of those that
            match one another.
        progress: wraps the frame numbers in a progress bar.
    """
    if motion not in MOTIONS:
        raise ValueError(f"motion {motion!r} is unknown, choose of {', '.join(MOTIONS)}")
    numbers = range(len(frames))
    scenes: list[_Scene] = []
    reasons: dict[int, str] = {}
    details: list[np.ndarray] = []
    for i in progress(numbers, "aligning") if progress else numbers:
        frame = reduce(frames[i])
        details.append(frame.detail)
        if not _find_blurred(details)[-1]:
            reasons[i] = _add(scenes, i, frame, motion, exposure)
    # A frame can turn out to be blurred when sharper ones have come.
    reasons |= {i: BLURRED for i, blurred in enumerate(_find_blurred(details)) if blurred}
    scenes = [scene for scene in scenes if reference is None or reference in scene.places]
    places = max((scene.places for scene in scenes), key=len, default={})
    good = [i for i in places if i == reference or reasons[i] != BLURRED]
    if reference is None and good:
        reference = good[len(good) // 2]
    gains = [np.log(places[i].gain) for i in good]
    middle = np.exp(np.median(gains, axis=0)) if gains else np.ones(3)
    return [
        _register_to(places[reference], places[i], middle, frame.size)
        if i in good
        else Registration(None, np.ones(3), reasons[i])
        for i in numbers
    ]


def warp(image: np.ndarray, registration: Registration, area: Window) -> np.ndarray:
    """Warp a frame (H, W) or (H, W, 3) uint8, uint16 or float32 in [0, 1] onto the ``area`` of the
    reference: (h, w, …) of the same type, the frame's own memory if there is nothing to do. Beyond
    the frame its edge pixels are repeated."""
    still = np.array_equal(registration.matrix, np.eye(3))
    if still:
        image = np.ascontiguousarray(image[area])
    else:
        rows, columns = area
        offset = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]], np.float64)
        # Lanczos keeps the finest detail, which tells frames apart.
        image = cv2.warpPerspective(
            image,
            registration.matrix @ offset,
            (columns.stop - columns.start, rows.stop - rows.start),
            flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    if np.any(registration.gain != 1):
        image = _apply_gain(image, registration.gain)
    elif not still and image.dtype == np.float32:
        image = np.clip(image, 0, 1)
    return image


def common_area(registrations: Sequence[Registration], size: tuple[int, int]) -> Window:
    """Rows and columns of the reference that every registered frame shows, perhaps none. Borders
    are cut by whole rows and columns until each corner lies in all frames."""
    height, width = size
    top, left, bottom, right = 0.0, 0.0, height - 1.0, width - 1.0
    for registration in registrations:
        if registration.matrix is None:
            continue
        back = np.linalg.inv(registration.matrix)
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = cv2.perspectiveTransform(corners_of(size), back)[0]
        top, bottom = max(top, y0, y1), min(bottom, y2, y3)
        left, right = max(left, x0, x3), min(right, x1, x2)
    margin = 1e-3  # for rounding errors
    return tuple(
        slice(int(np.ceil(first - margin)), int(np.floor(last + margin)) + 1)
        for first, last in ((top, bottom), (left, right))
    )


def _add(scenes: list[_Scene], number: int, frame: Small, motion: str, exposure: bool) -> str:
    """Add a frame to the largest scene whose last frames it matches, or start a new one; return why
    it does not match the largest of all."""
    why = "it does not match the other frames"
    by_size = sorted(scenes, key=lambda scene: -len(scene.places))
    for scene in by_size:
        for before, there in reversed(scene.last):
            step, reason = find_motion(before, frame, motion)
            if step is not None:
                gain = find_gain(before, frame, step)[0] if exposure else np.ones(3)
                place = _Place(step @ there.matrix, there.gain * gain)
                for other, its in scene.last:
                    between = place.matrix @ np.linalg.inv(its.matrix)
                    strange = compare(other, frame, between)[1]
                    bend = find_gain(other, frame, between)[1]
                    for one in (place, its):
                        one.strange, one.bend = min(one.strange, strange), min(one.bend, bend)
                scene.places[number] = place
                scene.last = [*scene.last[-1:], (frame, place)]
                return why
            if scene is by_size[0]:
                why = reason
    place = _Place(np.eye(3), np.ones(3))
    scenes.append(_Scene([(frame, place)], {number: place}))
    if len(scenes) > SCENES:  # forget the smallest of those before, of equal ones the oldest
        scenes.remove(min(scenes[:-1], key=lambda scene: len(scene.places)))
    return why


def _register_to(
    reference: _Place, place: _Place, middle: np.ndarray, size: tuple[int, int]
) -> Registration:
    """A frame against the reference, its gain against ``middle``; motions and gains within noise
    are dropped."""
    matrix = place.matrix @ np.linalg.inv(reference.matrix)
    gain = place.gain / middle
    corners = corners_of(size)
    if np.abs(cv2.perspectiveTransform(corners, matrix) - corners).max() < STILL:
        matrix = np.eye(3)
    if np.abs(gain - 1).max() < SAME_EXPOSURE:
        gain = np.ones(3)
    return Registration(matrix, gain, warning=_warn(place, gain))


def _warn(place: _Place, gain: np.ndarray) -> str | None:
    """How a frame differs from the others, if it does."""
    said = []
    brightness = 1 / float(np.median(gain))
    if max(brightness, 1 / brightness) > OTHER_BRIGHTNESS:
        word = "darker" if brightness < 1 else "brighter"
        said.append(f"it is {word} than the other frames, {brightness:.2f} times their values")
    if gain.max() / gain.min() > OTHER_COLOR:
        said.append("its white balance is not that of the other frames")
    if OTHER_CONTRAST < place.bend < np.inf:
        said.append("its contrast is not that of its neighbours (another gamma or style?)")
    if STRANGE < place.strange < 1:
        said.append(f"{place.strange:.0%} of its detail is not in its neighbours; does it belong?")
    return "; ".join(said) or None


def _find_blurred(details: Sequence[np.ndarray]) -> list[bool]:
    """Which frames are nowhere nearly as sharp as the sharpest frame is there."""
    sharpest = np.maximum(np.maximum.reduce(details), 1e-12)
    return [bool((detail / sharpest).max() < SHARP) for detail in details]


def _apply_gain(image: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Multiply the channels of an image; what is clipped stays white."""

    def multiply(values: np.ndarray, factor: float) -> np.ndarray:
        if factor < 1:
            near = np.clip((values - SHOULDER) / (1 - SHOULDER), 0, 1)
            factor = factor + (1 - factor) * near
        return np.clip(values * factor, 0, 1)

    factors, channels = map(float, gain), np.moveaxis(image, 2, 0)
    if image.dtype == np.float32:
        return np.dstack([multiply(*each) for each in zip(channels, factors, strict=True)])
    values = np.linspace(0, 1, np.iinfo(image.dtype).max + 1)
    tables = (np.rint(multiply(values, f) * (len(values) - 1)).astype(image.dtype) for f in factors)
    return np.dstack([table[x] for table, x in zip(tables, channels, strict=True)])
