"""Draw what docs/imaging-model.md explains: apertures, light that adds up, layers, a scene.

    python -m drawing.imaging_model --output docs/figures

By name: apertures.png, light.png, layers.png, scene.png. The photographs are those in
scikit-image's package that are free to publish.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from defocus.color import to_linear, to_srgb
from defocus.mattes import KINDS
from defocus.models import layers_in_focus
from defocus.psf import blur, disk, gaussian, polygon
from defocus.render import depth_map
from defocus.sample import Effect
from defocus.scene import SceneConfig, SceneGenerator
from drawing.canvas import Canvas, save, to_image
from drawing.figure6 import FREE, FreePhotographs
from drawing.sample_pairs import fill
from models.mmfnet import boundary_map
from utils.errors import cli, option_parser

SIDE, GAP, CAPTION = 232, 10, 36  # of a panel, between panels and below them, pixels
RADIUS = 14.0  # of the circles of confusion of the lights, pixels
LAMP = 6.0  # of those of the lamps beside the rocket, pixels
SCENE = 29  # chosen by eye
BAR = 8  # pixels
COLORS = torch.tensor(  # of the photographs on the map of one scene
    [[0.13, 0.25, 0.55], [0.15, 0.55, 0.65], [0.35, 0.65, 0.25], [0.9, 0.65, 0.1], [0.8, 0.25, 0.1]]
)
STEP = 5.0  # what a layer's distance from the focal plane adds to them, pixels


@cli
def main(argv: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--output", default="docs/figures", type=Path, metavar="DIR")
    output = parser.parse_args(argv).output
    rows = {"apertures": apertures(), "light": [light()], "layers": layers(), "scene": scene()}
    for name, panels in rows.items():
        save(sheet(panels), output / f"{name}.png")


def apertures(side: int = SIDE) -> list[dict[str, Tensor]]:
    """PSFs, and points of light at night as each photographs them, (1 or 3, side, side)."""
    psfs = {
        "Gaussian": gaussian(RADIUS / 2),
        "disk, wide open": disk(RADIUS),
        "5 blades": polygon(RADIUS, 5, rotation=0.3),
        "6 blades": polygon(RADIUS, 6),
        "9 blades": polygon(RADIUS, 9, rotation=0.2),
    }
    reach = max(len(psf) for psf in psfs.values()) // 2
    shapes = {}
    for name, psf in psfs.items():
        shape = np.pad((psf / psf.max()).numpy(), reach - len(psf) // 2)
        shape = cv2.resize(shape, (side, side), interpolation=cv2.INTER_NEAREST)
        shapes[f"PSF: {name}"] = torch.from_numpy(shape)[None]
    # Points of light, linear, brighter than white: spread over a PSF they are still seen.
    rng, night = np.random.default_rng(3), torch.full((3, side, side), 0.002)
    for x, y in rng.integers(0, side, (26, 2)):
        color = torch.from_numpy(rng.uniform(0.15, 1, 3)).float()
        night[:, y, x] += 300 * color * rng.uniform(0.3, 1)
    return [shapes, {f"through it: {name}": to_srgb(blur(night, p)) for name, p in psfs.items()}]


def light() -> dict[str, Tensor]:
    """Lamps at night blurred in the stored values and as light, (3, side, side)."""
    photograph = to_tensor(_photograph("rocket")[195 : 195 + SIDE, 140 : 140 + SIDE])
    psf = disk(LAMP)
    return {
        "in focus": photograph,
        "blurred as stored": blur(photograph, psf),
        "blurred as light": to_srgb(blur(to_linear(photograph), psf)),
    }


def layers() -> list[dict[str, Tensor]]:
    """Three layers, then the scene focused on each and everywhere, (1 or 3, SIDE, SIDE)."""
    size = (SIDE, SIDE)
    drawn = (KINDS[k](size, np.random.default_rng(s)) for k, s in (("grille", 7), ("strokes", 9)))
    mattes = [torch.from_numpy(matte)[None] for matte in drawn]
    photographs = map(_photograph, ("coffee", "chelsea", "astronaut"))
    pictures = [to_tensor(fill(photograph, *size)) for photograph in photographs]
    colors = list(map(to_linear, pictures))
    psfs = [None, disk(STEP), disk(2 * STEP)]  # by a layer's distance from the one in focus
    settings = [[psfs[abs(layer - focus)] for layer in range(3)] for focus in range(3)]
    stack = [to_srgb(layers_in_focus(colors, mattes, setting)) for setting in settings]
    truth = layers_in_focus(colors, mattes, [None] * 3)
    captions = ("nearest layer", "middle layer", "farthest layer")
    shown = [mattes[0] * pictures[0], mattes[1] * pictures[1], pictures[2]]
    return [
        dict(zip(captions, shown, strict=True)) | {"sharp everywhere": to_srgb(truth)},
        dict(zip((f"focused on the {name}" for name in captions), stack, strict=True)),
    ]


def scene() -> list[dict[str, Tensor]]:
    """A training scene: depth, its photographs, G*, truth; (1 or 3, SIDE, SIDE). The bar below a
    photograph has its colour on the map, where the band is white."""
    generator, which = scenes(), (SCENE, len(COLORS))
    sample = generator.sample(*which)
    drawn, *_ = generator.draw(*which)
    depth = depth_map(drawn, SIDE)
    low, high = depth.aminmax()
    span = f"depth, {low:.0f} (black) to {high:.0f} (white)"
    panels = [(span, (depth - low)[None] / (high - low))]
    for focus, photograph, color in zip(drawn.focus, sample.photographs, COLORS, strict=True):
        photograph[:, -BAR:] = color[:, None, None]
        panels.append((f"focused at {focus:.1f}", photograph))
    right = COLORS[sample.guidance.argmax(0)[0]].permute(2, 0, 1)
    right = torch.where(boundary_map(sample.guidance) > 0, 1.0, right)
    panels += [("G*, white where none is right", right), ("ground truth", sample.truth)]
    return [dict(panels[:4]), dict(panels[4:])]


def scenes() -> SceneGenerator:
    """Scenes of surfaces far enough apart to see in print, of photographs free to publish."""
    config = SceneConfig(
        size=SIDE,
        layers=[0, 0, 1],
        psfs=["disk", "polygon"],
        step=[3.0, 4.0],
        ends=1.0,
        slant=Effect(1.0, 0.3, 0.8),
        curve=Effect(0.5, 0.05, 0.15),
        procedural=1.0,
        zoom=[0.8, 1.0],
        highlights=Effect(1.0, 1, 2),
        speculars=Effect(1.0, 15, 25),
        noise=Effect(1.0, 0.006, 0.006),
    )
    return SceneGenerator(config, FreePhotographs())


def sheet(rows: list[dict[str, Tensor]]) -> Image.Image:
    """Panels in rows, each above its caption."""
    width = max(len(row) for row in rows) * (SIDE + GAP) + GAP
    canvas = Canvas(width, len(rows) * (SIDE + GAP + CAPTION))
    for number, row in enumerate(rows):
        top = number * (SIDE + GAP + CAPTION) + GAP
        for column, (caption, panel) in enumerate(row.items()):
            left = GAP + column * (SIDE + GAP)
            canvas.picture(to_image(panel), left, top, SIDE, SIDE)
            canvas.text((left + SIDE / 2, top + SIDE + CAPTION / 2), caption, 15)
    return canvas.finish()


def _photograph(name: str) -> np.ndarray:
    return FreePhotographs()[FREE.index(name)]


if __name__ == "__main__":
    sys.exit(main())
