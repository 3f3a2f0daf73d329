"""Procedural foreground mattes whose boundaries are hard for multi-focus fusion.

Segmented photographs mostly give one compact object; focus fails on thin and broken structure.
Each kind stands for something that real scenes put in front of a background:

========  ========================================================================================
kind      in the scene, and why it is difficult
========  ========================================================================================
blob      people, animals, stones: the defocused foreground spreads over a sharp background
polygon   buildings, books, screens: long straight edges and corners, often cut by the frame
grille    fences, wire mesh: bars thinner than the blur are translucent, without an opaque core
strokes   hair, grass: tapering below a pixel, the true matte is fractional even in focus
foliage   leaves on twigs: small islands of background, which the blur of the leaves fills
holes     perforated metal, wicker, lace: background only in openings of a few pixels
text      signs, lettering on glass: thin strokes and counters, where one wrong pixel is seen
soft      fur, smoke, glass: a wide transition, both layers contribute even without any blur
layered   two of the above, one over the other: different boundaries close together
wires     cables, twine, stalks: alone in the frame, and not seen at all out of focus
========  ========================================================================================

Object sizes are relative to the frame; line widths are in pixels whatever its size. The outlines
come from :mod:`defocus.outlines`; α is pixel coverage to 1/16.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from defocus import outlines
from defocus.outlines import Canvas, Size, filled, smooth_noise

COVERAGE = (0.03, 0.90)  # mean α that procedural_matte guarantees
SPARSE = 0.003  # the least of wires
GRILLE_WIDTH = (1.0, 8.0)  # px
HAIR_WIDTH = (0.4, 2.5)  # px at the root, tapering to a quarter
GRASS_WIDTH = (0.8, 4.0)  # px at the root, tapering to a quarter
WIRE_WIDTH = (0.5, 5.0)  # px
SOFT_WIDTH = (2.0, 20.0)  # px from α = 0 to full opacity
ATTEMPTS = 16  # at a matte of that coverage


def procedural_matte(
    size: Size, rng: np.random.Generator, kinds: Sequence[str] | None = None
) -> np.ndarray:
    """Draw a matte of a kind chosen uniformly: float32 (H, W) in [0, 1] of a mean in COVERAGE, or,
    of wires, from SPARSE on.

    ``kinds`` are keys of :data:`KINDS`, by default :func:`usual_kinds`; raises ValueError if empty
    or unknown.
    """
    names = usual_kinds() if kinds is None else list(kinds)
    if not names or not set(names) <= set(KINDS):
        raise ValueError(f"matte kinds {names}: choose one or more of {', '.join(KINDS)}")
    kind = names[rng.integers(len(names))]
    least = SPARSE if kind == "wires" else COVERAGE[0]
    for _ in range(ATTEMPTS):
        matte = KINDS[kind](size, rng)
        if least <= matte.mean() <= COVERAGE[1]:
            return matte
    return filled(size, [outlines.half_plane(size, rng, depth=rng.uniform(-0.2, 0.2))])


def usual_kinds() -> list[str]:
    """All but wires, which cover too little of a frame to be a pair's only foreground."""
    return [kind for kind in KINDS if kind != "wires"]


def blob(size: Size, rng: np.random.Generator) -> np.ndarray:
    """One to four smooth closed shapes."""
    count = rng.choice(4, p=(0.5, 0.25, 0.15, 0.1)) + 1
    return filled(size, [outlines.blob(size, rng, (0.12, 0.65 / count**0.5)) for _ in range(count)])


