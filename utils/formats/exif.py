"""EXIF: read it, choose what the result keeps, and write it."""

import struct
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import BinaryIO

from PIL import Image
from PIL.ExifTags import IFD, Base

from utils.formats import xmp
from utils.formats.photo import Metadata, Tags

# Tags of the first directory. Its others describe the file: strips, thumbnail, software.
KEPT = [Base[x] for x in "ImageDescription Make Model DateTime Artist Copyright".split()]
# Tags of the photograph's directory with offsets into the source file.
DROPPED = (Base.MakerNote, IFD.Interop)
XMP = 700  # tag of the first directory
# Raised by Pillow on broken files and broken EXIF.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError)
BROKEN += (ArithmeticError, struct.error)
INCHES, CENTIMETRES = 2, 3  # of ResolutionUnit


def read_tags(
    load: Callable[[], Image.Exif],
    icc: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    packet: object = None,
) -> Tags:
    """Read what ``load`` returns; broken EXIF counts as none. The rest of the metadata is given,
    with XMP as its ``packet``; by default the resolution is that of EXIF, and the packet that of
    its directory, where TIFF has it."""
    try:
        exif = load()
        orientation = exif.get(Base.Orientation, 1)
    except BROKEN:
        return Tags(metadata=Metadata(icc, None, dpi, xmp.keep(packet)))
    taken, stored, kept = (_or_none(part, exif) for part in (_taken, _dpi, _kept))
    if packet is None:
        packet = _or_none(lambda exif: exif.get(XMP), exif)
    orientation = orientation if orientation in range(1, 9) else 1
    return Tags(orientation, taken, Metadata(icc, kept, dpi or stored, xmp.keep(packet)))


def load_bytes(data: bytes | None) -> Image.Exif:
    """EXIF from a block of bytes, with or without JPEG's prefix."""
    exif = Image.Exif()
    exif.load(data or b"")
    return exif


def load_directory(file: BinaryIO, endian: str, offset: int, bigtiff: bool = False) -> Image.Exif:
    """EXIF from the directory at ``offset`` of a TIFF-like file, which must stay open."""
    exif = Image.Exif()
    exif.endian, exif.bigtiff = endian, bigtiff
    exif.load_from_fp(file, offset)
    return exif


def for_result(metadata: Metadata, width: int, height: int) -> Image.Exif | None:
    """EXIF of a result of this size, None if there is none; texts are bytes."""
    if metadata.exif is None and metadata.dpi is None:
        return None
    exif = load_bytes(metadata.exif)
    exif.update(_texts(exif))
    if IFD.Exif in exif:
        photograph = exif.get_ifd(IFD.Exif)
        photograph[Base.ExifImageWidth], photograph[Base.ExifImageHeight] = width, height
    if metadata.dpi is not None:
        exif[Base.XResolution], exif[Base.YResolution] = metadata.dpi
        exif[Base.ResolutionUnit] = INCHES
    return exif


def _texts(exif: Image.Exif) -> dict[int, bytes]:
    """Texts to keep, as the bytes Pillow read: it would write accents as question marks."""
    return {tag: exif[tag].encode("latin-1") for tag in KEPT if tag in exif}


def _or_none(part: Callable, exif: Image.Exif):
    try:
        return part(exif)
    except BROKEN:
        return None


def _taken(exif: Image.Exif) -> datetime | None:
    photograph = exif.get_ifd(IFD.Exif)
    if Base.DateTimeOriginal not in photograph:
        return None
    taken = datetime.strptime(photograph[Base.DateTimeOriginal].strip("\0 "), "%Y:%m:%d %H:%M:%S")
    fraction = str(photograph.get(Base.SubsecTimeOriginal, "")).strip("\0 ")
    return taken + timedelta(seconds=float(f"0.{fraction}")) if fraction.isdigit() else taken


def _dpi(exif: Image.Exif) -> tuple[float, float] | None:
    unit = exif.get(Base.ResolutionUnit, INCHES)
    x, y = float(exif[Base.XResolution]), float(exif[Base.YResolution])
    if unit not in (INCHES, CENTIMETRES) or not (0 < x < 1e6 and 0 < y < 1e6):
        return None
    return (x * 2.54, y * 2.54) if unit == CENTIMETRES else (x, y)


def _kept(exif: Image.Exif) -> bytes | None:
    result = Image.Exif()
    result.update(_texts(exif))
    for directory in (IFD.Exif, IFD.GPSInfo):
        tags = {tag: v for tag, v in exif.get_ifd(directory).items() if tag not in DROPPED}
        if tags:
            result[directory] = tags
    if not len(result):
        return None
    result[Base.Orientation] = 1
    return result.tobytes()
