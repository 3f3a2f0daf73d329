"""Make the bundled sample pairs from photographs in scikit-image's package.

    python -m drawing.sample_pairs --output data/samples

Each is a scene of two layers, photographed by the α-matte model in linear light, with a little
noise: ``NAME-A.png`` focused on the foreground, ``NAME-B.png`` on the background, and
``NAME-Truth.png``, all-in-focus. ``data/samples/README.md`` names the photographers and the terms.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from defocus import camera, psf
from defocus.color import to_linear, to_srgb
from defocus.mattes import KINDS
from defocus.models import all_in_focus, background_in_focus, foreground_in_focus
from drawing.canvas import save, to_image
from utils.errors import cli, option_parser

HEIGHT, WIDTH = 384, 512
NOISE = 1 / 255  # standard deviation at middle grey

Layer = np.ndarray  # (H, W, 3) uint8 sRGB
Scene = tuple[Layer, np.ndarray, Layer, float]  # foreground, matte, background, radius of defocus


@cli
def main(argv: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--output", default="data/samples", type=Path, metavar="DIR")
    output = parser.parse_args(argv).output
    for name, scene in SCENES.items():
        for suffix, image in zip(("A", "B", "Truth"), photograph(*scene()), strict=True):
            save(to_image(image), output / f"{name}-{suffix}.png")


def photograph(
    foreground: Layer, matte: np.ndarray, background: Layer, radius: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Focused on the foreground, on the background, and all-in-focus; (3, H, W) sRGB."""
    near, far = (to_linear(to_tensor(layer)) for layer in (foreground, background))
    alpha = torch.from_numpy(matte)[None]
    lens, rng = psf.polygon(radius, blades=7, rotation=0.3), np.random.default_rng(0)
    images = (focus(near, far, alpha, lens) for focus in (foreground_in_focus, background_in_focus))
    noisy = [camera.add_noise(to_srgb(image), NOISE, 0.5, rng) for image in images]
    return *noisy, to_srgb(all_in_focus(near, far, alpha))


def coffee() -> Scene:
    """A cup behind a window with lettering."""
    letters = Image.new("L", (4 * WIDTH, 4 * HEIGHT))  # reduced afterwards: anti-aliased
    at, font = (2 * WIDTH, 3.35 * HEIGHT), ImageFont.load_default(480)
    ImageDraw.Draw(letters).text(at, "coffee", 255, font, "mm", stroke_width=6)
    matte = np.asarray(letters.reduce(4), np.float32) / 255
    paint = _tinted(skimage.data.gravel(), (236, 224, 198), 0.1)
    return paint, matte, fill(skimage.data.coffee(), HEIGHT, WIDTH), 7.0


def cat() -> Scene:
    """A cat behind wire mesh."""
    matte = KINDS["grille"]((HEIGHT, WIDTH), np.random.default_rng(5))
    wire = _tinted(skimage.data.brick(), (92, 104, 98), 0.25)
    return wire, matte, fill(skimage.data.chelsea(), HEIGHT, WIDTH), 5.0


def rocket() -> Scene:
    """A rocket at dusk behind a hill with grass, down to single blades: thin structure."""
    matte = KINDS["strokes"]((HEIGHT, WIDTH), np.random.default_rng(4))
    grass = _tinted(skimage.data.grass(), (86, 104, 40), 1.0)
    return grass, matte, fill(skimage.data.rocket(), HEIGHT, WIDTH), 6.0


SCENES: dict[str, Callable[[], Scene]] = {"coffee": coffee, "cat": cat, "rocket": rocket}


def fill(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a photograph, cropped to the aspect of a size and resized to it."""
    scale = max(height / photo.shape[0], width / photo.shape[1])
    crop = (round(height / scale), round(width / scale))
    top, left = ((n - c) // 2 for n, c in zip(photo.shape, crop, strict=False))
    photo = np.ascontiguousarray(photo[top : top + crop[0], left : left + crop[1]])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(photo, (width, height), interpolation=way)


def _tinted(texture: np.ndarray, color: tuple[int, int, int], contrast: float) -> Layer:
    """A grey texture (H, W) uint8 as a surface of one colour."""
    shade = fill(texture, HEIGHT, WIDTH).astype(np.float32)
    shade = 1 + contrast * (shade / shade.mean() - 1)
    return (shade[..., None] * color).clip(0, 255).round().astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