def polygon(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Half planes, wedges and one to four straight-edged objects, any rotation."""
    style = rng.choice(("half plane", "wedge", "objects"), p=(0.2, 0.15, 0.65))
    if style == "objects":
        count = rng.integers(1, 5)
        shapes = [outlines.polygon(size, rng, (0.12, 0.75 / count**0.5)) for _ in range(count)]
    else:
        depths = [(-0.7, 0.7)] if style == "half plane" else [(-0.8, -0.2)] * 2
        shapes = [outlines.half_plane(size, rng, depth=rng.uniform(*depth)) for depth in depths]
    return filled(size, shapes)


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
    view, bend = outlines.perspective(size, rng), outlines.bend(size, rng)
    # A fence may end inside the frame: one bound shared by all bars of its first family.
    end = rng.uniform(-0.2, 0.3) if style in ("bars", "fence") and rng.random() < 0.4 else 1.0
    canvas = Canvas(size)
    for index, (direction, spacing, thickness) in enumerate(families):
        count = int(np.ceil(diagonal / spacing))
        offsets = (np.arange(-count, count + 1) + rng.uniform(-0.5, 0.5)) * spacing
        along = np.linspace(-1, end if index == 0 else 1, 24) * diagonal
        u = outlines.polar(direction)
        v = np.array((-u[1], u[0]))
        lines = along[None, :, None] * u + offsets[:, None, None] * v
        canvas.fill(outlines.ribbons(bend(view(lines)), thickness), even_odd=True)
    return canvas.matte()


def strokes(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Many tapering curved strokes, from a rounded body (hair) or from the ground (grass)."""
    short = min(size)
    count = int(rng.integers(50, 200))
    if rng.random() < 0.5:
        body = outlines.blob(size, rng, (0.15, 0.45), roughness=0.5)
        place = rng.uniform(0, 1) + rng.uniform(0, rng.uniform(0.3, 1), count)
        root = body[(place * len(body)).astype(int) % len(body)]
        outward = root - body.mean(axis=0)
        root = root - 0.08 * outward
        heading = np.arctan2(outward[:, 1], outward[:, 0])
        spread, width = 0.25, HAIR_WIDTH
    else:
        body = outlines.half_plane(size, rng, rng.uniform(-1.0, -0.5), upright=0.8)
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
    lines = outlines.curves(root, heading, length, bend, points=12)
    thickest = min(_log_uniform(rng, *width), max(width[0], short / 24))
    widths = thickest * rng.uniform(0.5, 1.0, (count, 1)) * (1 - np.linspace(0, 1, 12)) ** 0.7
    return filled(size, [body], outlines.ribbons(lines, widths))


def foliage(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Pointed leaves in two rows along twigs that grow into the frame from outside."""
    short = min(size)
    branches = int(rng.integers(2, 5))
    edge = outlines.half_plane(size, rng, -1.0)[:2]
    root = edge[0] + rng.uniform(0.42, 0.58, (branches, 1)) * (edge[1] - edge[0])
    inward = np.array(size[::-1]) * rng.uniform(0.3, 0.7, (branches, 2)) - root
    heading = np.arctan2(inward[:, 1], inward[:, 0])
    length = rng.uniform(0.8, 1.4, branches) * short
    stems = outlines.curves(root, heading, length, rng.normal(0, 0.6, branches), points=16)

    parent, at, root, heading = _shoots(stems, np.arange(3, 15, 2), (0.5, 1.1), rng)
    reach = 0.45 * length[parent] * (1.1 - at / 16) * rng.uniform(0.6, 1.2, len(at))
    twigs = outlines.curves(root, heading, reach, rng.normal(0, 0.5, len(at)), points=10)

    at = np.linspace(2, 9, int(rng.integers(4, 9))).astype(int)
    _, at, root, heading = _shoots(twigs, at, (0.2, 1.2), rng)
    leaf = max(_log_uniform(rng, 0.07, 0.25) * short, 4.0) * rng.uniform(0.6, 1.2, len(at))
    ribs = outlines.curves(root, heading, leaf, rng.normal(0, 0.5, len(at)), points=10)
    profile = np.sin(np.pi * np.linspace(0, 1, 10) ** rng.uniform(0.6, 1.0))
    # Each leaf is turned about its midrib, which narrows it in projection.
    widths = (leaf * rng.uniform(0.25, 0.65) * rng.uniform(0.3, 1.0, len(at)))[:, None] * profile

    thickness = _log_uniform(rng, 1.0, max(2.0, 0.025 * short))
    return filled(
        size,
        outlines.ribbons(stems, thickness * np.linspace(1.0, 0.4, 16)),
        outlines.ribbons(twigs, thickness * np.linspace(0.5, 0.2, 10)),
        outlines.ribbons(ribs, widths),
    )


def _shoots(
    lines: np.ndarray, points: np.ndarray, angles: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Line, point on it, root (x, y) and heading (rad) of the shoots of lines (N, P, 2); they leave
    each line at the given points, alternately to the left and right."""
    at, parent = np.tile(points, len(lines)), np.repeat(np.arange(len(lines)), len(points))
    side = np.where(np.arange(len(at)) % 2, 1.0, -1.0)
    tangent = np.gradient(lines, axis=1)[parent, at]
    heading = np.arctan2(tangent[:, 1], tangent[:, 0]) + side * rng.uniform(*angles, len(at))
    return parent, at, lines[parent, at], heading


def holes(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A plate or blob with openings in a regular, staggered or irregular arrangement."""
    short, diagonal = min(size), float(np.hypot(*size))
    canvas = Canvas(size)
    style = rng.choice(("plate", "blob", "frame"))
    if style == "frame":
        canvas.pixels[:] = 255
    else:
        outline = outlines.polygon if style == "plate" else outlines.blob
        canvas.fill([outline(size, rng, (0.35, 0.8))])
    pitch = max(_log_uniform(rng, 0.04, 0.2) * short, 5.0)
    count = int(np.ceil(0.7 * diagonal / pitch))
    row, column = np.mgrid[-count : count + 1, -count : count + 1].reshape(2, -1)
    centres = np.stack((column + rng.choice((0, 0.5)) * (row % 2), row), axis=-1)
    rotation = outlines.rotation(rng.uniform(0, np.pi))
    view, bend = outlines.perspective(size, rng), outlines.bend(size, rng)
    placed = bend(view(centres * pitch @ rotation))
    centres = centres[((placed > -pitch) & (placed < np.add(size[::-1], pitch))).all(axis=1)]
    radius = rng.uniform(0.22, 0.44)
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    shape = outlines.polar(turn)
    shape = np.sign(shape) * np.abs(shape) ** rng.choice((1.0, 1.0, 0.3))  # round or squarish
    shape = shape * (radius, radius * rng.uniform(0.4, 1.0))
    rims = np.broadcast_to(shape, (len(centres), 16, 2))
    if rng.random() < 0.4:  # irregular: own size, place and outline for each opening
        room = 0.5 - radius
        wobble = sum(
            rng.uniform(0, 0.2 / k, (len(centres), 1))
            * np.cos(k * turn + rng.uniform(0, 2 * np.pi, (len(centres), 1)))
            for k in (2, 3)
        )
        rims = rims * (rng.uniform(0.4, 1.0, (len(centres), 1)) * (1 + wobble))[..., None]
        centres = centres + rng.uniform(-room, room, centres.shape)
    openings = bend(view((centres[:, None] + rims) * pitch @ rotation))
    canvas.fill(openings, value=0, even_odd=True)
    return canvas.matte()


def text(size: Size, rng: np.random.Generator) -> np.ndarray:
    """One to five lines of random letters and digits, rotated and in perspective."""
    short = min(size)
    lines = int(rng.integers(1, 6))
    pitch = max(rng.uniform(0.5, 1.2) * short / lines, 8.0)  # of the lines, px
    height = 0.8 * pitch
    font = int(rng.choice(outlines.FONTS))
    growth = int(rng.choice((-6, -3, 0, 4)))
    pieces = []
    for line in range(lines):
        base = (line - (lines - 1) / 2) * pitch + 0.4 * height
        x, row = 0.0, []
        for letter in rng.choice(list(outlines.LETTERS), rng.integers(2, 5 + 3 * lines)):
            glyph = [rim * height + (x, base) for rim in outlines.glyph(letter, font, growth)]
            row += glyph
            x = max(rim[:, 0].max() for rim in glyph) + 0.12 * height
        middle = x * rng.uniform(0.4, 0.6)
        pieces += [rim - (middle, 0) for rim in row]
    angle = rng.normal(0, 0.3) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    rotation = outlines.rotation(angle)
    shift = rng.uniform(-0.15, 0.15, 2) * short
    points = outlines.perspective(size, rng)(np.concatenate(pieces) @ rotation + shift)
    ends = np.cumsum([len(piece) for piece in pieces])[:-1]
    canvas = Canvas(size)
    canvas.fill(np.split(points, ends), even_odd=True)
    return canvas.matte()


def soft(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A shape whose α rises over 2–20 px, with partial, smoothly varying opacity (fur, glass)."""
    source = KINDS[rng.choice(("blob", "polygon", "holes", "foliage"), p=(0.6, 0.2, 0.1, 0.1))]
    inside = (source(size, rng) > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    ramp = rng.uniform(SOFT_WIDTH[0], min(SOFT_WIDTH[1], max(4.0, min(size) / 8)))
    style = rng.choice(("plain", "fur", "veil", "glass"))
    if style == "fur":  # the boundary itself is ragged at the scale of tufts
        tufts = smooth_noise(size, rng, cells=max(size) // 5 + 1)
        depth = depth - np.float32(0.5 * ramp) * (1 + tufts)
    t = np.clip(depth / np.float32(ramp), 0, 1)
    matte = t * t * (3 - 2 * t)
    if style == "veil":
        matte *= 0.65 + 0.35 * smooth_noise(size, rng, cells=int(rng.integers(2, 8)))
    elif style == "glass":  # clear in the middle, opaque towards the rim
        rim = np.exp(-depth / np.float32(rng.uniform(1, 4) * ramp))
        clear = np.float32(rng.uniform(0.15, 0.6))
        matte *= clear + (1 - clear) * rim
    return matte


def layered(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Two mattes of different kinds, one over the other: 1 − (1 − α₁)(1 − α₂)."""
    first, second = rng.choice(
        [name for name in usual_kinds() if name != "layered"], 2, replace=False
    )
    return 1 - (1 - KINDS[first](size, rng)) * (1 - KINDS[second](size, rng))


def wires(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A few long lines that cross the frame, or end in it, straight or bent."""
    count = int(rng.integers(1, 9))
    length = rng.uniform(0.3, 1.2, count) * float(np.hypot(*size))
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, rng.choice((0.1, 0.5, 2.0)), count)
    middle = rng.uniform(0, 1, (count, 2)) * size[::-1]
    root = middle - outlines.polar(heading) * length[:, None] / 2
    lines = outlines.curves(root, heading, length, rng.normal(0, 0.4, count), points=16)
    width = _log_uniform(rng, *WIRE_WIDTH) * rng.uniform(0.7, 1.3, (count, 1))
    taper = rng.uniform(0.4, 1.0, (count, 1)) ** np.linspace(0, 1, 16)
    return filled(size, outlines.ribbons(lines, width * taper))


# name → function(size (H, W), rng) → float32 (H, W) in [0, 1], which may be empty or full.
KINDS: dict[str, Callable[[Size, np.random.Generator], np.ndarray]] = {
    function.__name__: function
    for function in (blob, polygon, grille, strokes, foliage, holes, text, soft, layered, wires)
}


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
