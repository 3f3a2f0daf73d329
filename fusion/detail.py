"""What frames are compared by: detail in bands of a few octaves, with equalised contrast.

Blur changes the contrast of detail, differently at each frequency; where the contrast is equal
everywhere, frames of different blur still correlate. Wide blur leaves only the coarsest bands
alike. In the others one frame is then blurred like the other: place by place, by one of a few
disks. A disk displaces nothing, and turns the phases that blur has turned. The disks are few and
their radii exact, since correlation by chance grows with their number and bands beyond the first
zero of a blur correlate with no other.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

COARSEST = 48  # pixels, least short side of a level
BAND = (1.4, 2.8)  # pixels, standard deviations of the difference of Gaussians
AROUND = 21  # pixels: window of contrast equalisation and local correlation
FAINT = 0.01  # contrast below this, times the root of the brightness, is noise
LOST = 0.01  # weight of clipped pixels
TRUST = 8  # power of the correlation in the weight of a pixel
FINER = 1.03  # ratio of the radii of blurs that are told apart
RADII = 1.2 * FINER ** np.arange(0, 81, 3)  # pixels, tried first
MOST = 4  # blurs of two frames
WORTH = 0.05  # share that a blur has to add to the weight of all pixels


class Level(NamedTuple):
    """A level of a frame's pyramid; pixel centres have integer coordinates."""

    even: np.ndarray  # (h, w) float32, band-pass detail with equalised contrast
    usable: np.ndarray  # (h, w) float32, 1 where values are not clipped
    slope: np.ndarray  # (2, h, w) float32, d even / d(x, y)


class Blur(NamedTuple):
    """A disk that one of two frames is blurred with."""

    which: int  # 0 for the first frame, 1 for the second
    radius: float  # pixels


class Plane(NamedTuple):
    """A frame at the resolution of a level."""

    light: np.ndarray  # (h, w) float32, linear
    usable: np.ndarray  # (h, w) float32, 1 where values are not clipped


def pyramid(light: np.ndarray, usable: np.ndarray) -> Iterator[Plane]:
    """A frame at full, half, quarter … resolution."""
    yield Plane(light, usable)
    while min(light.shape) >= 2 * COARSEST:
        light, usable = cv2.pyrDown(light), cv2.pyrDown(usable)
        yield Plane(light, usable)


def make_level(plane: Plane) -> Level:
    """Band-pass an image and equalise its contrast; means are over the usable pixels, so that the
    border of a clipped area or of a round field is no edge."""
    light, usable = plane

    def blur(values: np.ndarray, sigma: float) -> np.ndarray:
        return cv2.GaussianBlur(values, (0, 0), sigma)

    fine, local = (blur(light * usable, sigma) / blur(usable, sigma) for sigma in BAND)
    detail = (fine - local) * usable
    around = (AROUND, AROUND)
    # Rounding can make a mean negative.
    contrast = np.sqrt(np.maximum(cv2.blur(np.square(detail), around), 0))
    faint = FAINT * np.sqrt(np.maximum(local, 0)) + FAINT / 20
    even = detail / (contrast + faint)
    usable = usable * blur(usable, BAND[1]) ** 4  # less beside clipped pixels
    border = max(1, min(4, min(usable.shape) // 16))  # values beyond it are unknown
    usable[:border] = usable[-border:] = usable[:, :border] = usable[:, -border:] = 0
    return Level(even, usable, _slope(even))


def warp_image(
    image: np.ndarray, matrix: np.ndarray, border: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    """An image (h, w) or (h, w, 3) of one frame, warped onto that of another; by default 0 beyond
    the frame."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = image.shape[1::-1]
    return cv2.warpPerspective(image, matrix, size, flags=flags, borderMode=border)


def warp_level(level: Level, matrix: np.ndarray) -> Level:
    even = warp_image(level.even, matrix)
    return Level(even, warp_image(level.usable, matrix), _slope(even))


def warp_plane(plane: Plane, matrix: np.ndarray) -> Plane:
    light = warp_image(plane.light, matrix, cv2.BORDER_REPLICATE)
    return Plane(light, np.maximum(warp_image(plane.usable, matrix), LOST))


def correlate(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local correlation of two images around each pixel, and the root of their power."""
    products = one * two, one * one, two * two
    product, first, second = (cv2.blur(x, (AROUND, AROUND)) for x in products)
    power = np.sqrt(np.maximum(first * second, 0))
    return product / (power + np.float32(1e-3)), power


def trust(near: np.ndarray) -> np.ndarray:
    """The weight of pixels by their correlation: a signal of correlation ρ has a share of 1 − ρ² of
    noise. The power discounts correlation by chance."""
    near = np.maximum(near, 0)
    return cv2.pow(near, TRUST) / (np.float32(1.01) - near * near)


def find_blurs(one: Plane, two: Plane) -> list[Blur]:
    """The blurs that make two frames the most alike, best first; each adds to those before."""
    own = make_level(one), make_level(two)

    def weigh(mine: Level, other: Level) -> np.ndarray:
        return trust(correlate(mine.even, other.even)[0])

    best, chosen = weigh(*own), []
    tried = [Blur(which, radius) for which in (0, 1) for radius in RADII.tolist()]
    weights = {blur: weigh(*_blur_one(one, two, own, blur)) for blur in tried}

    def gain(blur: Blur) -> float:
        return float(np.maximum(weights[blur] - best, 0).sum() / max(best.sum(), 1e-9))

    while len(chosen) < MOST:
        which, radius = most = max(tried, key=gain)
        beside = [Blur(which, radius * FINER**n) for n in (-1, 1)]
        weights |= {blur: weigh(*_blur_one(one, two, own, blur)) for blur in beside}
        found = max(most, *beside, key=gain)
        if gain(found) < WORTH:
            break
        best = np.maximum(best, weights[found])
        chosen.append(found)
    return chosen


def match(one: Plane, two: Plane, blurs: Sequence[Blur]) -> tuple[Level, Level, np.ndarray]:
    """The level of each frame, around each pixel blurred as they correlate best, and that
    correlation."""
    own = make_level(one), make_level(two)
    (one_best, two_best), near = own, correlate(own[0].even, own[1].even)[0]
    for blur in blurs:
        mine, other = _blur_one(one, two, own, blur)
        nearer = correlate(mine.even, other.even)[0]
        better = nearer > near
        one_best, two_best = (
            Level(*(np.where(better, new, old) for new, old in zip(news, olds, strict=True)))
            for news, olds in ((mine, one_best), (other, two_best))
        )
        near = np.maximum(near, nearer)
    return one_best, two_best, near


def _blur_one(one: Plane, two: Plane, own: tuple[Level, Level], blur: Blur) -> tuple[Level, Level]:
    """The levels of two planes, ``own`` as they are, after one is blurred."""
    plane, disk = (one, two)[blur.which], _disk(blur.radius)
    usable = cv2.filter2D(plane.usable, -1, disk)
    level = make_level(Plane(cv2.filter2D(plane.light * plane.usable, -1, disk) / usable, usable))
    return (own[0], level) if blur.which else (level, own[1])


def _slope(values: np.ndarray) -> np.ndarray:
    return np.stack([cv2.Sobel(values, cv2.CV_32F, *d, scale=1 / 8) for d in ((1, 0), (0, 1))])


def _disk(radius: float) -> np.ndarray:
    """A disk of sum 1; its edge is as soft as a pixel is wide."""
    far = np.arange(-int(radius + 0.5), int(radius + 0.5) + 1)
    disk = np.clip(radius + 0.5 - np.hypot(far, far[:, None]), 0, 1)
    return (disk / disk.sum()).astype(np.float32)
