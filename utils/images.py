"""Photographs from files and to files: the boundary where arrays are (H, W, C) uint8."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.atomic import atomic_path
from utils.errors import UserError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm")

GREY = ("1", "L", "LA", "La")
MODES = (*GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
# What Pillow raises on broken files of one kind or another.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error)


@dataclass(frozen=True)
class Photo:
    """A decoded photograph, upright.

    Attributes:
        rgb: (H, W, 3) uint8; of a grey photograph three equal channels.
        grey: whether the file is grey.
        alpha: (H, W) uint8, or None if the file has no transparency.
        icc: its colour profile, or None.
    """

    rgb: np.ndarray
    grey: bool
    alpha: np.ndarray | None
    icc: bytes | None


def read_photo(path: str | Path) -> Photo:
    """Decode an 8-bit image file; the EXIF orientation is applied.

    Raises:
        UserError: file missing, empty, cut short, of an unknown type, of more than 8 bits a
            channel, CMYK, or of more than 179 megapixels.
    """
    path = Path(path)
    check_extension(path)
    try:
        if not path.stat().st_size:
            raise UserError(f"{path} is empty (zero bytes)")
        with warnings.catch_warnings():
            # Of broken tags, and of sizes from 89 megapixels on: cameras reach that, and from
            # twice as many Pillow refuses.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                _check_depth(path, image)
                return _decode(image)
    except Image.DecompressionBombError as error:
        limit = 2 * Image.MAX_IMAGE_PIXELS / 1e6
        raise UserError(f"{path} has more than {limit:.0f} megapixels, refused") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is no image that can be read, or its head is broken") from error
    except OSError as error:
        if error.strerror:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        raise UserError(f"{path} is broken or cut short ({error})") from error
    except (*BROKEN, zlib.error) as error:
        raise UserError(f"{path} is broken or cut short ({error})") from error


def check_extension(path: Path) -> None:
    """Raise a :class:`UserError` for a file type that :func:`read_photo` does not read."""
    if path.suffix.lower() not in EXTENSIONS:
        known = " ".join(EXTENSIONS)
        raise UserError(
            f"{path}: files of type {path.suffix or '(none)'} are not read, use {known}"
        )


def write_png(
    path: str | Path,
    image: np.ndarray,
    alpha: np.ndarray | None = None,
    grey: bool = False,
    icc: bytes | None = None,
) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: of the file; its folder is made.
        image: (H, W, 3) uint8 RGB or (H, W) uint8 grey, or floating point in [0, 1].
        alpha: (H, W) uint8.
        grey: write the luma of ``image`` (equal channels give themselves).
        icc: colour profile.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * np.float32(255)).round().astype(np.uint8)
    picture = Image.fromarray(image)
    if grey:
        picture = picture.convert("L")
    if alpha is not None:
        picture.putalpha(Image.fromarray(alpha))
    with atomic_path(path) as temporary:
        picture.save(temporary, icc_profile=icc)


def _check_depth(path: Path, image: Image.Image) -> None:
    """Refuse what does not fit 8 bits; Pillow would cut 16-bit colour to 8 without a word."""
    layouts = "".join(str(getattr(tile, "args", "")) for tile in image.tile)
    bits = max((*_tiff_bits(image), _ppm_bits(image)), default=8)
    if image.mode == "F":
        depth = "floating-point"
    elif image.mode.startswith("I") or ";16" in layouts or bits > 8:
        depth = "32-bit" if bits > 16 else "12-bit" if 8 < bits < 16 else "16-bit"
    elif image.mode not in MODES:
        raise UserError(f"{path} is a {image.mode} image; convert it to RGB or grey")
    else:
        return
    raise UserError(f"{path} is a {depth} image, only 8 bits a channel are fused; convert it")


def _tiff_bits(image: Image.Image) -> tuple[int, ...]:
    bits_per_sample = 258
    return getattr(image, "tag_v2", {}).get(bits_per_sample, ())


def _ppm_bits(image: Image.Image) -> int:
    args = image.tile[0].args if image.format == "PPM" and image.tile else None
    largest = args[1] if isinstance(args, tuple) and args[1:] and args[1] else 255
    return int(largest).bit_length()


def _decode(image: Image.Image) -> Photo:
    grey = image.mode in GREY
    icc = image.info.get("icc_profile")
    transparent = image.has_transparency_data
    ImageOps.exif_transpose(image, in_place=True)
    if not transparent:
        return Photo(np.array(image.convert("RGB")), grey, None, icc)
    pixels = np.asarray(image.convert("RGBA"))
    return Photo(np.ascontiguousarray(pixels[..., :3]), grey, pixels[..., 3].copy(), icc)
