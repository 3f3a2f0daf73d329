"""Register the frames of a focus stack to one another, and match their exposure.

Frames that are neighbours in the stack share sharp parts, distant ones may not; so each frame is
registered to the one before, and the motions are chained to the middle one. The motion is found by
maximising the correlation of the two pictures (ECC: Evangelidis and Psarakis, IEEE TPAMI 2008),
coarse to fine, on reduced grey pictures. In the fine ones contrast is made alike everywhere:
otherwise the strongest edges decide, and at depth edges light spreads to one side.

Frames come one after another, and but the last, reduced, none is kept: memory does not depend on
their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

# Long sides of the pictures that are registered, pixels. Motion is found to a small fraction of a
# pixel, so the last need not be as large as the frame.
LEVELS = (320, 1280)
ITERATIONS = (60, 25)
MOTIONS = {
    "translation": cv2.MOTION_TRANSLATION,
    "similarity": cv2.MOTION_AFFINE,  # OpenCV has none; the nearest one is taken from the affine
    "affine": cv2.MOTION_AFFINE,
    "homography": cv2.MOTION_HOMOGRAPHY,
}
CORRELATION = 0.6  # least, of frames that show the same scene
LARGEST_SHIFT = 0.15  # of the long side, from neighbour to neighbour
LARGEST_SCALE = 0.15  # likewise, relative
SAME_EXPOSURE = 0.003  # gains within this of 1 are noise
CELLS = 12  # the frame is divided into so many rows and columns to judge where it is sharp
SCENES = 3  # kept apart at most, where frames do not match one another
STILL = 0.02  # pixels: a frame that has moved by less stays as it is
SHARP = 0.1  # of the stack's best detail: a frame that reaches it nowhere is blurred everywhere
EVEN = 41  # pixels of the fine pictures: contrast is made even over so many
FAINT = 0.01  # contrast below this, of the full range, is noise
BLURRED = "it is blurred everywhere"

Window = tuple[slice, slice]
Progress = Callable[[Iterable[int], str], Iterable[int]]


@dataclass(frozen=True)
class Registration:
    """How a frame lies on the reference frame.

    Attributes:
        matrix: 3×3, maps pixel coordinates (x, y, 1) of the reference to the frame's; None if the
            frame is left out.
        gain: (3,) factors on the frame's stored R, G, B values that match the reference.
        reason: why it is left out, or None.
    """

    matrix: np.ndarray | None
    gain: np.ndarray
    reason: str | None = None


@dataclass(frozen=True)
class _Small:
    """A frame reduced: what the next one is compared with."""

    coarse: np.ndarray  # (h, w) float32, grey
    fine: np.ndarray  # (h', w') float32, grey, of even contrast
    color: np.ndarray  # (h″, w″, 3) float32
    size: tuple[int, int]  # of the frame
    detail: np.ndarray  # (CELLS, CELLS) mean squared Laplacian


class _Place(NamedTuple):
    """How a frame lies on the first one of its scene, see :class:`Registration`."""

    matrix: np.ndarray
    gain: np.ndarray


@dataclass
class _Scene:
    """Frames that match one another, each the one before."""

    last: _Small
    places: dict[int, _Place]


def register(
    frames: Sequence[np.ndarray],
    motion: str = "similarity",
    exposure: bool = True,
    reference: int | None = None,
    progress: Progress | None = None,
) -> list[Registration]:
    """Find the motion of each frame, and its exposure, against the reference.

    Args:
        frames: (H, W, 3) uint8, uint16 or float32, equally large; each is read once, in order, and
            only small versions are kept.
        motion: "translation", "similarity" (shift, rotation and scale: what a hand and focus
            breathing do), "affine" or "homography".
        exposure: match exposure and white balance by a gain for each channel.
        reference: number of the frame that stays as it is; by default the middle one of those that
            match one another.
        progress: goes through frame numbers with a bar.

    Returns:
        A registration for each frame. One that does not correlate with its neighbours, or is
        blurred everywhere, has no matrix and a reason.

    Raises:
        ValueError: ``motion`` is unknown.
    """
    if motion not in MOTIONS:
        raise ValueError(f"motion {motion!r} is unknown, choose of {', '.join(MOTIONS)}")
    numbers: Iterable[int] = range(len(frames))
    scenes: list[_Scene] = []
    reasons: dict[int, str] = {}
    details: list[np.ndarray] = []
    for i in progress(numbers, "aligning") if progress else numbers:
        frame = _reduce(frames[i])
        details.append(frame.detail)
        if not _blurred(details)[-1]:
            reasons[i] = _place(scenes, i, frame, motion, exposure)
    # A frame can turn out to be blurred when sharper ones have come.
    reasons |= {i: BLURRED for i, blurred in enumerate(_blurred(details)) if blurred}
    scenes = [scene for scene in scenes if reference is None or reference in scene.places]
    places = max((scene.places for scene in scenes), key=len, default={})
    good = [i for i in places if reasons[i] != BLURRED]
    if reference is None and good:
        reference = good[len(good) // 2]
    return [
        _against(places[reference], places[i], frame.size)
        if i in good or i == reference
        else Registration(None, np.ones(3), reasons[i])
        for i in numbers
    ]


def warp(
    image: np.ndarray, registration: Registration, size: tuple[int, int] | None = None
) -> np.ndarray:
    """A frame as the reference sees it.

    Args:
        image: (H, W, 3) uint8, uint16 or float32 in [0, 1].
        registration: with a matrix.
        size: (h, w) of the result, by default the frame's.

    Returns:
        (h, w, 3) of the same type; beyond the frame its edge pixels. The frame itself if there is
        nothing to do.
    """
    size = image.shape[:2] if size is None else size
    still = np.array_equal(registration.matrix, np.eye(3)) and size == image.shape[:2]
    if not still:
        # Lanczos keeps the finest detail, by which frames are told apart.
        image = cv2.warpPerspective(
            image,
            registration.matrix,
            size[::-1],
            flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    if np.any(registration.gain != 1):
        image = _times(image, registration.gain)
    elif not still and image.dtype == np.float32:
        image = np.clip(image, 0, 1)
    return image


def common_area(registrations: Sequence[Registration], size: tuple[int, int]) -> Window:
    """Rows and columns of the reference that every registered frame shows.

    The rectangle is the largest about the middle of what is shown: borders are cut by whole
    rows and columns until each of its corners lies in all frames. It can be empty.
    """
    height, width = size
    top, left, bottom, right = 0.0, 0.0, height - 1.0, width - 1.0
    for registration in registrations:
        if registration.matrix is None:
            continue
        back = np.linalg.inv(registration.matrix)
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = cv2.perspectiveTransform(_corners(size), back)[0]
        top, bottom = max(top, y0, y1), min(bottom, y2, y3)
        left, right = max(left, x0, x3), min(right, x1, x2)
    margin = 1e-3  # a still frame shows all of the reference, but for rounding
    rows = slice(int(np.ceil(top - margin)), int(np.floor(bottom + margin)) + 1)
    columns = slice(int(np.ceil(left - margin)), int(np.floor(right + margin)) + 1)
    return rows, columns


def _place(scenes: list[_Scene], number: int, frame: _Small, motion: str, exposure: bool) -> str:
    """Add a frame to the scene whose last frame it matches, or else to the scenes as a new one;
    and say why it does not match the largest."""
    why = "it does not match the other frames"
    for scene in sorted(scenes, key=lambda scene: -len(scene.places)):
        step, reason = _motion(scene.last, frame, motion)
        if step is not None:
            gain = _gain(scene.last, frame, step) if exposure else np.ones(3)
            matrix, before = next(reversed(scene.places.values()))
            scene.places[number] = _Place(step @ matrix, before * gain)
            scene.last = frame
            return why
        if scene is scenes[0]:
            why = reason
    scenes.append(_Scene(frame, {number: _Place(np.eye(3), np.ones(3))}))
    scenes.sort(key=lambda scene: -len(scene.places))
    del scenes[SCENES:]
    return why


def _against(reference: _Place, place: _Place, size: tuple[int, int]) -> Registration:
    """A frame against the reference; motions and gains that are none but for noise become none."""
    matrix = place.matrix @ np.linalg.inv(reference.matrix)
    gain = place.gain / reference.gain
    corners = _corners(size)
    if np.abs(cv2.perspectiveTransform(corners, matrix) - corners).max() < STILL:
        matrix = np.eye(3)
    if np.abs(gain - 1).max() < SAME_EXPOSURE:
        gain = np.ones(3)
    return Registration(matrix, gain)


def _blurred(details: Sequence[np.ndarray]) -> list[bool]:
    """Whether each of some frames is nowhere nearly as sharp as the sharpest is there."""
    sharpest = np.maximum(np.maximum.reduce(details), 1e-12)
    return [bool((detail / sharpest).max() < SHARP) for detail in details]


def _reduce(frame: np.ndarray) -> _Small:
    full = 1.0 if frame.dtype == np.float32 else float(np.iinfo(frame.dtype).max)
    reduced = _smaller(frame, LEVELS[1]).astype(np.float32) / np.float32(full)
    grey = cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    color = cv2.resize(
        reduced, (max(4, width // 8), max(4, height // 8)), interpolation=cv2.INTER_AREA
    )
    # Of the picture a little smoothed: noise is everywhere alike and would pass for detail.
    smooth = cv2.GaussianBlur(grey, (0, 0), 1)
    laplacian = cv2.Laplacian(smooth, cv2.CV_32F)
    detail = cv2.resize(np.square(laplacian), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return _Small(_smaller(grey, LEVELS[0]), _even(smooth), color, frame.shape[:2], detail)


def _smaller(image: np.ndarray, side: int) -> np.ndarray:
    """A picture brought to a long side, unless it is shorter."""
    scale = min(1.0, side / max(image.shape[:2]))
    height, width = (max(8, round(n * scale)) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _even(grey: np.ndarray) -> np.ndarray:
    """A picture less its local mean, divided by its local contrast."""
    around = (EVEN, EVEN)
    detail = grey - cv2.blur(grey, around)
    return detail / (np.sqrt(cv2.blur(np.square(detail), around)) + np.float32(FAINT))


def _corners(size: tuple[int, int]) -> np.ndarray:
    """The corner pixels (1, 4, 2) of a picture (H, W), clockwise from the first."""
    right, bottom = size[1] - 1, size[0] - 1
    return np.array([[[0, 0], [right, 0], [right, bottom], [0, bottom]]], np.float64)


def _motion(one: _Small, two: _Small, motion: str) -> tuple[np.ndarray | None, str | None]:
    """The matrix from pixels of one frame to another's; or why there is none."""
    matrix = np.eye(3)
    matrix[:2, 2] = _shift(one.coarse, two.coarse)
    correlation = None
    width = one.coarse.shape[1]
    levels = ((one.coarse, two.coarse), (one.fine, two.fine))
    for pictures, iterations in zip(levels, ITERATIONS, strict=True):
        matrix = _scaled(matrix, pictures[0].shape[1] / width)
        width = pictures[0].shape[1]
        kind = MOTIONS[motion]
        border = min(EVEN // 2, min(pictures[0].shape) // 16) if pictures[0] is one.fine else 1
        start = matrix if kind == cv2.MOTION_HOMOGRAPHY else matrix[:2]
        # Contrast is not even at the borders, of which little is seen.
        inner = np.zeros(pictures[1].shape, np.uint8)
        inner[border:-border, border:-border] = 255
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 1e-6)
        try:
            alike, found = cv2.findTransformECC(
                *pictures, start.astype(np.float32), kind, criteria, inner, 5
            )
        except cv2.error:  # it does not converge
            return None, "it cannot be aligned with its neighbours"
        correlation = alike if correlation is None else correlation  # of the coarse pictures
        matrix = np.vstack([found, [0, 0, 1]])[:3].astype(np.float64)
        if motion == "similarity":
            matrix = _similar(matrix, pictures[0].shape)
    if correlation < CORRELATION:
        return None, f"it does not match its neighbours (correlation {correlation:.2f})"
    matrix = _scaled(matrix, one.size[1] / width)
    corners = _corners(one.size)
    moved = cv2.perspectiveTransform(corners, matrix)
    reach = np.abs(moved - corners).max() / max(one.size)
    if reach > LARGEST_SHIFT or abs(np.linalg.det(matrix[:2, :2]) ** 0.5 - 1) > LARGEST_SCALE:
        return None, f"it would have to move by {reach:.0%} of its size to match its neighbours"
    return matrix, None


