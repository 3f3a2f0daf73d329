"""The motion and the exposure between two frames of a focus stack.

Blur does not displace an image, as PSFs are nearly symmetric in linear light; it changes contrast,
differently at each frequency. So frames are compared by detail of equalised contrast
(:mod:`fusion.detail`), by the antisymmetric part of the gradient of its correlation, e₁∇e₂ − e₂∇e₁:
like the local phase of Fleet and Jepson (IJCV 5, 1990) it is 0 for two signals of one phase and any
contrasts. Pixels are weighted by the local correlation, so that each band is used where blur has
left it in both frames. All bands are solved together, coarse to fine, by Gauss–Newton steps on the
group of motions (Baker and Matthews, IJCV 56, 2004). If blur has left little, the last step is of
frames that are blurred alike.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fusion.detail import (
    LOST,
    Blur,
    Level,
    Plane,
    correlate,
    find_blurs,
    make_level,
    match,
    pyramid,
    trust,
    warp_image,
    warp_level,
    warp_plane,
)
from fusion.windows import shrink
from utils.images import white

SIDE = 1024  # pixels, long side of the images registered: motion is subpixel
STEPS = 8  # at most, at each level
STRIP = 64  # rows whose equations are written at once
STILL = 0.1  # pixels: a step below this is the last of its level; one more would be 1/20 of it
JUDGED = 160  # pixels, long side of the level that decides whether frames match
BLACK, WHITE = 0.02, 0.98  # of the full range: values beyond are clipped
GAMMA = 2.2  # of values as stored, about: lenses blur light
CORRELATION = 0.4  # least, between frames of one scene
# Mean local correlation at level 1 above which frames need not be blurred alike; and the level at
# which it is found how.
ALIKE, LOOKED_AT = 0.85, 2
STRANGE = 0.3  # local correlation below which frames show different things
LARGEST_SHIFT = 0.15  # of the long side, from neighbour to neighbour
LARGEST_SCALE = 0.15  # likewise, relative
CELLS = 12  # rows and columns of the map of detail

# Degrees in x and y of the terms of a velocity: 1, x, y, x², xy, y². Products of two have up to 4.
IN_X, IN_Y = np.array([(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]).T
POWERS = 5

_UNITS = np.eye(9).reshape(9, 3, 3)  # 1 in one place each
_SHIFTS, _LINEAR = [_UNITS[2], _UNITS[5]], [*_UNITS[[0, 1, 3, 4]]]
# Generators of the motions: derivatives of 3×3 matrices at the identity, about the image centre.
MOTIONS = {
    "translation": _SHIFTS,
    "similarity": [*_SHIFTS, _LINEAR[0] + _LINEAR[3], _LINEAR[2] - _LINEAR[1]],
    "affine": [*_SHIFTS, *_LINEAR],
    "homography": [*_SHIFTS, *_LINEAR, _UNITS[6], _UNITS[7]],
}


class Small(NamedTuple):
    """A reduced frame, to compare others with."""

    levels: list[Level]  # the finest first
    planes: list[Plane]  # of the levels but the finest
    judged: int  # number of the level that decides whether frames match
    light: np.ndarray  # (h, w, 3) float32, linear
    size: tuple[int, int]  # of the frame
    detail: np.ndarray  # (CELLS, CELLS) mean squared Laplacian


def reduce(frame: np.ndarray) -> Small:
    """Reduce a frame (H, W, 3) uint8, uint16 or float32 in [0, 1]."""
    reduced = shrink(frame, SIDE).astype(np.float32) / white(frame.dtype)
    height, width = reduced.shape[:2]
    cells = max(4, width // 8), max(4, height // 8)
    light = cv2.pow(np.maximum(reduced, 0), GAMMA)
    grey = cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY)
    # Smoothed a little, since noise would pass for detail.
    laplacian = cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1), cv2.CV_32F)
    detail = cv2.resize(np.square(laplacian), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    brightest = functools.reduce(cv2.max, cv2.split(reduced))
    lit = (brightest > BLACK) & (brightest < WHITE)
    usable = np.where(lit, np.float32(1), np.float32(LOST))
    # In values as stored, blur would displace edges.
    planes = list(pyramid(cv2.cvtColor(light, cv2.COLOR_RGB2GRAY), usable))
    levels = [make_level(plane) for plane in planes]
    larger = sum(max(level.even.shape) > JUDGED for level in levels)
    light = cv2.resize(light, cells, interpolation=cv2.INTER_AREA)
    judged = min(larger, len(levels) - 1)
    return Small(levels, planes[1:], judged, light, frame.shape[:2], detail)


def find_motion(one: Small, two: Small, motion: str) -> tuple[np.ndarray | None, str | None]:
    """The matrix from pixels of one frame to those of another, or why there is none."""
    matrix = np.eye(3)
    matrix[:2, 2] = _shift(one, two)
    corners = corners_of(one.levels[0].even.shape)
    for finest in reversed(range(len(one.levels))):
        for _ in range(STEPS):
            change = _step(one, two, matrix, MOTIONS[motion], finest)
            matrix = matrix @ change
            moved = np.abs(cv2.perspectiveTransform(corners, change) - corners).max()
            if not moved > STILL * 2**finest:
                break
    if len(one.levels) > LOOKED_AT and not _are_alike(one, two, matrix):
        here = _rescale(matrix, 0.5**LOOKED_AT, 0)
        found = find_blurs(one.planes[LOOKED_AT - 1], warp_plane(two.planes[LOOKED_AT - 1], here))
        blurs = [Blur(which, radius * 2**LOOKED_AT) for which, radius in found]
        matrix = matrix @ _step(one, two, matrix, MOTIONS[motion], 0, blurs)
    zoom = one.size[1] / one.levels[0].even.shape[1]
    matrix, corners = _rescale(matrix, zoom), corners_of(one.size)
    reach = np.abs(cv2.perspectiveTransform(corners, matrix) - corners).max() / max(one.size)
    correlation, _ = compare(one, two, matrix)
    if not correlation >= CORRELATION:
        return None, f"it does not match its neighbours (correlation {correlation:.2f})"
    if reach > LARGEST_SHIFT or abs(np.linalg.det(matrix[:2, :2]) ** 0.5 - 1) > LARGEST_SCALE:
        return None, f"it would have to move by {reach:.0%} of its size to match its neighbours"
    return matrix, None


def compare(one: Small, two: Small, matrix: np.ndarray) -> tuple[float, float]:
    """How well frames match if ``matrix`` maps pixels of the first to the second: the correlation
    over all that both show, and the share of the detail that differs."""
    zoom = one.levels[0].even.shape[1] / one.size[1]
    first, second, usable = _meet(one, two, _rescale(matrix, zoom), one.judged)
    sums = [(usable * product).sum() for product in (first * second, first**2, second**2)]
    correlation = float(sums[0] / max(np.sqrt(sums[1] * sums[2]), 1e-9))
    near = _correlation_of_detail(first, second, usable)
    return correlation, float((near < STRANGE).mean()) if near.size else 0.0


def find_gain(one: Small, two: Small, matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Factors on the second frame's channels that match the first (medians of smoothed ratios), and
    their difference between dark and bright pixels in stops, which another gamma causes."""
    height, width = one.light.shape[:2]
    moved = warp_image(two.light, _rescale(matrix, width / one.size[1]))
    # Defocus spreads light locally; means of larger neighbourhoods are kept. Of values as stored
    # they are not: blur raises them.
    smooth = [cv2.GaussianBlur(x, (0, 0), max(2, width / 40)) for x in (one.light, moved)]
    clipped = [cv2.dilate(x.max(2), np.ones((5, 5))) > WHITE**GAMMA for x in (one.light, moved)]
    usable = ~(clipped[0] | clipped[1]) & (np.minimum(*smooth).min(2) > BLACK**GAMMA)
    inner = np.zeros_like(usable)
    inner[height // 8 : height - height // 8, width // 8 : width - width // 8] = True
    usable &= inner
    if usable.sum() < 16:
        return np.ones(3), 0.0
    ratios = (smooth[0][usable] / smooth[1][usable]) ** (1 / GAMMA)
    brightness = smooth[0][usable].mean(1)
    dark, bright = (brightness <= np.quantile(brightness, q) for q in (0.25, 0.75))
    stops = np.log2(ratios.mean(1))
    bend = abs(np.median(stops[dark]) - np.median(stops[~bright])) if (~bright).any() else 0.0
    return np.median(ratios, axis=0).astype(np.float64), float(bend)


def corners_of(size: tuple[int, int]) -> np.ndarray:
    """The corner pixels (1, 4, 2) of a picture (H, W), clockwise from the first."""
    right, bottom = size[1] - 1, size[0] - 1
    return np.array([[[0, 0], [right, 0], [right, bottom], [0, bottom]]], np.float64)


def _meet(
    one: Small, two: Small, matrix: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The detail of two frames at a level, that of the second warped by a motion in pixels of the
    finest one, and what is usable of both."""
    first = one.levels[number]
    second = warp_level(two.levels[number], _rescale(matrix, 0.5**number, 0))
    return first.even, second.even, first.usable * second.usable


def _correlation_of_detail(one: np.ndarray, two: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """The local correlation at each pixel where there is detail."""
    near, power = correlate(one, two)
    return near[(usable > 0.5) & (power > 0.1)]


def _are_alike(one: Small, two: Small, matrix: np.ndarray) -> bool:
    """Whether blur has left enough in both frames."""
    near = _correlation_of_detail(*_meet(one, two, matrix, 1))
    return not near.size or float(np.maximum(near, 0).mean()) > ALIKE


def _step(
    one: Small,
    two: Small,
    matrix: np.ndarray,
    motions: list[np.ndarray],
    finest: int,
    blurs: Sequence[Blur] = (),
) -> np.ndarray:
    """A Gauss–Newton step (3, 3) of a motion in pixels of the finest level, from the equations of
    the levels from ``finest`` on; with ``blurs``, in pixels of the finest, which are tried in all
    but that."""
    height, width = one.levels[0].even.shape
    middle = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, width]]) / width
    velocities = np.array([_velocity(motion).ravel() for motion in motions])
    moments = np.zeros((5, POWERS, POWERS))
    for i in range(finest, len(one.levels)):
        here = _rescale(matrix, 0.5**i, 0)
        if blurs and i:
            these = [Blur(which, radius / 2**i) for which, radius in blurs]
            warped = warp_plane(two.planes[i - 1], here)
            first, second, near = match(one.planes[i - 1], warped, these)
        else:
            first, second = one.levels[i], warp_level(two.levels[i], here)
            near = correlate(first.even, second.even)[0]
        moments += _moments(first, second, near, (height, width), 0.5**i)
    pull = velocities @ moments[:2, IN_Y, IN_X].ravel()
    uu, uv, vv = moments[2:, np.add.outer(IN_Y, IN_Y), np.add.outer(IN_X, IN_X)]
    normal = velocities @ np.block([[uu, uv], [uv, vv]]) @ velocities.T
    normal += 1e-6 * (np.trace(normal) + 1e-6) * np.eye(len(motions))
    change = np.eye(3) + np.tensordot(np.linalg.solve(normal, pull), motions, 1)
    return np.linalg.inv(middle) @ change @ middle


def _moments(
    first: Level, second: Level, near: np.ndarray, size: tuple[int, int], zoom: float
) -> np.ndarray:
    """What the normal equations of a level consist of: sums over its pixels of the residual times
    the mean slope (x, y), and of the products of that (xx, xy, yy), each times yᵐxⁿ, weighted;
    (5, m, n), up to the fourth powers. ``size`` is of the finest level."""
    unit = np.float32(size[1] * zoom)
    y, x = (
        np.vander((np.arange(n) - (full - 1) * zoom / 2) / unit, POWERS, increasing=True)
        for n, full in zip(near.shape, size, strict=True)
    )
    y, x = y.T.astype(np.float32), x.astype(np.float32)
    weight = first.usable * second.usable * trust(near)
    moments = np.zeros((5, POWERS, POWERS))
    for top in range(0, len(near), STRIP):
        part = slice(top, top + STRIP)
        mine, other, sure = first.slope[:, part], second.slope[:, part], weight[part]
        asked = (first.even[part] * other - second.even[part] * mine) * (sure * unit / 2)
        u, v = slope = (mine + other) * (unit / 2)
        weighted = slope * (sure * near[part])
        planes = np.stack([*asked, *(weighted * u), weighted[1] * v])
        moments += y[:, part] @ planes @ x
    return moments


def _velocity(motion: np.ndarray) -> np.ndarray:
    """Velocity (u, v) of points as the matrix leaves the identity along a generator, (2, 6) factors
    of the terms 1 … y²: u − x·w and v − y·w, where (u, v, w) is the motion of (x, y, 1)."""
    (a, b, c), (d, e, f), (g, h, i) = motion
    return np.array([[c, a - i, b, -g, -h, 0], [f, d, e - i, 0, -g, -h]])


def _shift(one: Small, two: Small) -> tuple[float, float]:
    """Shift (x, y) in pixels of the finest level, by phase correlation of the judged level."""
    pictures = [small.levels[small.judged] for small in (one, two)]
    planes = [level.even * level.usable for level in pictures]
    window = cv2.createHanningWindow(planes[0].shape[::-1], cv2.CV_32F)
    (x, y), response = cv2.phaseCorrelate(*planes, window)
    near = max(abs(x), abs(y)) <= LARGEST_SHIFT * max(planes[0].shape)
    zoom = 2**one.judged
    return (x * zoom, y * zoom) if near and response > 0.02 else (0.0, 0.0)


def _rescale(matrix: np.ndarray, zoom: float, corners: float = 0.5) -> np.ndarray:
    """The same motion of images ``zoom`` times as large, whose borders coincide, or with
    ``corners=0`` the centres of the first pixels."""
    shift = (zoom - 1) * corners
    grow = np.array([[zoom, 0, shift], [0, zoom, shift], [0, 0, 1]])
    return grow @ matrix @ np.linalg.inv(grow)
