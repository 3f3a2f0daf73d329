"""JPEG, PNG, WebP, BMP, PPM and PGM, through Pillow; of 16 bits Pillow reads the head only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.formats import png
from utils.formats.exif import Tags, for_result, load_bytes, read_tags
from utils.formats.photo import (
    INVERSE,
    Metadata,
    Photo,
    Probe,
    check_page,
    full_range,
    make_photo,
    upright,
    upright_size,
)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")
GREY = ("1", "L", "LA", "La")
MODES = (*GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
BAND = 64  # rows that are converted at a time, so that no second copy of the image is held


def read(path: Path, page: int) -> Photo:
    check_page(path, page)
    with Image.open(path, formats=FORMATS) as image:
        dtype, grey = _layout(path, image)
        tags = _tags(path, image)
        if dtype == np.uint8:
            samples = _decode(image, grey, tags.orientation)
        else:
            stored = png.read(path) if image.format == "PNG" else _read_pnm(path, image)
            samples = upright(stored, tags.orientation)
        dpi = image.info.get("dpi") or tags.dpi
        metadata = Metadata(image.info.get("icc_profile"), tags.kept, dpi)
    return make_photo(samples, metadata)


def probe(path: Path) -> Probe:
    with Image.open(path, formats=FORMATS) as image:
        dtype, grey = _layout(path, image)
        tags = _tags(path, image)
        size = upright_size(*image.size, tags.orientation)
        return Probe(*size, dtype, grey, taken=tags.taken)


def write_jpeg(path: Path, samples: np.ndarray, metadata: Metadata) -> None:
    """Quality 95, colours at full resolution."""
    options = {"quality": 95, "subsampling": "4:4:4"}
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    _write(path, samples, metadata, "JPEG", **options)


def write_webp(path: Path, samples: np.ndarray, metadata: Metadata) -> None:
    """Lossless: lossy WebP halves the resolution of colours, which shows at edges."""
    fast = {"quality": 0, "method": 0}  # a fifth larger than at Pillow's defaults, 10 times as fast
    _write(path, samples, metadata, "WEBP", lossless=True, exact=True, **fast)


def _write(path: Path, samples: np.ndarray, metadata: Metadata, kind: str, **options) -> None:
    image = Image.fromarray(samples)
    exif = for_result(metadata, *image.size)
    if exif is not None:
        options["exif"] = exif
    image.save(path, kind, icc_profile=metadata.icc, **options)


def _layout(path: Path, image: Image.Image) -> tuple[np.dtype, bool]:
    """(type of the samples, grey) of what is in the file, which Pillow's mode does not always tell.

    Pillow would cut 16-bit colour to 8 bits without a word.
    """
    codec = image.tile[0] if image.tile else None
    raw_mode = str(codec.args if codec else "")
    if ";16" in raw_mode or _pnm_largest(image) > 255:
        return np.dtype(np.uint16), raw_mode.strip("('")[0] in "IL"
    if image.mode not in MODES:
        raise UserError(f"{path} is a {image.mode} image; convert it to RGB or grey")
    return np.dtype(np.uint8), image.mode in GREY


def _tags(path: Path, image: Image.Image) -> Tags:
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        # Behind the pixels, perhaps, where Pillow would find it by decoding them all.
        return read_tags(lambda: load_bytes(png.find(path, b"eXIf")))
    return read_tags(image.getexif)


def _decode(image: Image.Image, grey: bool, orientation: int) -> np.ndarray:
    """(H, W, C) uint8, upright; it is filled band by band, by way of a view that lies as stored."""
    mode = ("L" if grey else "RGB") + "A" * image.has_transparency_data
    width, height = upright_size(*image.size, orientation)
    samples = np.empty((height, width, len(mode)), np.uint8)
    stored = upright(samples, INVERSE.get(orientation, orientation))
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
        samples = np.array(data.split()[: np.prod(shape)], np.uint16)
    else:
        samples = np.frombuffer(data, ">u2", np.prod(shape)).astype(np.uint16)
    return full_range(samples.reshape(shape), _pnm_largest(image))
