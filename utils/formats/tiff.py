"""TIFF of 8 and 16 bits and floating point, of one page or many, through tifffile."""

import contextlib
import functools
import logging
import math
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, TiffFile, TiffPage

from utils.errors import UserError
from utils.formats import photo
from utils.formats.exif import INCHES, KEPT, XMP, for_result, load_directory, read_tags
from utils.formats.photo import Metadata, Opened
from utils.formats.segments import check_segments

GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
MODES = (*GREY, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE)
ALPHA = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
OVERSHOOT = 1e-3  # beyond [0, 1] that is clipped, not refused: rounding, sharpening
# Beginnings of descriptions that other programs use for the structure of the pages.
STRUCTURE = ("ImageJ=", "<?xml", "{")
# What tells channels of a microscope in OME-XML: a name but for its number, a dye, a colour.
CHANNEL = re.compile(r"<(?:\w+:)?Channel\s[^>]*>")
DYE = re.compile(r'\s(?:Name="[^"\d]*|(?:Fluor|EmissionWavelength|Color)="[^"]*)')
MICRON = ("micron", "microns", "um", "\u00b5m", "\u03bcm", r"\u00B5m")  # as ImageJ and OME write it
PER_INCH = {**dict.fromkeys(MICRON, 25400), "mm": 25.4, "nm": 25.4e6}
SIZE = re.compile(r'\sPhysicalSize([XY](?:Unit)?)="([^"]*)"')  # of a pixel, in OME-XML
HEADER = b"II*\0\x08\0\0\0"  # of a little-endian TIFF; the last four bytes point to the first page
PAGES = 10_000  # of a file
BYTE, ASCII, LONG = 1, 2, 4  # TIFF's types of unsigned 8-bit numbers, text, 32-bit numbers

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of non-standard tags


@contextlib.contextmanager
def opened(path: Path, number: int) -> Iterator[Opened]:
    about = path.stat()
    with _one_kind_of_errors(), TiffFile(path) as file:
        numbers = _photographs(path, about.st_size, about.st_mtime_ns)
        photo.check_page(path, number, len(numbers))
        page = file.pages[numbers[number]]
        photo.check_size(page.imagewidth, page.imagelength)
        dtype = _check(path, page)
        tags = read_tags(lambda: _exif(file, page), page.iccprofile)
        size = photo.upright_size(page.imagewidth, page.imagelength, tags.orientation)

        def decode() -> np.ndarray:
            return photo.turn_upright(_decode(path, page, dtype), tags.orientation)

        def count_pages() -> int:
            _check_stack(path, file, len(numbers))
            return len(numbers)

        grey, alpha = page.photometric in GREY, any(kind in ALPHA for kind in page.extrasamples)
        yield Opened(size, dtype, grey, tags, decode, count_pages, alpha)


@contextlib.contextmanager
def _one_kind_of_errors() -> Iterator[None]:
    """Before 2026, tifffile's own errors were no ValueError."""
    try:
        yield
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error


def write(path: Path, samples: np.ndarray, metadata: Metadata) -> None:
    """Write (H, W) or (H, W, C) samples of any depth: grey, grey and alpha, RGB or RGBA; with
    deflate and a predictor, which all readers based on libtiff know."""
    channels = samples.shape[2] if samples.ndim == 3 else 1
    exif = for_result(metadata, samples.shape[1], samples.shape[0])
    tags = [(tag, ASCII, 0, exif[tag].encode(), True) for tag in KEPT if tag in (exif or ())]
    if metadata.xmp:
        tags.append((XMP, BYTE, len(metadata.xmp), metadata.xmp, True))
    tifffile.imwrite(
        path,
        samples,
        byteorder="<",
        photometric="minisblack" if channels < 3 else "rgb",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        predictor=True,
        iccprofile=metadata.icc,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        software=False,
        metadata=None,
        extratags=tags,
    )
    if exif is not None:
        add_directories(path, {tag: exif[tag] for tag in (IFD.Exif, IFD.GPSInfo) if tag in exif})


