"""JPEG, PNG, WebP, BMP, PPM and PGM, through Pillow; of 16-bit files it reads only the header."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from imagecodecs import png_decode
from PIL import Image

from utils.errors import UserError
from utils.formats import photo, png
from utils.formats.exif import for_result, load_bytes, read_tags
from utils.formats.photo import Metadata, Opened

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")
GREY = ("1", "L", "LA", "La")
MODES = (*GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
DENSEST = 65535  # pixels per inch in the head of a JPEG
LONGEST = 65533  # bytes of EXIF in a JPEG
PARTS, PART = 100_000, 1000  # reads allowed of a file, and bytes for each one more
SCAN, SCANS = b"\xff\xda", 200  # marker and limit of the scans of a progressive JPEG
JPEG = {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"}
# Lossless: lossy WebP halves the resolution of colours, which shows at edges. Files are a fifth
# larger than at Pillow's defaults, and written 10 times as fast.
WEBP = {"format": "WEBP", "lossless": True, "exact": True, "quality": 0, "method": 0}
BAND = 64  # rows converted at a time, to avoid a second copy of the image


class _Parts(io.BufferedReader):
    """A file with a limited number of reads: Pillow reads chunks, markers and comments one by one,
    of which a small file may hold millions."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))
        self.path = path
        self.left = PARTS + path.stat().st_size // PART

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise UserError(f"{self.path} has too many small parts for a photograph, refused")
        return super().read(size)


@contextlib.contextmanager
def opened(path: Path, page: int) -> Iterator[Opened]:
    photo.check_page(path, page)
    with _Parts(path) as file, Image.open(file, formats=FORMATS) as image:
        dtype, grey = _layout(path, image)
        icc, dpi, packet = (image.info.get(name) for name in ("icc_profile", "dpi", "xmp"))
        if image.format == "PNG" and packet is None:
            packet = png.find_xmp(file)  # it too may follow the pixels
        tags = read_tags(lambda: _exif(file, image), icc, dpi, packet)
        size = photo.upright_size(*image.size, tags.orientation)

        def decode() -> np.ndarray:
            if image.info.get("progressive") and path.read_bytes().count(SCAN) > SCANS:
                raise UserError(f"{path} has more than {SCANS} scans, refused; save it anew")
            if dtype == np.uint8:
                return _decode(image, grey, tags.orientation)
            is_png = image.format == "PNG"
            stored = png_decode(path.read_bytes()) if is_png else _read_pnm(path, image)
            return photo.turn_upright(stored, tags.orientation)

        yield Opened(size, dtype, grey, tags, decode, alpha=image.has_transparency_data)


def write(path: Path, samples: np.ndarray, metadata: Metadata) -> None:
    """Write JPEG or WebP by extension; (H, W) or (H, W, C) uint8 samples."""
    image = Image.fromarray(samples)
    options = WEBP if path.suffix.lower() == ".webp" else JPEG
    # A denser resolution is in EXIF alone.
    dpi = metadata.dpi if max(metadata.dpi or (0,)) <= DENSEST else None
    exif = for_result(metadata, *image.size)
    while options is JPEG and exif and len(exif.tobytes()) > LONGEST:
        _drop_longest(exif)
    about = {"exif": exif or b"", "dpi": dpi or (0, 0)}
    # Through memory: Pillow does not notice a disk that fills up while it writes.
    data = io.BytesIO()
    image.save(data, icc_profile=metadata.icc, xmp=metadata.xmp or b"", **options, **about)
    with data.getbuffer() as content:
        path.write_bytes(content)


def _drop_longest(exif: Image.Exif) -> None:
    """Remove the longest value, such as a microscope's description of its settings."""
    parts = [exif, *(part for part in exif.values() if isinstance(part, dict))]
    sizes = [
        (len(value) if isinstance(value, str | bytes | tuple) else 0, number, tag)
        for number, part in enumerate(parts)
        for tag, value in part.items()
    ]
    _, number, tag = max(sizes)
    del parts[number][tag]


def _layout(path: Path, image: Image.Image) -> tuple[np.dtype, bool]:
    """(type of the samples, grey) of a file. Pillow's mode does not tell: it reduces 16-bit colour
    to 8 bits silently."""
    codec = image.tile[0] if image.tile else None
    raw_mode = str(codec.args if codec else "")
    # 16 bits of a BMP are those of three colours together.
    if image.format != "BMP" and ";16" in raw_mode or _pnm_largest(image) > 255:
        return np.dtype(np.uint16), raw_mode.strip("('")[0] in "IL"
    if image.mode not in MODES:
        raise UserError(f"{path} is a {image.mode} image; convert it to RGB or grey")
    return np.dtype(np.uint8), image.mode in GREY


def _exif(file: _Parts, image: Image.Image) -> Image.Exif:
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        # It may follow the pixels, where Pillow would find it only by decoding them.
        return load_bytes(png.find(file, b"eXIf"))
    return image.getexif()


def _decode(image: Image.Image, grey: bool, orientation: int) -> np.ndarray:
    """(H, W, C) uint8, upright; filled in bands, through a view in the stored orientation."""
    mode = ("L" if grey else "RGB") + "A" * image.has_transparency_data
    width, height = photo.upright_size(*image.size, orientation)
    samples = np.empty((height, width, len(mode)), np.uint8)
    stored = photo.turn_back(samples, orientation)
    for top in range(0, image.height, BAND):
        rows = stored[top : top + BAND]
        band = image.crop((0, top, image.width, top + len(rows))).convert(mode)
        rows[:] = np.asarray(band).reshape(rows.shape)
    return samples


def _pnm_largest(image: Image.Image) -> int:
    """The value that stands for white in a PPM or PGM."""
    if image.format != "PPM":
        return 255
    args = image.tile[0].args
    if isinstance(args, tuple):
        return args[1]
    return 65535 if ";16" in args else 255


def _read_pnm(path: Path, image: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, 3) uint16 of a PPM or PGM of more than 8 bits, at full range."""
    codec = image.tile[0]
    shape = (image.height, image.width, 3) if image.mode == "RGB" else (image.height, image.width)
    with path.open("rb") as file:
        file.seek(codec.offset)
        data = file.read()
    if codec.codec_name == "ppm_plain":
        samples = np.fromstring(data, np.int32, sep=" ")[: np.prod(shape)]
        samples = samples.clip(0, 65535).astype(np.uint16)
    else:
        samples = np.frombuffer(data, ">u2", np.prod(shape)).astype(np.uint16)
    return photo.full_range(samples.reshape(shape), _pnm_largest(image))
