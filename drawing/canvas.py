"""A canvas for the documentation's figures, drawn with Pillow and its own typeface."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from utils.atomic import atomic_path
from utils.errors import UserError
from utils.images import white

INK, MUTED, RULE, PAPER = "#1f2933", "#64707d", "#c9d0d8", "#ffffff"
BLUE, AMBER = "#3567b0", "#d98a00"
Point = tuple[float, float]
Color = str | tuple[int, ...]


def to_image(values: Tensor) -> Image.Image:
    """(3, H, W) or (1, H, W) in [0, 1], clipped, to an RGB picture."""
    pixels = (values.detach().cpu().clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).numpy().copy())


def eight_bits(photograph: np.ndarray) -> np.ndarray:
    """A photograph (H, W, 3) of any depth as it is drawn, uint8."""
    return np.rint(photograph / white(photograph.dtype) * 255).astype(np.uint8)


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """Its four corners."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


class Canvas:
    """A white sheet measured in units of ``scale`` pixels; lines and letters are anti-aliased."""

    def __init__(self, width: int, height: int, scale: int = 1):
        self.scale = scale
        self.unit = 2 * scale  # drawn at twice the size, then averaged
        self.sheet = Image.new("RGB", (width * self.unit, height * self.unit), PAPER)
        self.draw = ImageDraw.Draw(self.sheet)

    def picture(
        self, image: Image.Image, left: float, top: float, width: float, height: float
    ) -> None:
        """Show an image in a box with a hairline around it; exact if it has the box's pixels."""
        size = (round(width * self.scale), round(height * self.scale))
        if image.size != size:
            image = image.resize(size, Image.Resampling.LANCZOS)
        image = image.resize((2 * size[0], 2 * size[1]), Image.Resampling.NEAREST)
        corner = (round(left * self.scale) * 2, round(top * self.scale) * 2)
        self.sheet.paste(image, corner)
        box = (*corner, corner[0] + image.width - 1, corner[1] + image.height - 1)
        self.draw.rectangle(box, outline=INK, width=2)

    def text(
        self,
        at: Point,
        text: str,
        size: float = 14,
        fill: str = INK,
        anchor: str = "mm",
        most: float = math.inf,
    ) -> None:
        """Write around a point; the anchor is Pillow's: "mm" centred, "lm" to the right of it. A
        text that would be wider than ``most`` is written smaller."""
        font, (at,) = ImageFont.load_default(size * self.unit), self._pixels([at])
        while self.draw.textbbox((0, 0), text, font)[2] > most * self.unit:
            size *= 0.95
            font = font.font_variant(size=size * self.unit)
        self.draw.text(at, text, fill, font, anchor, size / 2, "center")

    def line(self, points: Sequence[Point], fill: str = INK, width: float = 1.5) -> None:
        self.draw.line(self._pixels(points), fill, round(width * self.unit), joint="curve")

    def dashes(self, start: Point, end: Point) -> None:
        """A line of dashes and gaps of 5 units each."""
        a, b = np.array(start), np.array(end)
        count = max(1, int(np.hypot(*(b - a)) // 5)) | 1
        ends = a + np.linspace(0, 1, count + 1)[:, None] * (b - a)
        for first, second in zip(ends[:-1:2], ends[1::2], strict=True):
            self.line([tuple(first), tuple(second)], RULE, 1)

    def frame(self, left: float, top: float, side: float, fill: str) -> None:
        """The outline of a square."""
        corners = rectangle(left, top, left + side, top + side)
        self.line([*corners, corners[0]], fill, 2)

    def arrow(self, points: Sequence[Point], fill: str = INK, width: float = 1.5) -> None:
        """A line through points with a head at the last one."""
        tip, before = np.array(points[-1], float), np.array(points[-2], float)
        along = (tip - before) / np.hypot(*(tip - before))
        across = np.array((-along[1], along[0]))
        back = tip - 7 * width * along
        self.line([*points[:-1], tuple(back)], fill, width)
        head = [tip, back + 2.6 * width * across, back - 2.6 * width * across]
        self.polygon([tuple(point) for point in head], fill)

    def polygon(self, points: Sequence[Point], fill: Color, outline: str | None = None) -> None:
        self.draw.polygon(self._pixels(points), fill, outline)

    def box(
        self, centre: Point, width: float, height: float, fill: str, outline: str, radius: float
    ) -> None:
        """A rounded rectangle; a circle if the radius is half of both sides."""
        (x, y), half_width, half_height = centre, width / 2, height / 2
        corners = [(x - half_width, y - half_height), (x + half_width, y + half_height)]
        line, radius = round(1.5 * self.unit), radius * self.unit
        self.draw.rounded_rectangle(self._pixels(corners), radius, fill, outline, line)

    def finish(self) -> Image.Image:
        return self.sheet.reduce(2)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.unit, y * self.unit) for x, y in points]


def save(image: Image.Image, path: str | Path, quality: int = 80) -> None:
    """Write a picture by its suffix (.png exact, .jpg of a quality), whole or not at all, and say
    so; raises :class:`~utils.errors.UserError` if the folder cannot be written to, or for a suffix
    that is not a picture's."""
    if Image.registered_extensions().get(Path(path).suffix.lower()) not in Image.SAVE:
        raise UserError(f"cannot write {path}: give it the suffix .png or .jpg")
    with atomic_path(path) as temporary:
        image.save(temporary, optimize=True, quality=quality)
    print(f"{path}: {image.width}×{image.height}, {Path(path).stat().st_size / 1e3:.0f} kB")
