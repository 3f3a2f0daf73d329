"""Draw what docs/imaging-model.md explains: apertures, light that adds up, a scene of three layers.

    python -m defocus.illustrations --output docs/figures

By name: apertures.png, light.png, layers.png. The photographs are those in scikit-image's package
that are free to publish.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from defocus.color import to_linear, to_srgb
from defocus.figure6 import FREE, FreePhotographs
from defocus.mattes import KINDS
from defocus.models import focus_stack, layers_in_focus
from defocus.psf import blur, disk, gaussian, polygon
from utils.errors import cli
from utils.figures import Canvas, save, to_image

SIDE, GAP, CAPTION = 232, 10, 36  # of a panel, between panels and below them, pixels
RADIUS = 14.0  # of the circles of confusion of the lights, pixels
LAMP = 6.0  # of those of the lamps beside the rocket, pixels
STEP = 5.0  # what a layer's distance from the focal plane adds to them, pixels


@cli
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", default="docs/figures", type=Path, metavar="DIR")
    output = parser.parse_args(argv).output
    for name, rows in (("apertures", apertures()), ("light", [light()]), ("layers", layers())):
        save(sheet(rows), output / f"{name}.png")


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
        around = reach - len(psf) // 2
        shape = np.pad((psf / psf.max()).numpy(), around)
        shape = cv2.resize(shape, (side, side), interpolation=cv2.INTER_NEAREST)
        shapes[f"PSF: {name}"] = torch.from_numpy(shape)[None]
    night = _lights(side, np.random.default_rng(3))
    return [shapes, {f"through it: {name}": to_srgb(blur(night, p)) for name, p in psfs.items()}]


def light() -> dict[str, Tensor]:
    """Lamps at night blurred in the stored values and as light, (3, side, side)."""
    photograph = _photograph("rocket", SIDE, top=195, left=140)
    psf = disk(LAMP)
    return {
        "in focus": photograph,
        "blurred as stored": blur(photograph, psf),
        "blurred as light": to_srgb(blur(to_linear(photograph), psf)),
    }


def layers(side: int = SIDE) -> list[dict[str, Tensor]]:
    """Three layers, then the scene focused on each and everywhere, (1 or 3, side, side)."""
    size = (side, side)
    mattes = [
        torch.from_numpy(KINDS[kind](size, np.random.default_rng(seed)))[None]
        for kind, seed in (("grille", 7), ("strokes", 9))
    ]
    pictures = [_photograph(name, side) for name in ("coffee", "chelsea", "astronaut")]
    colors = [to_linear(picture) for picture in pictures]
    settings = [[_psf(abs(layer - focus)) for layer in range(3)] for focus in range(3)]
    stack = focus_stack(colors, mattes, settings)
    truth = layers_in_focus(colors, mattes, [None] * 3)
    captions = ("nearest layer", "middle layer", "farthest layer")
    shown = [*(a * p for a, p in zip(mattes, pictures[:2], strict=True)), pictures[2]]
    return [
        dict(zip(captions, shown, strict=True)) | {"sharp everywhere": to_srgb(truth)},
        {
            f"focused on the {name}": to_srgb(photograph)
            for name, photograph in zip(captions, stack, strict=True)
        },
    ]


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


def _psf(distance: int) -> Tensor | None:
    return disk(STEP * distance) if distance else None


def _lights(side: int, rng: np.random.Generator) -> Tensor:
    """Points of light, linear, brighter than white: spread over a PSF they are still seen."""
    night = torch.full((3, side, side), 0.002)
    for x, y in rng.integers(0, side, (26, 2)):
        color = torch.from_numpy(rng.uniform(0.15, 1, 3)).float()
        night[:, y, x] += 300 * color * rng.uniform(0.3, 1)
    return night


def _photograph(name: str, side: int, top: int | None = None, left: int | None = None) -> Tensor:
    """A square of a free photograph, (3, side, side) sRGB: from a corner, or the middle reduced."""
    pixels = FreePhotographs()[FREE.index(name)]
    if top is None:
        shorter = min(pixels.shape[:2])
        top, left = ((n - shorter) // 2 for n in pixels.shape[:2])
        pixels = pixels[top : top + shorter, left : left + shorter]
        pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    else:
        pixels = pixels[top : top + side, left : left + side]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    sys.exit(main())
