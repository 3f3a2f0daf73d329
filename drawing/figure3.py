"""Redraw figure 3 of the paper: what four imaging models make of three slabs at three depths.

    python -m drawing.figure3 --output docs/figures/figure3.png

The camera is focused on the slab in the middle. As in the paper, light is added in the stored
values; thin lines mark where the slabs truly end.
"""

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from defocus.models import layers_in_focus, one_parameter, two_parameter
from defocus.psf import gaussian
from drawing.canvas import AMBER, INK, PAPER, Canvas, Point, rectangle, save, to_image
from utils.errors import cli, option_parser

SLAB_BLUE, SLAB_YELLOW = (68, 114, 196), (255, 230, 0)
SLABS = {"1": (SLAB_BLUE, PAPER), "2": (SLAB_YELLOW, INK), "3": (SLAB_BLUE, PAPER)}
SIDE = 260  # of a panel, units
SCALE = 2  # pixels in a unit
SIGMA = 24.0  # of the slabs out of focus, pixels
Ends = Sequence[tuple[float, float]]  # of a block: in depth, width and height
COS, SIN = math.cos(math.pi / 6), math.sin(math.pi / 6)  # of the isometric projection


@cli
def main(argv: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--output", default="docs/figures/figure3.png", metavar="FILE")
    save(figure(), parser.parse_args(argv).output)


def panels(side: int = SIDE * SCALE, sigma: float = SIGMA) -> dict[str, Tensor]:
    """The slabs as each model photographs them, (3, side, side) in [0, 1], by caption."""
    column = torch.arange(side) + 0.5
    mattes = [(column < edge).float().expand(1, side, side) for edge in (side / 3, side * 2 / 3)]
    # Each slab continues behind the nearer ones: a defocused edge lets us see that.
    colors = []
    for digit, (color, ink) in SLABS.items():
        picture = Image.new("RGB", (side, side), color)
        at, font = ((2 * int(digit) - 1) * side / 6, side / 2), ImageFont.load_default(side / 6)
        ImageDraw.Draw(picture).text(at, digit, ink, font, "mm")
        colors.append(to_tensor(picture))
    sharp = layers_in_focus(colors, mattes, [None] * 3)
    mask = mattes[1] - mattes[0]
    psf = gaussian(sigma)
    return {
        "(b) All-in-focus image": sharp,
        "(c) One-parameter model": one_parameter(sharp, mask, psf),
        "(d) Two-parameter model": two_parameter(sharp, mask, psf),
        "(e) Alpha-matte defocus model": layers_in_focus(colors, mattes, [psf, None, psf]),
    }


def figure() -> Image.Image:
    """The scene beside the four panels."""
    gap, caption, scene = 26, 52, 600
    canvas = Canvas(scene + 2 * SIDE + 3 * gap, 2 * (SIDE + caption) + gap // 2, SCALE)
    bottom = 2 * (SIDE + gap) + caption
    _draw_scene(canvas, (gap, gap, scene - gap, bottom - gap))
    canvas.text((scene / 2, bottom - gap + caption / 2 - 4), "(a) The scene", 15)
    for index, (title, image) in enumerate(panels().items()):
        left = scene + gap + index % 2 * (SIDE + gap)
        top = gap + index // 2 * (SIDE + caption)
        canvas.picture(to_image(image), left, top, SIDE, SIDE)
        for edge in (1 / 3, 2 / 3) if index else ():
            canvas.line([(left + edge * SIDE, top), (left + edge * SIDE, top + SIDE)], INK, 1)
        canvas.text((left + SIDE / 2, top + SIDE + caption / 2 - 4), title, 15)
    return canvas.finish()


def _draw_scene(canvas: Canvas, frame: tuple[float, float, float, float]) -> None:
    """The slabs on a floor, in isometric projection, seen from behind the camera's left."""
    view = _isometric(frame)
    for across in range(-2, 5):
        canvas.dashes(view(-1, across), view(9, across))
    for along in range(-1, 10):
        canvas.dashes(view(along, -2), view(along, 4))
    canvas.line([view(5, -2), view(5, 4)], AMBER, 2)
    canvas.text(view(4.55, 3.45), "focal plane", 15, AMBER, "rm")
    # As the camera sees them each fills a third of the picture: width grows with depth.
    _draw_block(canvas, view, ((7.0, 7.5), (-0.4, 3.15), (0, 3.8)), SLAB_BLUE, "3")
    _draw_block(canvas, view, ((5.0, 5.4), (-1.3, 0.75), (0, 3.4)), SLAB_YELLOW, "2")
    _draw_block(canvas, view, ((3.0, 3.3), (-1.7, -0.45), (0, 3.0)), SLAB_BLUE, "1")
    for foot in ((-0.75, -0.35), (-0.75, 0.35), (0.15, 0)):
        canvas.line([view(-0.3, 0, 0.8), view(*foot)], "#46505a", 2)
    _draw_block(canvas, view, ((0.0, 0.45), (-0.24, 0.24), (0.85, 1.33)), (70, 78, 88))
    _draw_block(canvas, view, ((-0.5, 0.0), (-0.55, 0.55), (0.75, 1.45)), (120, 128, 138))
    # What the camera's screen shows.
    edges = np.linspace(-0.42, 0.42, 4)
    for left, right, (color, _) in zip(edges, edges[1:], SLABS.values(), strict=False):
        corners = rectangle(left, 0.87, right, 1.33)
        canvas.polygon([view(-0.5, *corner) for corner in corners], color)
    canvas.arrow([view(0.55, 0, 1.1), view(4.9, 0, 1.1)], "#46505a", 2.5)


def _isometric(frame: tuple[float, float, float, float]) -> Callable[..., Point]:
    """(depth, width, height) to canvas: depth goes right and up, width right and down, height up;
    fitted to a frame."""

    def project(depth: float, width: float, height: float = 0.0) -> np.ndarray:
        return np.array(((depth + width) * COS, (width - depth) * SIN - height))

    corners = [(-1, -2), (9, -2), (9, 4), (-1, 4), (7.5, -0.4, 3.8)]
    points = np.array([project(*corner) for corner in corners])
    low, high = points.min(0), points.max(0)
    left, top, right, bottom = frame
    scale = min(np.array((right - left, bottom - top)) / (high - low))
    origin = np.array((left + right, top + bottom)) / 2 - scale * (low + high) / 2
    return lambda *place: tuple(origin + scale * project(*place))


def _draw_block(
    canvas: Canvas, view: Callable[..., Point], ends: Ends, color: tuple[int, ...], digit: str = ""
) -> None:
    (near, far), (left, right), (low, high) = ends
    faces = {
        1.0: [(near, *corner) for corner in rectangle(left, low, right, high)],
        0.72: [(near, right, low), (far, right, low), (far, right, high), (near, right, high)],
        1.25: [(near, left, high), (near, right, high), (far, right, high), (far, left, high)],
    }
    for light, corners in faces.items():
        shade = tuple(min(255, round(value * light)) for value in color)
        canvas.polygon([view(*corner) for corner in corners], shade)
    if not digit:
        return
    # The digit, sheared as the front is; Pillow asks where each pixel of the result comes from.
    side = 60 * canvas.unit
    half, flat = side / 2, Image.new("L", (side, side))
    font = ImageFont.load_default(44 * canvas.unit)
    ImageDraw.Draw(flat).text((half, half), digit, 255, font, "mm")
    inverse = (1 / COS, 0, half - half / COS, -SIN / COS, 1, half * SIN / COS)
    mask = flat.transform(flat.size, Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC)
    place = view(near, (left + right) / 2, low + 0.6 * (high - low))
    corner = [round(value * canvas.unit - half) for value in place]
    canvas.sheet.paste(Image.new("RGB", mask.size, SLABS[digit][1]), corner, mask)


if __name__ == "__main__":
    sys.exit(main())
