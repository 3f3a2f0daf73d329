"""Outlines of shapes for procedural mattes, and the canvas that fills them.

An outline is a closed polygon (P, 2) of points (x, y) in pixels of the matte; pixel (0, 0) covers
[0, 1) × [0, 1).
"""

import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np

Size = tuple[int, int]  # (H, W) in pixels
Outlines = np.ndarray | Sequence[np.ndarray]  # (N, P, 2) or [(P, 2)]

SCALE = 4  # supersampling: α in steps of 1/16
FRACTION_BITS = 4  # of a canvas pixel, in the fixed-point coordinates that OpenCV draws with
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
FONTS = (  # OpenCV 5 draws all of them as regular or bold faces, upright or italic
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


class Canvas:
    """A matte of ``size`` (H, W) in the making, drawn larger by :data:`SCALE`; empty at first."""

    def __init__(self, size: Size):
        self.pixels = np.zeros((size[0] * SCALE, size[1] * SCALE), np.uint8)

    def fill(self, outlines: Outlines, value: int = 255, even_odd: bool = False) -> None:
        """Fill the union of polygons; with ``even_odd`` where an odd number of them overlap, which
        is faster for many."""
        points = _fixed_point(outlines)
        for group in [points] if even_odd else ((outline,) for outline in points):
            cv2.fillPoly(self.pixels, group, value, cv2.LINE_8, FRACTION_BITS)

    def matte(self) -> np.ndarray:
        """Coverage of each pixel, float32 (H, W) in [0, 1]."""
        small, (height, width) = self.pixels, self.pixels.shape
        for part in (2, SCALE):  # OpenCV vectorises halving: 8 times faster than one step by 4
            shape = (width // part, height // part)
            small = cv2.resize(small, shape, interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) / np.float32(255)


def filled(size: Size, *groups: Outlines) -> np.ndarray:
    """The matte (H, W) of the union of all polygons."""
    canvas = Canvas(size)
    for outlines in groups:
        canvas.fill(outlines)
    return canvas.matte()


def _fixed_point(outlines: Outlines) -> list[np.ndarray]:
    if not isinstance(outlines, np.ndarray):
        return [_fixed_point(outline[None])[0] for outline in outlines]
    return list(np.rint((outlines * SCALE - 0.5) * (1 << FRACTION_BITS)).astype(np.int32))


def smooth_noise(size: Size, rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise (H, W), float32 in [−1, 1], with ``cells`` cells along the longer side."""
    shape = [max(2, round(cells * side / max(size))) for side in size]
    coarse = rng.uniform(-1, 1, shape).astype(np.float32)
    return np.clip(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), -1, 1)


def rotation(angle: float) -> np.ndarray:
    """Matrix R for which (x, y) @ R is turned by ``angle`` rad."""
    return np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))


def polar(angle: np.ndarray | float, radius: np.ndarray | float = 1.0) -> np.ndarray:
    """Points (…, 2) at ``angle`` rad and ``radius`` from the origin."""
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)


def _place(size: Size, rng: np.random.Generator, outline: np.ndarray) -> np.ndarray:
    """Squeeze and turn an outline about the origin, and move it into the frame."""
    turn = rotation(rng.uniform(0, 2 * np.pi))
    centre = rng.uniform(-0.05, 1.05, 2) * size[::-1]
    return (outline * (1, rng.uniform(0.45, 1))) @ turn + centre


def blob(
    size: Size, rng: np.random.Generator, radius: tuple[float, float], roughness: float = 1.0
) -> np.ndarray:
    """Closed curve (96, 2), a Fourier series in polar form; radius in short sides."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    order = np.arange(2, 9)[:, None]
    amplitude = rng.normal(0, roughness * rng.uniform(0.15, 0.4), order.shape) / order**1.2
    wave = (amplitude * np.cos(order * turn + rng.uniform(0, 2 * np.pi, order.shape))).sum(0)
    r = rng.uniform(*radius) * min(size) * np.exp(wave)
    return _place(size, rng, polar(turn, r))


def polygon(size: Size, rng: np.random.Generator, radius: tuple[float, float]) -> np.ndarray:
    """Rectangle or star-shaped polygon of 3–8 corners (P, 2); radius in short sides."""
    if rng.random() < 0.5:
        turn, r = np.pi * np.array((0.25, 0.75, 1.25, 1.75)), np.ones(4)
    else:
        corners = int(rng.integers(3, 9))
        turn = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        r = rng.uniform(0.55, 1.1, corners)
    r = r * rng.uniform(*radius) * min(size)
    return _place(size, rng, polar(turn, r))


def half_plane(
    size: Size, rng: np.random.Generator, depth: float, upright: float = 0.5
) -> np.ndarray:
    """Rectangle (4, 2) over one side of a line through the frame; corners 0 and 1 on the line.
    ``depth`` −1 just misses the frame, 0 halves it, 1 covers it; with probability ``upright`` the
    line is within a few degrees of one of the frame's sides."""
    if rng.random() < upright:
        angle = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.1)
    else:
        angle = rng.uniform(0, 2 * np.pi)
    normal = polar(angle)
    along = np.array((-normal[1], normal[0]))
    centre = np.array(size[::-1]) / 2
    far = 2.0 * np.hypot(*size)
    middle = centre + depth * (np.abs(normal) @ centre) * normal
    line = np.stack((middle + far * along, middle - far * along))
    return np.concatenate((line, line[::-1] - far * normal))


def curves(
    root: np.ndarray, heading: np.ndarray, length: np.ndarray, bend: np.ndarray, points: int
) -> np.ndarray:
    """Curves (N, points, 2) from ``root`` (N, 2) of ``length`` (N,) px whose ``heading`` (N,) turns
    by ``bend`` (N,) rad, more at the tip."""
    t = np.linspace(0, 1, points)
    theta = heading[:, None] + bend[:, None] * t**1.5
    steps = polar(theta, (length / (points - 1))[:, None])
    steps[:, 0] = root
    return np.cumsum(steps, axis=1)


def ribbons(lines: np.ndarray, widths: np.ndarray | float) -> np.ndarray:
    """Polygons (N, 2P, 2) around centre lines (N, P, 2) with widths that broadcast to (N, P)."""
    normal = np.gradient(lines, axis=1)[..., ::-1] * (-1, 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    # cv2 also paints the outline, half a canvas pixel on either side.
    half = np.maximum(np.asarray(widths) - 1 / SCALE, 0) / 2
    offset = normal * np.broadcast_to(half, lines.shape[:2])[..., None]
    return np.concatenate((lines + offset, (lines - offset)[:, ::-1]), axis=1)


def perspective(size: Size, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Tilt a plane given about the origin, and move the origin to the centre of the frame."""
    tilt = rng.uniform(-0.3, 0.3, 2) / np.hypot(*size)
    centre = np.array(size[::-1]) / 2

    def view(points: np.ndarray) -> np.ndarray:
        return points / np.maximum(1 + points @ tilt, 0.5)[..., None] + centre

    return view


def bend(size: Size, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Slight smooth warp of points in the frame."""
    diagonal = np.hypot(*size)
    frequency = rng.uniform(-1, 1, (2, 2)) * 2 * np.pi / diagonal
    phase = rng.uniform(0, 2 * np.pi, 2)
    amplitude = rng.uniform(0, 0.03) * diagonal

    def warp(points: np.ndarray) -> np.ndarray:
        return points + amplitude * np.sin(points @ frequency + phase)

    return warp


@functools.cache
def glyph(letter: str, font: int, growth: int) -> list[np.ndarray]:
    """Outlines [(P, 2)] of a letter in font heights, its left edge and base line at 0; ``growth``
    makes the strokes bolder (or finer, if negative) by 1/80 of the height a step."""
    height = 160
    stroke = 24  # OpenCV 4 draws it as given, OpenCV 5 as a weight
    scale = cv2.getFontScaleFromHeight(font, height, stroke)
    image = np.zeros((3 * height, 4 * height), np.uint8)
    cv2.putText(image, letter, (height, 2 * height), font, scale, 255, stroke, cv2.LINE_AA)
    mask = (image > 127).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(growth) + 1,) * 2)
    mask = (cv2.dilate if growth > 0 else cv2.erode)(mask, kernel)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outlines = [cv2.approxPolyDP(contour, 0.7, True)[:, 0] for contour in contours]
    left = min(outline[:, 0].min() for outline in outlines)
    return [(outline - (left, 2 * height)) / height for outline in outlines]
