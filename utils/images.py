"""Read and write photographs, as arrays (H, W, C) at the depth of the file; ``utils/formats`` has a
module for each library, imported on first use."""

import contextlib
import importlib
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.atomic import atomic_path, check_regular
from utils.errors import UserError
from utils.formats.exif import BROKEN
from utils.formats.photo import (
    LARGEST,
    Metadata,
    Opened,
    Photo,
    Probe,
    make_photo,
    turn_back,
    turn_upright,
    white,
)

__all__ = ["EXTENSIONS", "Metadata", "Photo", "Probe", "check_extension", "check_writable"]
__all__ += ["probe", "read_photo", "white", "write_photo", "write_png"]

PLAIN = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm")
HEIF = (".heic", ".heif", ".hif")
RAW = tuple(
    ".dng .nef .nrw .cr2 .cr3 .crw .arw .srf .sr2 .raf .orf .rw2 .rwl .pef .srw .3fr .fff .iiq "
    ".mos .mef .mrw .erf .dcr .kdc .x3f".split()
)
EXTENSIONS = (*PLAIN, *HEIF, *RAW)
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# By extension: module that writes it, depths that it holds, transparency, longest side.
WRITERS = {
    ".png": ("png", ("uint8", "uint16"), True, 2**31 - 1),
    ".tif": ("tiff", ("uint8", "uint16", "float32"), True, 2**32 - 1),
    ".tiff": ("tiff", ("uint8", "uint16", "float32"), True, 2**32 - 1),
    ".jpg": ("pillow", ("uint8",), False, 65500),
    ".jpeg": ("pillow", ("uint8",), False, 65500),
    ".webp": ("pillow", ("uint8",), True, 16383),
}
DEPTHS = {"uint8": "8-bit", "uint16": "16-bit", "float32": "floating-point"}


def read_photo(path: str | Path, page: int = 0, orientation: int | None = None) -> Photo:
    """Decode an image file at its full depth; the EXIF orientation is applied.

    - 8 bits give uint8; 9 to 16 bits give uint16, stretched to the full range where the file gives
      the white level (12-bit TIFF and HEIC, the largest value of a PGM).
    - Floating-point TIFF gives float32. Its values must lie in [0, 1]: the white level of others
      (255, 65535, HDR) is unknown.
    - RAW gives uint16 sRGB with the camera's white balance and no automatic brightening, so that
      frames of a stack stay alike.
    - Palettes and 1-bit images give 8 bits; premultiplied colours are divided by alpha.

    Args:
        path: of a file of a type in :data:`EXTENSIONS`; its content decides how it is read.
        page: of a multi-page TIFF, counted from 0.
        orientation: of EXIF (1 to 8), to be applied instead of the file's.

    Raises:
        UserError: file missing, not regular, empty, cut short, of an unknown type, CMYK, of several
            unnamed channels or of integers beyond 16 bits; NaN or values outside [0, 1]; more than
            179 megapixels; no such page; or the library that decodes it is not installed.
    """
    with _opened(Path(path), page) as file:
        samples = file.decode()
        if orientation is not None:
            samples = turn_upright(turn_back(samples, file.tags.orientation), orientation)
        return make_photo(samples, file.tags.metadata)


def probe(path: str | Path, page: int = 0) -> Probe:
    """Read the header of an image file, or of a page of it; errors as :func:`read_photo`, as far as
    it shows them."""
    with _opened(Path(path), page) as file:
        about = file.dtype, file.grey, file.count_pages(), file.tags.taken, file.alpha
        return Probe(*file.size, *about, file.tags.orientation)


