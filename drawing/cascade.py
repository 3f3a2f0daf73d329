"""Draw the cascade: what goes into each sub-net, what comes out, and how it is put together.

    python -m drawing.cascade --weights weights/mmfnet.safetensors --output docs/figures/cascade.png

The pictures are what the given weights make of a generated sample.
"""

import sys

import torch
from PIL import Image

from drawing.canvas import BLUE, INK, MUTED, PAPER, Canvas, save, to_image
from drawing.figure6 import free_samples
from models import WEIGHTS
from models.build import load_model
from models.mmfnet import MMFNet
from utils.errors import UserError, cli, option_parser

SIDE = 132  # of a picture, units
SCALE = 2  # pixels in a unit
GAIN = 3  # of the residual, to be seen
SEED, INDEX = 6, 4  # of the sample shown


@cli
def main(argv: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--weights", default=WEIGHTS, metavar="FILE", help="default: shipped")
    parser.add_argument("--output", default="docs/figures/cascade.png", metavar="FILE")
    args = parser.parse_args(argv)
    model = load_model(args.weights)
    if model.boundary is None:
        raise UserError(f"{args.weights} have no boundary sub-net to draw; give others: --weights")
    save(diagram(pictures(model)), args.output)


def pictures(model: MMFNet) -> dict[str, Image.Image]:
    """What flows through the cascade for one generated sample, by name."""
    scene = {"psfs": ["disk"], "sigma": [2.6, 3.2], "mattes": ["foliage"], "zoom": [0.6, 0.8]}
    photographs = free_samples(SEED, size=SIDE * SCALE, **scene)[INDEX].photographs[None]
    with torch.inference_mode():
        fusion = model(photographs)
        coefficients = model.boundary(photographs, fusion.guidance)
        selection = model.initial.select(fusion.guidance)
        residual = model.boundary.residual(coefficients, photographs, fusion.guidance, selection)
    images = {name: getattr(fusion, name)[0] for name in ("boundary", "initial", "fused")}
    images |= {"image1": photographs[0, 0], "image2": photographs[0, 1]}
    images |= {"guidance": fusion.guidance[0, 0], "residual": 0.5 + GAIN * residual[0]}
    return {name: to_image(image) for name, image in images.items()}


def diagram(pictures: dict[str, Image.Image]) -> Image.Image:
    """The cascade with a picture at each stage, see :func:`pictures`."""
    canvas = Canvas(1330, 690, SCALE)
    sources, bus, initial, guide, boundary = 90, 186, 304, 490, 704  # columns
    residual, times, plus, fused = 866, 996, 1066, 1234
    top, middle, maps, bottom = 40, 190, 372, 570  # rows
    half = SIDE / 2

    def show(name: str, x: float, y: float, title: str, note: str = "", above: bool = False):
        canvas.picture(pictures[name], x - half, y - half, SIDE, SIDE)
        canvas.text((x, y - half - 14 if above else y + half + 14), title, 14)
        if note:
            canvas.text((x, y + half + 32), note, 12, MUTED)

    # The sources, and the line that carries them both to where they are used.
    first, second = middle - 92, middle + 92
    for y in (first, second):
        canvas.line([(sources, y), (bus, y)], BLUE)
    canvas.arrow([(bus, second), (bus, top), (boundary, top), (boundary, middle - 62)], BLUE)
    canvas.arrow([(bus, second), (bus, bottom), (guide - half - 2, bottom)], BLUE)
    canvas.arrow([(bus, middle), (initial - 62, middle)], BLUE)
    # The guidance map.
    canvas.arrow([(initial, middle), (guide - half - 2, middle)])
    canvas.arrow([(guide, middle), (boundary - 62, middle)])
    canvas.arrow([(guide, middle), (guide, bottom - half - 2)])
    canvas.arrow([(guide, maps), (boundary - half - 2, maps)])
    # Residual × boundary map + initial fusion.
    canvas.arrow([(boundary, middle), (residual - half - 2, middle)])
    canvas.arrow([(residual, middle), (times - 18, middle)])
    canvas.arrow([(boundary, maps), (times, maps), (times, middle + 18)])
    canvas.arrow([(times, middle), (plus - 18, middle)])
    canvas.arrow([(guide, bottom), (plus, bottom), (plus, middle + 18)])
    canvas.arrow([(plus, middle), (fused - half - 2, middle)])

    show("image1", sources, first, "Image 1")
    show("image2", sources, second, "Image 2")
    show("guidance", guide, middle, "Guidance map G", above=True)
    show("residual", residual, middle, "Residual", f"shown {GAIN} times as strong")
    show("boundary", boundary, maps, "Boundary map", "1 - 2 | G - 0.5 |")
    show("initial", guide, bottom, "Initial fusion", "the image with the larger G")
    show("fused", fused, middle, "Fused")
    for x, name in ((initial, "Initial"), (boundary, "Boundary")):
        canvas.box((x, middle), 120, 120, "#e8eff8", BLUE, radius=12)
        canvas.text((x, middle), f"{name}\nfusion\nsub-net", 16, BLUE)
    for x, a, b in ((times, 6, 6), (plus, 9, 0)):  # a circled plus, turned by 45° for a product
        canvas.box((x, middle), 32, 32, PAPER, INK, radius=16)
        canvas.line([(x - a, middle - b), (x + a, middle + b)], INK, 2)
        canvas.line([(x + b, middle - a), (x - b, middle + a)], INK, 2)
    return canvas.finish()


if __name__ == "__main__":
    sys.exit(main())
