"""Draw training samples as figure 6 of the paper does: sources, FDB enlarged, maps, ground truth.

    python -m drawing.figure6 --output docs/figures/figure6.png

The photographs are those in scikit-image's package that are free to publish.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import skimage
from PIL import Image

from defocus.sample import DefocusConfig, Sample, SampleGenerator
from defocus.sources import Photographs, Source
from drawing.canvas import PAPER, Canvas, save, to_image
from models.mmfnet import boundary_map
from utils.errors import cli, option_parser

FREE = ("astronaut", "chelsea", "coffee", "rocket")  # CC0 or public domain, see data/samples
CAPTIONS = ("Source 1", "FDB in 1", "Source 2", "FDB in 2", "G", "1 - G", "Ground truth")
SIZE = 320  # of the samples, px
WINDOW = 72  # of what is enlarged, px
SIDE, GAP = 200, 10  # of a panel and between panels, px
SEED, ROWS = 6, (8, 16, 2)  # chosen by eye: different structure, nothing odd in the composition


@cli
def main(argv: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--output", default="docs/figures/figure6.png", metavar="FILE")
    args = parser.parse_args(argv)
    mattes = ["foliage", "holes", "grille", "strokes", "blob"]
    scene = {"psfs": ["disk", "polygon"], "mattes": mattes, "zoom": [0.75, 1.0]}
    generator = free_samples(SEED, size=SIZE, sigma=[2.2, 3.4], **scene)
    save(figure([generator[index] for index in ROWS]), args.output)


class FreePhotographs(Photographs):
    """Colour photographs in scikit-image's package that are CC0 or in the public domain."""

    def __init__(self):
        folder = Path(skimage.__file__).parent / "data"
        files = [(name, tuple(folder.glob(f"{name}.*"))) for name in FREE]
        Source.__init__(self, files)


def free_samples(seed: int, **config: object) -> SampleGenerator:
    """Clean samples of free photographs and procedural mattes."""
    config = DefocusConfig(procedural=1.0, linear_light=1.0, swap=0.0, **config)
    return SampleGenerator(config, FreePhotographs(), seed=seed)


def figure(samples: list[Sample]) -> Image.Image:
    """A row for each sample, the columns as in :data:`CAPTIONS`."""
    step, caption, scale = SIDE + GAP, 34, SIDE / SIZE
    canvas = Canvas(len(CAPTIONS) * step + GAP, len(samples) * step + GAP + caption)
    for row, sample in enumerate(samples):
        top = GAP + row * step
        for column, image in enumerate(panels(sample)):
            canvas.picture(image, GAP + column * step, top, SIDE, SIDE)
        y, x = window(sample)
        for left in (GAP, GAP + 2 * step):
            canvas.frame(left + x * scale, top + y * scale, WINDOW * scale, PAPER)
    y = len(samples) * step + GAP + caption / 2 - 4
    for column, text in enumerate(CAPTIONS):
        canvas.text((GAP + column * step + SIDE / 2, y), text, 18)
    return canvas.finish()


def panels(sample: Sample) -> list[Image.Image]:
    """The pictures of one row."""
    y, x = window(sample)
    first, second, truth = map(to_image, (*sample.photographs, sample.truth))
    box, size = (x, y, x + WINDOW, y + WINDOW), (SIDE, SIDE)
    near, far = (i.crop(box).resize(size, Image.Resampling.BICUBIC) for i in (first, second))
    maps = [to_image(g).resize(size, Image.Resampling.BOX) for g in sample.guidance]
    return [first, near, second, far, *maps, truth]


def window(sample: Sample) -> tuple[int, int]:
    """Top and left of the square in which the sources differ most on the FDB."""
    first, second = sample.photographs
    difference = (first - second).abs().mean(0) * boundary_map(sample.guidance)[0]
    score = cv2.boxFilter(difference.numpy(), -1, (WINDOW, WINDOW))
    half = WINDOW // 2
    inside = score[half : SIZE - half, half : SIZE - half]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return int(y), int(x)


if __name__ == "__main__":
    sys.exit(main())
