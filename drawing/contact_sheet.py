"""One picture of many fused results, with their guidance and boundary maps where present.

python -m drawing.contact_sheet --input ResultsLytro --output ResultsLytro/contact-sheet.jpg
"""

import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from drawing.canvas import eight_bits, save
from utils.errors import UserError, cli, option_parser
from utils.images import read_photo

SIDE = 200  # of a picture, pixels
SUFFIXES = ("Fusion", "Guidance", "Boundary")


def contact_sheet(folder: Path, columns: int) -> Image.Image:
    """Arrange ``NAME-Fusion.png`` (and its maps, from ``run_inference.py --maps``) in rows of some
    columns, each under its name, in squares of 200 pixels; raises :class:`UserError` if the
    folder holds no fused image, or a picture that cannot be read."""
    names = sorted(path.name.removesuffix("-Fusion.png") for path in folder.glob("*-Fusion.png"))
    if not names:
        raise UserError(f"{folder} holds no NAME-Fusion.png; write some with run_inference.py")
    shown = [suffix for suffix in SUFFIXES if any(folder.glob(f"*-{suffix}.png"))]
    label, gap, rows = 18, 10, math.ceil(len(names) / columns)
    width, height = len(shown) * SIDE + gap, SIDE + label + gap
    sheet = Image.new("RGB", (columns * width + gap, rows * height + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, name in enumerate(names):
        x, y = gap + index % columns * width, gap + index // columns * height
        draw.text((x, y), name, "black", font)
        for position, suffix in enumerate(shown):
            if (path := folder / f"{name}-{suffix}.png").exists():
                thumbnail = Image.fromarray(eight_bits(read_photo(path).rgb))
                thumbnail.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                sheet.paste(thumbnail, (x + position * SIDE, y + label))
    return sheet


@cli
def main(argv: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--input", required=True, type=Path, help="folder of fused images")
    parser.add_argument("--output", required=True, type=Path, help="picture to write")
    parser.add_argument("--columns", type=int, default=2, help="results in a row")
    args = parser.parse_args(argv)
    if args.columns < 1:
        raise UserError("--columns has to be at least 1")
    save(contact_sheet(args.input, args.columns), args.output, quality=88)


if __name__ == "__main__":
    sys.exit(main())