def add_directories(path: Path, directories: dict[int, dict]) -> None:
    """Add EXIF and GPS directories, which tifffile does not write, to a little-endian TIFF.

    They are appended, followed by a copy of the first page's directory that points to them.
    ``directories``: tags and values of each, by the tag that points to it.
    """
    with path.open("r+b") as file:
        (first,) = struct.unpack("<I", file.read(8)[4:])
        file.seek(first)
        (count,) = struct.unpack("<H", file.read(2))
        entries = [file.read(12) for _ in range(count)]
        following = file.read(4)
        for tag, values in directories.items():
            directory = ImageFileDirectory_v2(HEADER, group=tag)
            for key, value in values.items():
                directory[key] = value
            position = _end(file)
            file.write(directory.tobytes(position))
            entries.append(struct.pack("<HHII", tag, LONG, 1, position))
        position = _end(file)
        entries.sort(key=lambda entry: struct.unpack_from("<H", entry))  # by tag
        file.write(struct.pack("<H", len(entries)) + b"".join(entries) + following)
        file.seek(4)
        file.write(struct.pack("<I", position))


def _end(file: BinaryIO) -> int:
    """Go to the end of a file; directories begin at even positions."""
    if file.seek(0, os.SEEK_END) % 2:
        file.write(b"\0")
    return file.tell()


@functools.lru_cache(maxsize=8)
def _photographs(path: Path, _size: int, _changed: int) -> list[int]:
    """The numbers of the pages except thumbnails; a circular chain ends where it returns. Found
    once for a file, since each page of a long one is opened by itself."""
    numbers, passed = [], set()
    with TiffFile(path) as file:
        for number, page in enumerate(file.pages):
            if page.offset in passed:
                break
            passed.add(page.offset)
            if len(passed) > PAGES:
                raise UserError(f"{path} has more than {PAGES} pages, refused; divide it")
            if not page.is_reduced:
                numbers.append(number)
    return numbers


def _check_stack(path: Path, file: TiffFile, pages: int) -> None:
    """Refuse a stack whose pages are not all frames of it, but channels or points in time as well.
    One that has only these is accepted, since programs write depth as one of them, unless it has
    channels that differ in colour or name."""
    page, about = file.pages.first, file.imagej_metadata or {}
    images = about.get("images", 1)
    if images > pages == 1 and page.dataoffsets[0] + images * page.nbytes <= path.stat().st_size:
        what = f"{path} holds {images} images behind one page, as ImageJ stores them"
        raise UserError(f"{what}; save them as an image sequence")
    sizes = [about.get(axis, 1) for axis in ("channels", "frames", "slices")]
    coloured = about.get("mode") in ("composite", "color")
    if file.is_ome:
        found = dict(re.findall(r'\sSize([CTZ])="(\d+)"', file.ome_metadata))
        sizes = [int(found.get(axis, 1)) for axis in "CTZ"]
        sizes[0] //= page.samplesperpixel
        coloured = len({(*DYE.findall(tag),) for tag in CHANNEL.findall(file.ome_metadata)}) > 1
    if math.prod(sizes) != pages:  # one of several files, or a page by itself
        return
    if sizes[0] == pages > 1 and coloured:
        what = f"{path} holds {pages} channels of one depth, not frames of a stack"
        raise UserError(f"{what}; if they are depths, save them as slices (Z)")
    if sum(size > 1 for size in sizes) > 1:
        kind, size = ("channel", sizes[0]) if sizes[0] > 1 else ("time point", sizes[1])
        raise UserError(f"{path} holds {size} {kind}s; save one {kind} as a stack of its own")


def _exif(file: TiffFile, page: TiffPage) -> Image.Exif:
    exif = load_directory(file.filehandle, file.byteorder, page.offset, file.is_bigtiff)
    if exif.get(Base.ImageDescription, "").startswith(STRUCTURE):
        del exif[Base.ImageDescription]
    if exif.get(Base.ResolutionUnit, 1) == 1:  # none
        with contextlib.suppress(ArithmeticError, LookupError, TypeError, ValueError):
            exif.update(_scale(file, exif))
    return exif


