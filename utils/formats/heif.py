"""HEIC and HEIF, as phones write them, through pillow-heif at full depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pillow_heif

from utils.formats import photo
from utils.formats.exif import Tags, load_bytes, read_tags
from utils.formats.photo import Metadata, Photo, Probe


def read(path: Path, page: int) -> Photo:
    photo.check_page(path, page)
    image = _open(path)
    samples = np.asarray(image)  # libheif turns it upright itself
    if samples.dtype == np.uint16:
        samples = photo.full_range(samples, 2 ** image.info["bit_depth"] - 1)
    if image.premultiplied_alpha:
        samples = photo.unmultiply(samples)
    tags = _tags(image)
    return photo.make_photo(samples, Metadata(image.info.get("icc_profile"), tags.kept, tags.dpi))


def probe(path: Path) -> Probe:
    image = _open(path)
    dtype = np.dtype(np.uint8 if image.info["bit_depth"] == 8 else np.uint16)
    return Probe(*image.size, dtype, image.mode[0] in "IL", taken=_tags(image).taken)


def _open(path: Path) -> pillow_heif.HeifFile:
    image = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    photo.check_size(path, *image.size)
    return image


def _tags(image: pillow_heif.HeifFile) -> Tags:
    return read_tags(lambda: load_bytes(image.info.get("exif")))