def write_photo(path: str | Path, photo: Photo) -> None:
    """Write a photograph with its profile, EXIF, XMP and resolution, whole or not at all.

    The extension gives the type: .png (8 and 16 bits), .tif (those and float32), .jpg (8 bits,
    quality 95, no transparency), .webp (8 bits, lossless; no grey). A colour profile of another
    colour space, such as RGB for a grey photograph, is left out; so is transparency that is nowhere
    less than opaque, if the type holds none; so are the longest values of EXIF, if a JPEG does not
    hold them all. Raises :class:`UserError` if the type is not written or does not hold the
    photograph's depth, transparency or size; or the folder cannot be made or written to.
    """
    path, alpha = Path(path), photo.alpha
    check_writable(path, photo.rgb.dtype, photo.transparent, photo.rgb.shape[:2])
    grey = photo.grey and path.suffix.lower() != ".webp"
    samples = photo.rgb
    if grey:
        import cv2

        samples = cv2.cvtColor(np.ascontiguousarray(samples), cv2.COLOR_RGB2GRAY)
    writer, _, holds_alpha, _ = WRITERS[path.suffix.lower()]
    if alpha is not None and holds_alpha:
        samples = np.dstack([samples, alpha])
    metadata = replace(photo.metadata, icc=photo.metadata.profile(grey))
    with atomic_path(path) as temporary:
        try:
            _load(path, writer).write(temporary, samples, metadata)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"cannot write {path}: {error}") from error


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write a map or picture as PNG, whole or not at all: (H, W, 3) RGB or (H, W) grey, uint8 or
    uint16; floating point in [0, 1] gives 8 bits. Makes the folder; raises :class:`UserError` if it
    cannot be made or written to."""
    if image.dtype.kind == "f":
        image = (np.clip(image, 0, 1) * np.float32(255)).round().astype(np.uint8)
    with atomic_path(path) as temporary:
        _load(path, "png").write(temporary, image, Metadata())


def check_extension(path: Path) -> None:
    """Raise a :class:`UserError` for a file type that :func:`read_photo` does not read."""
    if path.suffix.lower() not in EXTENSIONS:
        known = " ".join((*PLAIN, *HEIF))
        raise UserError(f"{path}: files {_kind(path)} are not read, use {known} or RAW")


def _kind(path: Path) -> str:
    return f"of type {path.suffix}" if path.suffix else "without an extension"


def check_writable(
    path: Path, dtype: np.dtype, alpha: bool = False, size: tuple[int, int] = (0, 0)
) -> None:
    """Raise a :class:`UserError` if :func:`write_photo` would refuse such a photograph (H, W)."""
    suffix, name = path.suffix.lower(), dtype.name
    if suffix not in WRITERS:
        raise UserError(f"{path}: files {_kind(path)} are not written, use {' '.join(WRITERS)}")
    _, depths, transparent, longest = WRITERS[suffix]
    if name not in depths:
        able = " or ".join(s for s, (_, held, *_) in WRITERS.items() if name in held)
        depth = DEPTHS.get(name, name)
        raise UserError(f"{path}: a {suffix} file holds no {depth} image; write {able}")
    if max(size) > longest:
        what = f"a side of {max(size)} pixels, {longest} is the longest"
        raise UserError(f"{path}: a {suffix} file holds no image with {what}; write .png or .tif")
    if alpha and not transparent:
        raise UserError(f"{path}: a {suffix} file holds no transparency; write .png, .tif or .webp")


def _format(path: Path) -> ModuleType:
    """The module that reads the file, by its content; RAW is told from TIFF by its name."""
    check_extension(path)
    check_regular(path)
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        raise UserError(f"{path} is empty (zero bytes)")
    if path.suffix.lower() in RAW:
        return _load(path, "raw")
    if head[:4] in TIFF_MARKS:
        return _load(path, "tiff")
    return _load(path, "heif" if head[4:8] == b"ftyp" else "pillow")


def _load(path: str | Path, module: str) -> ModuleType:
    try:
        return importlib.import_module(f"utils.formats.{module}")
    except ModuleNotFoundError as error:
        what = f"pip install {error.name.replace('_', '-')}"
        raise UserError(f"{path} needs a package that is not installed: {what}") from error


@contextlib.contextmanager
def _opened(path: Path, page: int) -> Iterator[Opened]:
    """Open an image file; exceptions of decoders on bad files become a :class:`UserError`."""
    try:
        with warnings.catch_warnings():
            # Of broken tags, and of 89 megapixels and more, which cameras reach; Pillow refuses
            # twice as many.
            warnings.simplefilter("ignore")
            with _format(path).opened(path, page) as file:
                yield file
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has more than {LARGEST / 1e6:.0f} megapixels, refused") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is no image that can be read, or its header is broken") from error
    except (*BROKEN, RuntimeError, AssertionError, zlib.error) as error:
        if reason := getattr(error, "strerror", None):
            raise UserError(f"cannot read {path}: {reason}") from error
        what = str(error) or "a part is missing"
        raise UserError(f"{path} is broken or cut short ({what})") from error