def _scale(file: TiffFile, exif: Image.Exif) -> dict[int, float]:
    """Resolution from the size of a pixel as OME has it, or with the unit as ImageJ has it."""
    if file.is_ome:
        # Of the first image; others may be overviews.
        size = dict(reversed(SIZE.findall(file.ome_metadata)))
        inches = (float(size[x]) / PER_INCH[size.get(f"{x}Unit", "um")] for x in "XY")
        x, y = (1 / side for side in inches)
    else:
        per_inch = PER_INCH[(file.imagej_metadata or {})["unit"]]
        x, y = (exif[tag] * per_inch for tag in (Base.XResolution, Base.YResolution))
    return {Base.XResolution: x, Base.YResolution: y, Base.ResolutionUnit: INCHES}


def _check(path: Path, page: TiffPage) -> np.dtype:
    """The type that the page's samples decode to; refuses what is not a photograph."""
    if page.photometric not in MODES and not (
        page.photometric == PHOTOMETRIC.YCBCR and page.compression == COMPRESSION.JPEG
    ):
        kind = {PHOTOMETRIC.SEPARATED: "CMYK"}.get(page.photometric, page.photometric.name)
        raise UserError(f"{path} is a {kind} image; convert it to RGB or grey")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise UserError(f"{path} is no flat image but a volume; store its slices as pages")
    if page.photometric in GREY and page.extrasamples.count(EXTRASAMPLE.UNSPECIFIED) > 1:
        what = f"{page.samplesperpixel} channels in each pixel, with nothing to say what they are"
        raise UserError(f"{path} has {what}; save each channel as a file of its own, or all as RGB")
    ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > path.stat().st_size:
        raise UserError(f"{path} is broken or cut short (it ends before its pixels do)")
    if page.dtype is not None and page.dtype.kind == "f":
        return np.dtype(np.float32)
    if page.dtype is None or page.dtype.kind not in "ub" or page.bitspersample > 16:
        bits = page.bitspersample
        what = f"an image of {bits}-bit {'signed ' * (page.sampleformat == 2)}integers"
        way = "convert it to 8 or 16 bits or to floating point in [0, 1]"
        raise UserError(f"{path} is {what}; {way}")
    return np.dtype(np.uint8 if page.bitspersample <= 8 else np.uint16)


def _decode(path: Path, page: TiffPage, dtype: np.dtype) -> np.ndarray:
    """(H, W, C) samples of ``dtype`` as they are stored, at full range."""
    check_segments(path, page)
    samples = page.asarray()
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(*samples.shape[:2], -1)
    colours = samples.shape[2] - len(page.extrasamples)
    alpha = [colours + i for i, kind in enumerate(page.extrasamples) if kind in ALPHA][:1]
    if samples.shape[2] != colours + len(alpha):  # there are other extra channels
        samples = samples[..., [*range(colours), *alpha]]
    if page.photometric == PHOTOMETRIC.PALETTE:
        palette = (page.colormap >> 8).astype(np.uint8).T
        return np.concatenate([palette[samples[..., 0]], samples[..., 1:]], axis=2)
    if dtype == np.float32:
        samples = _checked(path, samples.astype(np.float32, copy=False))
    elif page.bitspersample < 8:
        samples = np.rint(samples * (255 / (2**page.bitspersample - 1))).astype(np.uint8)
    elif page.bitspersample > 8:
        samples = photo.full_range(samples, 2**page.bitspersample - 1)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        samples[..., 0] = photo.white(dtype) - samples[..., 0]
    return photo.unmultiply(samples) if EXTRASAMPLE.ASSOCALPHA in page.extrasamples else samples


def _checked(path: Path, samples: np.ndarray) -> np.ndarray:
    """float32 samples in [0, 1]; values slightly beyond are clipped in place."""
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite([low, high]).all():
        raise UserError(f"{path} holds values that are no numbers (NaN or infinity)")
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        why = "floating-point photographs are fused in [0, 1]"
        way = "so divide all that belong together by one white level"
        raise UserError(f"{path} holds values from {low:g} to {high:g}; {why}, {way}")
    return samples if low >= 0 and high <= 1 else np.clip(samples, 0, 1, out=samples)
