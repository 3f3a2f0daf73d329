"""Photographs and their metadata, and conversions of decoded samples."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from utils.errors import UserError

LARGEST = 2 * Image.MAX_IMAGE_PIXELS  # pixels of a photograph; Pillow's own limit


@dataclass(frozen=True)
class Metadata:
    """Metadata of a file that the result keeps."""

    icc: bytes | None = None  # colour profile; None stands for sRGB
    # For Pillow's ``exif=``, upright, without thumbnail, pixel size and maker note.
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None  # horizontal, vertical
    xmp: bytes | None = None  # packet, see :mod:`utils.formats.xmp`

    def profile(self, grey: bool = False) -> bytes | None:
        """The colour profile, if it is of such images (ICC.1, 7.2)."""
        return self.icc if (self.icc or b"")[16:20] == (b"GRAY" if grey else b"RGB ") else None


@dataclass(frozen=True)
class Photo:
    """A decoded photograph, upright."""

    rgb: np.ndarray  # (H, W, 3) uint8, uint16 (full range) or float32 in [0, 1]
    grey: bool = False  # the file is grey; the channels are equal
    alpha: np.ndarray | None = None  # (H, W) of the same type; None if there is no transparency
    metadata: Metadata = Metadata()

    @property
    def transparent(self) -> bool:
        """Whether it is anywhere less than opaque."""
        return self.alpha is not None and bool(self.alpha.min() < white(self.alpha.dtype))


@dataclass(frozen=True)
class Probe:
    """The header of a file."""

    width: int  # pixels, upright
    height: int
    dtype: np.dtype  # of the decoded samples: uint8, uint16 or float32
    grey: bool
    pages: int = 1  # photographs in the file; more than one in a multi-page TIFF
    taken: datetime | None = None  # time of exposure by the camera's clock
    alpha: bool = False  # it has transparency, perhaps opaque everywhere
    orientation: int = 1  # of EXIF, by which it was turned upright

    def turn(self, orientation: int) -> "Probe":
        """The same if it is turned by another orientation."""
        stored = upright_size(self.width, self.height, self.orientation)
        width, height = upright_size(*stored, orientation)
        return replace(self, width=width, height=height, orientation=orientation)


class Tags(NamedTuple):
    """What a file says of its photograph; the defaults where it is absent or broken."""

    orientation: int = 1  # of EXIF, by which ``decode`` turns it
    taken: datetime | None = None
    metadata: Metadata = Metadata()


class Opened(NamedTuple):
    """An open image file, as the ``opened`` of each format yields it; fields as in ``Probe``."""

    size: tuple[int, int]  # (width, height), upright
    dtype: np.dtype
    grey: bool
    tags: Tags
    decode: Callable[[], np.ndarray]  # (H, W) or (H, W, C) samples, upright
    # Counted when asked for: of a file that is no stack, a page can be read all the same.
    count_pages: Callable[[], int] = lambda: 1
    alpha: bool = False


def white(dtype: np.dtype) -> float:
    """The value of white: 1 of floating point, otherwise the largest of the type."""
    return 1.0 if np.issubdtype(dtype, np.floating) else float(np.iinfo(dtype).max)


def make_photo(samples: np.ndarray, metadata: Metadata) -> Photo:
    """Split samples (H, W) or (H, W, C), upright, of grey or RGB, with or without alpha, into
    colours and transparency, without a copy where possible."""
    samples = samples.reshape(*samples.shape[:2], -1)
    channels = samples.shape[2]
    alpha = np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None
    if channels < 3:
        return Photo(np.repeat(samples[..., :1], 3, axis=2), True, alpha, metadata)
    return Photo(np.ascontiguousarray(samples[..., :3]), False, alpha, metadata)


def turn_upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """A view of (H, W, …) samples turned upright by EXIF ``orientation`` (1 to 8)."""
    if orientation > 4:
        stored = stored.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return stored[::rows, ::columns]


def turn_back(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of :func:`turn_upright`."""
    return turn_upright(upright, {6: 8, 8: 6}.get(orientation, orientation))


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    return (height, width) if orientation > 4 else (width, height)


def full_range(samples: np.ndarray, largest: int) -> np.ndarray:
    """uint16 samples scaled from [0, ``largest``] to [0, 65535] and rounded."""
    if largest == 65535:
        return samples
    scale = np.arange(largest + 1) * (65535 / largest)
    return np.take(scale.round().astype(np.uint16), samples, mode="clip")


def unmultiply(samples: np.ndarray) -> np.ndarray:
    """Divide premultiplied colours of (H, W, C) samples by alpha, the last channel."""
    most, alpha = white(samples.dtype), samples[..., -1:]
    colours = samples[..., :-1] * (np.float32(most) / np.maximum(alpha, np.float32(1e-6)))
    colours = np.clip(colours, 0, most)
    if samples.dtype.kind == "u":
        colours = colours.round()
    return np.concatenate([colours.astype(samples.dtype), alpha], axis=2)


def check_size(width: int, height: int) -> None:
    """Refuse a decompression bomb as Pillow does."""
    if width * height > LARGEST:
        raise Image.DecompressionBombError


def check_page(path: Path, page: int, pages: int = 1) -> None:
    """Raise a :class:`UserError` if there is no such page, counted from 0."""
    if not 0 <= page < pages:
        if not pages:
            raise UserError(f"{path} holds no photograph, or its header is broken")
        have = "1 page, page 0" if pages == 1 else f"{pages} pages, 0 to {pages - 1}"
        raise UserError(f"{path} has {have}; there is no page {page}")
