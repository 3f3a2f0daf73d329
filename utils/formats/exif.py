"""EXIF: read it, choose what the result keeps, and write it."""

import contextlib
import struct
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import BinaryIO

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from utils.formats import xmp
from utils.formats.photo import Metadata, Tags

# Tags of the first directory. Its others describe the file: strips, thumbnail, software.
KEPT = [Base[x] for x in "ImageDescription Make Model DateTime Artist Copyright".split()]
# Tags of the photograph's directory with offsets into the source file.
DROPPED = (Base.MakerNote, IFD.Interop)
INTEROP = (1, 2)  # its index and version: all that tells Adobe RGB of a camera, without a profile
XMP = 700  # tag of the first directory
# Raised by Pillow on broken files and broken EXIF.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError)
BROKEN += (ArithmeticError, struct.error)
INCHES, CENTIMETRES = 2, 3  # of ResolutionUnit
PER_INCH = {INCHES: 1, CENTIMETRES: 2.54}
DENSEST = 1e8  # pixels per inch; PNG does not hold more


class _Text(str):
    """A text that Pillow writes as the bytes it read: by itself it writes accents as "?"."""

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1", "replace")


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
    dpi = (float(dpi[0]), float(dpi[1])) if dpi else stored  # not Pillow's fractions
    return Tags(orientation, taken, Metadata(icc, kept, dpi, xmp.keep(packet)))


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
    """EXIF of a result of this size, None if there is none; texts encode to the bytes read."""
    if metadata.exif is None and metadata.dpi is None:
        return None
    exif = _choose(load_bytes(metadata.exif))
    if IFD.Exif in exif:
        exif[IFD.Exif] |= {Base.ExifImageWidth: width, Base.ExifImageHeight: height}
    if metadata.dpi is not None:
        exif[Base.XResolution], exif[Base.YResolution] = metadata.dpi
        exif[Base.ResolutionUnit] = INCHES
    return exif


def _choose(exif: Image.Exif) -> Image.Exif:
    """The tags to keep, upright; empty if there are none. Directories within are dictionaries."""
    chosen = Image.Exif()
    chosen.update(_writable({tag: exif[tag] for tag in KEPT if tag in exif}))
    for directory in (IFD.Exif, IFD.GPSInfo):
        tags = {tag: v for tag, v in exif.get_ifd(directory).items() if tag not in DROPPED}
        if directory == IFD.Exif and (interop := _or_none(_interop, exif)):
            tags[IFD.Interop] = interop
        if tags := _writable(tags, directory):
            chosen[directory] = tags
    if len(chosen):
        chosen[Base.Orientation] = 1
    return chosen


def _interop(exif: Image.Exif) -> dict[int, object]:
    interop = exif.get_ifd(IFD.Interop)
    return {tag: interop[tag] for tag in INTEROP if tag in interop}


def _writable(tags: dict[int, object], group: int | None = None) -> dict[int, object]:
    """The tags that Pillow can write: it cannot write, say, a negative fraction of zero."""
    kept = {}
    for tag, value in tags.items():
        directory = ImageFileDirectory_v2(group=group)
        value = _Text(value) if isinstance(value, str) else value
        with contextlib.suppress(*BROKEN):
            directory[tag] = value
            directory.tobytes()
            kept[tag] = value
    return kept


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
    factor = PER_INCH[exif.get(Base.ResolutionUnit, INCHES)]
    x, y = (float(exif[tag]) * factor for tag in (Base.XResolution, Base.YResolution))
    return (x, y) if 0 < x < DENSEST and 0 < y < DENSEST else None


def _kept(exif: Image.Exif) -> bytes | None:
    chosen = _choose(exif)
    return chosen.tobytes() if len(chosen) else None
