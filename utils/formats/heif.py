"""HEIC and HEIF, as phones write them, through pillow-heif at full depth."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif

from utils.formats import photo
from utils.formats.exif import load_bytes, read_tags
from utils.formats.photo import Opened


@contextlib.contextmanager
def opened(path: Path, page: int) -> Iterator[Opened]:
    photo.check_page(path, page)
    image = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    photo.check_size(*image.size)
    icc, packet = image.info.get("icc_profile"), image.info.get("xmp")
    tags = read_tags(lambda: load_bytes(image.info.get("exif")), icc, packet=packet)
    bits = image.info["bit_depth"]

    def decode() -> np.ndarray:
        samples = np.asarray(image)  # libheif turns it upright itself
        if samples.dtype == np.uint16:
            samples = photo.full_range(samples, 2**bits - 1)
        return photo.unmultiply(samples) if image.premultiplied_alpha else samples

    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    yield Opened(image.size, dtype, image.mode[0] in "IL", tags, decode)
