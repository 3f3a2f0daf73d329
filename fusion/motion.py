"""The motion and the exposure between two frames of a focus stack.

The motion is found by maximising the correlation of the two pictures (ECC: Evangelidis and
Psarakis, IEEE TPAMI 2008), coarse to fine, on reduced grey pictures. In the fine ones contrast is
made alike everywhere: otherwise the strongest edges decide, and at depth edges defocus displaces
them.
"""

from __future__ import annotations

from dataclasses import dataclass

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
EVEN = 41  # pixels of the fine pictures: contrast is made even over so many
FAINT = 0.01  # contrast below this, of the full range, is noise
CELLS = 12  # the frame is divided into so many rows and columns to judge where it is sharp


@dataclass(frozen=True)
class Small:
    """A frame reduced: what the next one is compared with."""

    coarse: np.ndarray  # (h, w) float32, grey
    fine: np.ndarray  # (h', w') float32, grey, of even contrast
    color: np.ndarray  # (h″, w″, 3) float32
    size: tuple[int, int]  # of the frame
    detail: np.ndarray  # (CELLS, CELLS) mean squared Laplacian


def reduce(frame: np.ndarray) -> Small:
    """Of a frame (H, W, 3) uint8, uint16 or float32 in [0, 1]."""
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
    return Small(_smaller(grey, LEVELS[0]), _even(smooth), color, frame.shape[:2], detail)


def find_motion(one: Small, two: Small, motion: str) -> tuple[np.ndarray | None, str | None]:
    """The matrix from pixels of one frame to another's; or why there is none."""
    matrix = np.eye(3)
    matrix[:2, 2] = _shift(one.coarse, two.coarse)
    # Contrast is not even at the borders, beyond which nothing is seen.
    border = max(1, min(EVEN // 2, min(one.fine.shape) // 16))
    try:
        correlation, matrix = _correlate(one.coarse, two.coarse, matrix, motion, ITERATIONS[0], 1)
        matrix = _scaled(matrix, one.fine.shape[1] / one.coarse.shape[1])
        _, matrix = _correlate(one.fine, two.fine, matrix, motion, ITERATIONS[1], border)
    except cv2.error:  # it does not converge
        return None, "it cannot be aligned with its neighbours"
    if correlation < CORRELATION:
        return None, f"it does not match its neighbours (correlation {correlation:.2f})"
    matrix = _scaled(matrix, one.size[1] / one.fine.shape[1])
    corners = corners_of(one.size)
    moved = cv2.perspectiveTransform(corners, matrix)
    reach = np.abs(moved - corners).max() / max(one.size)
    if reach > LARGEST_SHIFT or abs(np.linalg.det(matrix[:2, :2]) ** 0.5 - 1) > LARGEST_SCALE:
        return None, f"it would have to move by {reach:.0%} of its size to match its neighbours"
    return matrix, None


def find_gain(one: Small, two: Small, matrix: np.ndarray) -> np.ndarray:
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


def corners_of(size: tuple[int, int]) -> np.ndarray:
    """The corner pixels (1, 4, 2) of a picture (H, W), clockwise from the first."""
    right, bottom = size[1] - 1, size[0] - 1
    return np.array([[[0, 0], [right, 0], [right, bottom], [0, bottom]]], np.float64)


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


def _correlate(
    one: np.ndarray, two: np.ndarray, matrix: np.ndarray, motion: str, iterations: int, border: int
) -> tuple[float, np.ndarray]:
    """Correlation of two pictures, and the motion that makes it largest, from a first guess on."""
    kind = MOTIONS[motion]
    start = (matrix if kind == cv2.MOTION_HOMOGRAPHY else matrix[:2]).astype(np.float32)
    inner = np.zeros(two.shape, np.uint8)
    inner[border:-border, border:-border] = 255
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 1e-6)
    correlation, found = cv2.findTransformECC(one, two, start, kind, criteria, inner, 5)
    matrix = np.vstack([found, [0, 0, 1]])[:3].astype(np.float64)
    return correlation, _similar(matrix, one.shape) if motion == "similarity" else matrix


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