def _shift(one: np.ndarray, two: np.ndarray) -> tuple[float, float]:
    """(x, y) from one picture to the other, by phase correlation of their detail."""
    sharp = [x - cv2.GaussianBlur(x, (0, 0), 8) for x in (one, two)]
    window = cv2.createHanningWindow(one.shape[::-1], cv2.CV_32F)
    (x, y), response = cv2.phaseCorrelate(*sharp, window)
    near = max(abs(x), abs(y)) <= LARGEST_SHIFT * max(one.shape)
    return (x, y) if near and response > 0.02 else (0.0, 0.0)


def _scaled(matrix: np.ndarray, zoom: float) -> np.ndarray:
    """The same motion of pictures ``zoom`` times as large; pixel centres are at whole numbers."""
    grow = np.array([[zoom, 0, (zoom - 1) / 2], [0, zoom, (zoom - 1) / 2], [0, 0, 1]])
    return grow @ matrix @ np.linalg.inv(grow)


def _similar(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The similarity that moves the corners of a picture most like an affine motion does."""
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    moved = corners @ matrix[:2, :2].T + matrix[:2, 2]
    before, after = ((points - points.mean(0)) @ (1, 1j) for points in (corners, moved))
    turn = (after * before.conj()).sum() / (np.abs(before) ** 2).sum()
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    offset = moved.mean(0) - linear @ corners.mean(0)
    return np.vstack([np.column_stack([linear, offset]), [0, 0, 1]])


def _gain(one: _Small, two: _Small, matrix: np.ndarray) -> np.ndarray:
    """Factors on the second frame's channels that match the first: medians of smoothed ratios."""
    height, width = one.color.shape[:2]
    small = _scaled(matrix, width / one.size[1])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(two.color, small, (width, height), flags=flags, borderValue=0)
    # Defocus moves light about; over a larger neighbourhood it keeps it.
    smooth = [cv2.GaussianBlur(x, (0, 0), max(2, width / 40)) for x in (one.color, moved)]
    clipped = [cv2.dilate(x.max(2), np.ones((5, 5))) > 0.98 for x in (one.color, moved)]
    usable = ~(clipped[0] | clipped[1]) & (np.minimum(*smooth).min(2) > 0.02)
    inner = np.zeros_like(usable)
    inner[height // 8 : height - height // 8, width // 8 : width - width // 8] = True
    usable &= inner
    if usable.sum() < 16:
        return np.ones(3)
    return np.median(smooth[0][usable] / smooth[1][usable], axis=0).astype(np.float64)


def _times(image: np.ndarray, gain: np.ndarray) -> np.ndarray:
    if image.dtype == np.float32:
        return np.clip(image * gain.astype(np.float32), 0, 1)
    limit = np.iinfo(image.dtype).max
    table = np.arange(limit + 1, dtype=np.float64)[:, None] * gain
    table = np.clip(np.rint(table), 0, limit).astype(image.dtype)
    return np.dstack([table[image[..., c], c] for c in range(3)])
