"""Procedural foreground mattes whose boundaries are hard for multi-focus fusion.

Segmented photographs mostly give one compact object; focus fails on thin and broken structure.
Each kind stands for something that real scenes put in front of a background:

========  =====================================  ===============================================
kind      in the scene                           why it is difficult
========  =====================================  ===============================================
blob      people, animals, cups, stones          curved boundary: the defocused foreground
                                                 spreads over a sharp background
polygon   buildings, books, screens, table tops  long straight edges and corners, often cut by
                                                 the frame, with foreground at the frame edge
grille    fences, wire mesh, railings            bars thinner than the blur: the defocused bar
                                                 is translucent everywhere, no opaque core
strokes   hair, grass, whiskers                  tapering below one pixel: the true matte is
                                                 fractional even in perfect focus
foliage   leaves on twigs                        small background islands seen through gaps
                                                 that the blur of the leaves fills
holes     perforated metal, wicker, lace         the complement of a grille: background seen
                                                 only through openings of a few pixels
text      signs, labels, lettering on glass      thin strokes, corners and counters; errors of
                                                 one pixel are seen at once
soft      fur, smoke, glass, fabric              wide transition and partial transparency: both
                                                 layers contribute even without any blur
layered   two of the above, one over the other   boundaries of different character close together
========  =====================================  ===============================================

Object sizes are relative to the frame; line widths are in pixels whatever its size. Shapes are
filled on a canvas of ``SCALE`` times the size and area-averaged, so α is pixel coverage to 1/16.
Points are (x, y) in pixels, pixel (0, 0) covering [0, 1) × [0, 1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np

Size = tuple[int, int]
MatteFunction = Callable[[Size, np.random.Generator], np.ndarray]

SCALE = 4  # supersampling: α in steps of 1/16
COVERAGE = (0.03, 0.90)  # mean α that procedural_matte guarantees
GRILLE_WIDTH = (1.0, 8.0)  # px
HAIR_WIDTH = (0.4, 2.5)  # px at the root, tapering to 1/SCALE
GRASS_WIDTH = (0.8, 4.0)  # px at the root, tapering to 1/SCALE
SOFT_WIDTH = (2.0, 20.0)  # px from α = 0 to full opacity

_FIXED_POINT_BITS = 4
_ATTEMPTS = 16
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_FONTS = (  # OpenCV 5 draws all of them as regular or bold faces, upright or italic
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


def procedural_matte(
    size: Size, rng: np.random.Generator, kinds: Sequence[str] | None = None
) -> np.ndarray:
    """Draw a matte of a kind chosen uniformly, neither empty nor full.

    Args:
        size: (H, W) in pixels.
        rng: the only source of randomness; equal states give equal mattes.
        kinds: names to choose from, keys of :data:`KINDS`; all of them by default.

    Returns:
        float32 (H, W) in [0, 1] whose mean lies within :data:`COVERAGE`.

    Raises:
        ValueError: if ``kinds`` is empty or names an unknown kind.
    """
    names = list(KINDS) if kinds is None else list(kinds)
    unknown = [name for name in names if name not in KINDS]
    if unknown or not names:
        what = f"unknown matte kind {unknown[0]!r}" if unknown else "no matte kind given"
        raise ValueError(f"{what}; choose from {', '.join(KINDS)}")
    draw = KINDS[names[rng.integers(len(names))]]
    for _ in range(_ATTEMPTS):
        matte = draw(size, rng)
        if COVERAGE[0] <= matte.mean() <= COVERAGE[1]:
            return matte
    canvas = _canvas(size)
    _fill(canvas, [_half_plane(size, rng, depth=rng.uniform(-0.2, 0.2))])
    return _area_average(canvas)


# ------------------------------------------------------------------------------------- kinds


def blob(size: Size, rng: np.random.Generator) -> np.ndarray:
    """One to four smooth closed shapes."""
    canvas = _canvas(size)
    count = rng.choice(4, p=(0.5, 0.25, 0.15, 0.1)) + 1
    _fill(canvas, [_blob_outline(size, rng, (0.12, 0.65 / count**0.5)) for _ in range(count)])
    return _area_average(canvas)


def polygon(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Half planes, wedges and one to four straight-edged objects, any rotation."""
    canvas = _canvas(size)
    style = rng.choice(("half plane", "wedge", "objects"), p=(0.2, 0.15, 0.65))
    if style == "half plane":
        shapes = [_half_plane(size, rng, depth=rng.uniform(-0.7, 0.7))]
    elif style == "wedge":
        shapes = [_half_plane(size, rng, depth=rng.uniform(-0.8, -0.2)) for _ in range(2)]
    else:
        count = rng.integers(1, 5)
        shapes = [_polygon_outline(size, rng, (0.12, 0.75 / count**0.5)) for _ in range(count)]
    _fill(canvas, shapes)
    return _area_average(canvas)


def grille(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Bars, square or diamond mesh and fences with rails, in perspective and slightly bent."""
    short, diagonal = min(size), float(np.hypot(*size))
    width = _log_uniform(rng, GRILLE_WIDTH[0], min(GRILLE_WIDTH[1], max(1.5, short / 8)))
    closest = 3 * width + 2
    pitch = _log_uniform(rng, max(closest, 0.04 * short), max(closest + 1, 0.25 * short))
    style = rng.choice(("bars", "square", "diamond", "fence"))
    if rng.random() < 0.7:
        angle = rng.normal(0, 0.25) + rng.choice((0, np.pi / 2))
    else:
        angle = rng.uniform(0, np.pi)
    families = [(angle, pitch, width)]
    if style == "square":
        families.append((angle + np.pi / 2, pitch * rng.choice((1, 1, 2)), width))
    elif style == "diamond":
        opening = rng.uniform(0.5, 1.0)
        families = [(angle + opening, pitch, width), (angle - opening, pitch, width)]
    elif style == "fence":
        rail = np.clip(1.5 * width, *GRILLE_WIDTH)
        families.append((angle + np.pi / 2, rng.uniform(0.3, 0.6) * diagonal, rail))
    view, bend = _perspective(size, rng), _bend(size, rng)
    # A fence may end inside the frame: one bound shared by all bars of its first family.
    end = rng.uniform(-0.2, 0.3) if style in ("bars", "fence") and rng.random() < 0.4 else 1.0
    canvas = _canvas(size)
    for index, (direction, spacing, thickness) in enumerate(families):
        count = int(np.ceil(diagonal / spacing))
        offsets = (np.arange(-count, count + 1) + rng.uniform(-0.5, 0.5)) * spacing
        along = np.linspace(-1, end if index == 0 else 1, 24) * diagonal
        u = np.array((np.cos(direction), np.sin(direction)))
        v = np.array((-u[1], u[0]))
        lines = along[None, :, None] * u + offsets[:, None, None] * v
        _fill_even_odd(canvas, _fixed_point(_ribbons(bend(view(lines)), thickness)))
    return _area_average(canvas)


def strokes(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Many tapering curved strokes, from a rounded body (hair) or from the ground (grass)."""
    short = min(size)
    canvas = _canvas(size)
    count = int(rng.integers(50, 200))
    if rng.random() < 0.5:
        body = _blob_outline(size, rng, (0.15, 0.45), roughness=0.5)
        middle = body.mean(axis=0)
        place = rng.uniform(0, 1) + rng.uniform(0, rng.uniform(0.3, 1), count)
        root = body[(place * len(body)).astype(int) % len(body)]
        outward = root - middle
        root = root - 0.08 * outward
        heading = np.arctan2(outward[:, 1], outward[:, 0])
        spread, width = 0.25, HAIR_WIDTH
    else:
        depth = rng.uniform(-1.0, -0.5)
        body = _half_plane(size, rng, depth, upright=0.8)
        edge = body[0] - body[1]
        place = rng.uniform(0, 1, count)
        root = body[1] + (0.5 + (place - 0.5) * rng.uniform(0.08, 0.25))[:, None] * edge
        heading = np.full(count, np.arctan2(*(body[1] - body[2])[::-1]))
        spread, width = 0.35, GRASS_WIDTH
    # Neighbours bend alike, as in locks and tufts: curl is a smooth function of place.
    waves = rng.integers(1, 9)
    lock = np.sin(2 * np.pi * waves * place + rng.uniform(0, 2 * np.pi))
    bend = rng.normal(0, 0.8) + rng.uniform(0, 0.8) * lock + rng.normal(0, 0.35, count)
    heading = heading + 0.4 * spread * lock + rng.normal(0, spread, count)
    length = rng.uniform(0.2, 0.6) * short * rng.uniform(0.35, 1.0, count)
    lines = _curves(root, heading, length, bend, points=12)
    thickest = min(_log_uniform(rng, *width), max(width[0], short / 24))
    widths = thickest * rng.uniform(0.5, 1.0, (count, 1)) * (1 - np.linspace(0, 1, 12)) ** 0.7
    _fill(canvas, [body])
    _fill(canvas, _ribbons(lines, widths))
    return _area_average(canvas)


def foliage(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Pointed leaves in two rows along twigs that grow into the frame from outside."""
    short = min(size)
    branches = int(rng.integers(2, 5))
    edge = _half_plane(size, rng, -1.0)[:2]
    root = edge[0] + rng.uniform(0.42, 0.58, (branches, 1)) * (edge[1] - edge[0])
    inward = np.array(size[::-1]) * rng.uniform(0.3, 0.7, (branches, 2)) - root
    heading = np.arctan2(inward[:, 1], inward[:, 0])
    length = rng.uniform(0.8, 1.4, branches) * short
    stems = _curves(root, heading, length, rng.normal(0, 0.6, branches), points=16)

    # Twigs leave the stems alternately left and right, shorter towards the tip.
    at = np.tile(np.arange(3, 15, 2), branches)
    owner = np.repeat(np.arange(branches), 6)
    side = np.where(np.arange(len(at)) % 2, 1.0, -1.0)
    direction = _headings(stems)[owner, at] + side * rng.uniform(0.5, 1.1, len(at))
    reach = 0.45 * length[owner] * (1.1 - at / 16) * rng.uniform(0.6, 1.2, len(at))
    twigs = _curves(stems[owner, at], direction, reach, rng.normal(0, 0.5, len(at)), points=10)

    leaves_a_twig = int(rng.integers(4, 9))
    at = np.tile(np.linspace(2, 9, leaves_a_twig).astype(int), len(twigs))
    owner = np.repeat(np.arange(len(twigs)), leaves_a_twig)
    side = np.where(np.arange(len(at)) % 2, 1.0, -1.0)
    direction = _headings(twigs)[owner, at] + side * rng.uniform(0.2, 1.2, len(at))
    leaf = max(_log_uniform(rng, 0.07, 0.25) * short, 4.0) * rng.uniform(0.6, 1.2, len(at))
    ribs = _curves(twigs[owner, at], direction, leaf, rng.normal(0, 0.5, len(at)), points=10)
    along = np.linspace(0, 1, 10)
    profile = np.sin(np.pi * along ** rng.uniform(0.6, 1.0))
    # Each leaf is turned about its midrib, which narrows it in projection.
    widths = (leaf * rng.uniform(0.25, 0.65) * rng.uniform(0.3, 1.0, len(at)))[:, None] * profile

    canvas = _canvas(size)
    thickness = _log_uniform(rng, 1.0, max(2.0, 0.025 * short))
    _fill(canvas, _ribbons(stems, thickness * np.linspace(1.0, 0.4, 16)))
    _fill(canvas, _ribbons(twigs, thickness * np.linspace(0.5, 0.2, 10)))
    _fill(canvas, _ribbons(ribs, widths))
    return _area_average(canvas)


def holes(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A plate or blob with openings in a regular, staggered or irregular arrangement."""
    short, diagonal = min(size), float(np.hypot(*size))
    canvas = _canvas(size)
    style = rng.choice(("plate", "blob", "frame"))
    if style == "frame":
        canvas[:] = 255
    else:
        outline = _polygon_outline if style == "plate" else _blob_outline
        _fill(canvas, [outline(size, rng, (0.35, 0.8))])
    pitch = max(_log_uniform(rng, 0.04, 0.2) * short, 5.0)
    count = int(np.ceil(0.7 * diagonal / pitch))
    row, column = np.mgrid[-count : count + 1, -count : count + 1].reshape(2, -1)
    centres = np.stack((column + rng.choice((0, 0.5)) * (row % 2), row), axis=-1)
    rotation = _rotation(rng.uniform(0, np.pi))
    view, bend = _perspective(size, rng), _bend(size, rng)
    placed = bend(view(centres * pitch @ rotation))
    centres = centres[((placed > -pitch) & (placed < np.add(size[::-1], pitch))).all(axis=1)]
    radius = rng.uniform(0.22, 0.44)
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    shape = np.stack((np.cos(turn), np.sin(turn)), axis=-1)
    shape = np.sign(shape) * np.abs(shape) ** rng.choice((1.0, 1.0, 0.3))  # round or squarish
    shape = shape * (radius, radius * rng.uniform(0.4, 1.0))
    outlines = np.broadcast_to(shape, (len(centres), 16, 2))
    if rng.random() < 0.4:  # irregular: own size, place and outline for each opening
        room = 0.5 - radius
        wobble = sum(
            rng.uniform(0, 0.2 / k, (len(centres), 1))
            * np.cos(k * turn + rng.uniform(0, 2 * np.pi, (len(centres), 1)))
            for k in (2, 3)
        )
        outlines = outlines * (rng.uniform(0.4, 1.0, (len(centres), 1)) * (1 + wobble))[..., None]
        centres = centres + rng.uniform(-room, room, centres.shape)
    openings = bend(view((centres[:, None] + outlines) * pitch @ rotation))
    _fill_even_odd(canvas, _fixed_point(openings), value=0)
    return _area_average(canvas)


def text(size: Size, rng: np.random.Generator) -> np.ndarray:
    """One to five lines of random letters and digits, rotated and in perspective."""
    short = min(size)
    lines = int(rng.integers(1, 6))
    pitch = max(rng.uniform(0.5, 1.2) * short / lines, 8.0)  # of the lines, px
    height = 0.8 * pitch
    font = int(rng.choice(_FONTS))
    growth = int(rng.choice((-6, -3, 0, 4)))
    pieces = []
    for line in range(lines):
        base = (line - (lines - 1) / 2) * pitch + 0.4 * height
        x, row = 0.0, []
        for letter in rng.choice(list(_LETTERS), rng.integers(2, 5 + 3 * lines)):
            outlines = [outline * height + (x, base) for outline in _glyph(letter, font, growth)]
            row += outlines
            x = max(outline[:, 0].max() for outline in outlines) + 0.12 * height
        middle = x * rng.uniform(0.4, 0.6)
        pieces += [outline - (middle, 0) for outline in row]
    angle = rng.normal(0, 0.3) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    rotation = _rotation(angle)
    shift = rng.uniform(-0.15, 0.15, 2) * short
    points = _perspective(size, rng)(np.concatenate(pieces) @ rotation + shift)
    ends = np.cumsum([len(piece) for piece in pieces])[:-1]
    canvas = _canvas(size)
    _fill_even_odd(canvas, np.split(_fixed_point(points), ends))
    return _area_average(canvas)


def soft(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A shape whose α rises over 2–20 px, with partial, smoothly varying opacity (fur, glass)."""
    source = KINDS[rng.choice(("blob", "polygon", "holes", "foliage"), p=(0.6, 0.2, 0.1, 0.1))]
    inside = (source(size, rng) > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    ramp = rng.uniform(SOFT_WIDTH[0], min(SOFT_WIDTH[1], max(4.0, min(size) / 8)))
    style = rng.choice(("plain", "fur", "veil", "glass"))
    if style == "fur":  # the boundary itself is ragged at the scale of tufts
        tufts = _noise(size, rng, cells=max(size) // 5 + 1)
        depth = depth - np.float32(0.5 * ramp) * (1 + tufts)
    t = np.clip(depth / np.float32(ramp), 0, 1)
    matte = t * t * (3 - 2 * t)
    if style == "veil":
        matte *= 0.65 + 0.35 * _noise(size, rng, cells=int(rng.integers(2, 8)))
    elif style == "glass":  # clear in the middle, opaque towards the rim
        rim = np.exp(-depth / np.float32(rng.uniform(1, 4) * ramp))
        clear = np.float32(rng.uniform(0.15, 0.6))
        matte *= clear + (1 - clear) * rim
    return matte


def layered(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Two mattes of different kinds, one over the other: 1 − (1 − α₁)(1 − α₂)."""
    first, second = rng.choice([n for n in KINDS if n != "layered"], 2, replace=False)
    return 1 - (1 - KINDS[first](size, rng)) * (1 - KINDS[second](size, rng))


# name → function(size (H, W), rng) → float32 (H, W) in [0, 1], which may be empty or full.
KINDS: dict[str, MatteFunction] = {
    function.__name__: function
    for function in (blob, polygon, grille, strokes, foliage, holes, text, soft, layered)
}


# ---------------------------------------------------------------------------------- geometry


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _rotation(angle: float) -> np.ndarray:
    """Matrix that turns row vectors (x, y) by ``angle`` rad when it stands on their right."""
    return np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))


def _place(size: Size, rng: np.random.Generator, outline: np.ndarray) -> np.ndarray:
    """Squeeze, turn and move an outline about the origin to a place in the frame."""
    height, width = size
    rotation = _rotation(rng.uniform(0, 2 * np.pi))
    centre = rng.uniform(-0.05, 1.05, 2) * (width, height)
    return (outline * (1, rng.uniform(0.45, 1))) @ rotation + centre


def _blob_outline(
    size: Size, rng: np.random.Generator, radius: tuple[float, float], roughness: float = 1.0
) -> np.ndarray:
    """Closed curve (96, 2), a Fourier series in polar form; radius in short sides."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    order = np.arange(2, 9)[:, None]
    amplitude = rng.normal(0, roughness * rng.uniform(0.15, 0.4), order.shape) / order**1.2
    wave = (amplitude * np.cos(order * turn + rng.uniform(0, 2 * np.pi, order.shape))).sum(0)
    r = rng.uniform(*radius) * min(size) * np.exp(wave)
    return _place(size, rng, np.stack((r * np.cos(turn), r * np.sin(turn)), axis=-1))


def _polygon_outline(
    size: Size, rng: np.random.Generator, radius: tuple[float, float]
) -> np.ndarray:
    """Rectangle or star-shaped polygon of 3–8 corners (P, 2); radius in short sides."""
    if rng.random() < 0.5:
        turn, r = np.pi * np.array((0.25, 0.75, 1.25, 1.75)), np.ones(4)
    else:
        corners = int(rng.integers(3, 9))
        turn = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        r = rng.uniform(0.55, 1.1, corners)
    r = r * rng.uniform(*radius) * min(size)
    return _place(size, rng, np.stack((r * np.cos(turn), r * np.sin(turn)), axis=-1))


def _half_plane(
    size: Size, rng: np.random.Generator, depth: float, upright: float = 0.5
) -> np.ndarray:
    """Rectangle (4, 2) over one side of a line through the frame; corners 0 and 1 on the line.

    ``depth`` −1 just misses the frame, 0 halves it, 1 covers it; with probability ``upright``
    the line is within a few degrees of one of the frame's sides.
    """
    height, width = size
    if rng.random() < upright:
        angle = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.1)
    else:
        angle = rng.uniform(0, 2 * np.pi)
    normal = np.array((np.cos(angle), np.sin(angle)))
    along = np.array((-normal[1], normal[0]))
    reach = np.abs(normal) @ (width / 2, height / 2)
    far = 2.0 * np.hypot(width, height)
    middle = np.array((width / 2, height / 2)) + depth * reach * normal
    back = -far * normal
    return np.stack(
        (
            middle + far * along,
            middle - far * along,
            middle - far * along + back,
            middle + far * along + back,
        )
    )


def _curves(
    root: np.ndarray, heading: np.ndarray, length: np.ndarray, bend: np.ndarray, points: int
) -> np.ndarray:
    """Curves (N, points, 2) from ``root`` whose heading turns by ``bend`` radians, more at the tip.

    root (N, 2) px, heading (N,) rad, length (N,) px, bend (N,) rad.
    """
    t = np.linspace(0, 1, points)
    theta = heading[:, None] + bend[:, None] * t**1.5
    steps = (
        np.stack((np.cos(theta), np.sin(theta)), axis=-1) * (length / (points - 1))[:, None, None]
    )
    steps[:, 0] = root
    return np.cumsum(steps, axis=1)


def _headings(lines: np.ndarray) -> np.ndarray:
    tangent = np.gradient(lines, axis=1)
    return np.arctan2(tangent[..., 1], tangent[..., 0])


def _ribbons(lines: np.ndarray, widths: np.ndarray | float) -> np.ndarray:
    """Polygons (N, 2P, 2) around centre lines (N, P, 2) with widths that broadcast to (N, P)."""
    tangent = np.gradient(lines, axis=1)
    normal = np.stack((-tangent[..., 1], tangent[..., 0]), axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    # cv2 also paints the outline, half a canvas pixel on either side.
    half = np.maximum(np.asarray(widths) - 1 / SCALE, 0) / 2
    offset = normal * np.broadcast_to(half, lines.shape[:2])[..., None]
    return np.concatenate((lines + offset, (lines - offset)[:, ::-1]), axis=1)


def _perspective(size: Size, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Tilt a plane given about the origin, and move the origin to the centre of the frame."""
    tilt = rng.uniform(-0.3, 0.3, 2) / np.hypot(*size)
    centre = np.array(size[::-1]) / 2

    def view(points: np.ndarray) -> np.ndarray:
        return points / np.maximum(1 + points @ tilt, 0.5)[..., None] + centre

    return view


def _bend(size: Size, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Slight smooth warp of points in the frame."""
    diagonal = np.hypot(*size)
    frequency = rng.uniform(-1, 1, (2, 2)) * 2 * np.pi / diagonal
    phase = rng.uniform(0, 2 * np.pi, 2)
    amplitude = rng.uniform(0, 0.03) * diagonal

    def warp(points: np.ndarray) -> np.ndarray:
        return points + amplitude * np.sin(points @ frequency + phase)

    return warp


@functools.cache
def _glyph(letter: str, font: int, growth: int) -> list[np.ndarray]:
    """Outlines [(P, 2)] of a letter in font heights, its left edge and base line at 0.

    ``growth`` makes the strokes bolder (or finer, if negative) by 1/80 of the height a step.
    """
    height = 160
    stroke = 24  # OpenCV 4 draws it as given, OpenCV 5 as a weight
    scale = cv2.getFontScaleFromHeight(font, height, stroke)
    image = np.zeros((3 * height, 4 * height), np.uint8)
    cv2.putText(image, letter, (height, 2 * height), font, scale, 255, stroke, cv2.LINE_AA)
    mask = (image > 127).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(growth) + 1,) * 2)
    mask = cv2.dilate(mask, kernel) if growth > 0 else cv2.erode(mask, kernel)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outlines = [cv2.approxPolyDP(contour, 0.7, True)[:, 0] for contour in contours]
    left = min(outline[:, 0].min() for outline in outlines)
    return [(outline - (left, 2 * height)) / height for outline in outlines]


# ------------------------------------------------------------------------------------ raster


def _canvas(size: Size) -> np.ndarray:
    return np.zeros((size[0] * SCALE, size[1] * SCALE), np.uint8)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.rint((points * SCALE - 0.5) * (1 << _FIXED_POINT_BITS)).astype(np.int32)


def _fill(canvas: np.ndarray, polygons: np.ndarray | Sequence[np.ndarray]) -> None:
    """Fill the union of polygons, (N, P, 2) or [(P, 2)] in pixels."""
    outlines = (
        _fixed_point(polygons) if isinstance(polygons, np.ndarray) else map(_fixed_point, polygons)
    )
    for outline in outlines:
        cv2.fillPoly(canvas, (outline,), 255, cv2.LINE_8, _FIXED_POINT_BITS)


def _fill_even_odd(canvas: np.ndarray, outlines: Sequence[np.ndarray], value: int = 255) -> None:
    """Fill where an odd number of fixed-point outlines overlap; one call, fast for many."""
    cv2.fillPoly(canvas, list(outlines), value, cv2.LINE_8, _FIXED_POINT_BITS)


def _area_average(canvas: np.ndarray) -> np.ndarray:
    height, width = canvas.shape
    # Halving twice is what OpenCV vectorises: 8 times faster than one step by 4.
    half = cv2.resize(canvas, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    small = cv2.resize(half, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)


def _noise(size: Size, rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise (H, W), float32 in [−1, 1], with ``cells`` cells along the longer side."""
    height, width = size
    shape = [max(2, round(cells * side / max(size))) for side in (height, width)]
    coarse = rng.uniform(-1, 1, shape).astype(np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), -1, 1)
