"""Photographs from files and to files, against other libraries and the EXIF standard."""

from __future__ import annotations

import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    GREY_PROFILE,
    SEEN,
    SRGB,
    TAKEN,
    XMP,
    chunk,
    encoded,
    exif,
    noise,
    seen,
    tags_of,
)
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from utils.formats import xmp
from utils.images import Metadata, Photo, probe, read_photo, write_photo, write_png

ROOT = Path(__file__).parents[1]
HELD = {  # depths by extension
    ".png": ("uint8", "uint16"),
    ".tif": ("uint8", "uint16", "float32"),
    ".webp": ("uint8",),
    ".jpg": ("uint8",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def metadata(folder) -> Metadata:
    """As read from a JPEG."""
    path = folder / "metadata.jpg"
    about = {"exif": exif(), "icc_profile": SRGB, "dpi": (300, 300), "xmp": XMP}
    path.write_bytes(encoded(noise(4, 4, 3), "JPEG", **about))
    return read_photo(path).metadata


# What is written is read back, by us and by others


@given(
    kind=st.sampled_from([(suffix, d) for suffix, depths in HELD.items() for d in depths]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    grey=st.booleans(),
    transparent=st.booleans(),
    described=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_round_trip(folder, metadata, kind, size, grey, transparent, described, seed):
    suffix, dtype = kind
    transparent &= suffix != ".jpg"
    rgb = noise(*size, 3, dtype=dtype, seed=seed)
    if grey:
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    alpha = noise(*size, dtype=dtype, seed=seed + 1) if transparent else None
    profile = GREY_PROFILE if grey and suffix != ".webp" else SRGB
    given = replace(metadata, icc=profile) if described else Metadata()
    path = folder / f"x{suffix}"
    write_photo(path, Photo(rgb, grey, alpha, given))
    photo, head = read_photo(path), probe(path)

    assert photo.rgb.dtype == dtype and photo.rgb.shape == (*size, 3)
    if suffix == ".jpg":
        # Of as few as four pixels.
        assert np.abs(photo.rgb.astype(int) - rgb).mean() < (4 if grey else 10)
    elif dtype == "float32":  # the luma of three equal channels is that of one but for rounding
        np.testing.assert_allclose(photo.rgb, rgb, atol=2e-7 if grey else 0)
    else:
        np.testing.assert_array_equal(photo.rgb, rgb)
    assert photo.grey == (grey and suffix != ".webp")
    assert (photo.alpha is not None) == head.alpha == transparent
    if transparent:
        np.testing.assert_array_equal(photo.alpha, alpha)
    assert (photo.metadata.icc, photo.metadata.xmp) == (given.icc, given.xmp)
    if described:
        assert photo.metadata.dpi == pytest.approx((300, 300), abs=0.01)
        tags = tags_of(photo.metadata.exif)
        assert tags[Base.Artist].encode("latin-1") == "Zoë".encode()
        assert tags.get_ifd(IFD.Exif)[Base.ISOSpeedRatings] == 200
        assert tags.get_ifd(IFD.GPSInfo)[2] == (1, 2, 3)
    else:
        assert photo.metadata == Metadata()
    assert (head.width, head.height) == size[::-1]
    assert (head.dtype, head.grey, head.pages) == (photo.rgb.dtype, photo.grey, 1)
    assert head.taken == (TAKEN if described else None)


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels"),
    [
        (suffix, dtype, channels)
        for suffix, depths in HELD.items()
        for dtype in depths
        for channels in ((1, 3) if suffix == ".jpg" else (1, 3, 4))
    ],
)
def test_other_readers_agree(tmp_path, metadata, suffix, dtype, channels):
    """Pillow decodes what we write, OpenCV what has more than 8 bits; Pillow finds its metadata."""
    path = tmp_path / f"x{suffix}"
    rgb = cv2.GaussianBlur(noise(30, 41, 3, dtype=dtype), (0, 0), 3)
    rgb = np.repeat(rgb[..., :1], 3, axis=2) if channels == 1 else rgb
    alpha = noise(30, 41, dtype=dtype, seed=5) if channels == 4 else None
    profile = GREY_PROFILE if channels == 1 and suffix != ".webp" else SRGB
    write_photo(path, Photo(rgb, channels == 1, alpha, replace(metadata, icc=profile)))

    if dtype == "uint8":
        pixels = np.asarray(Image.open(path))
    else:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        pixels = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    assert pixels.dtype == dtype
    colours = pixels[..., :3] if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    tolerance = {".jpg": 8 / 255}.get(suffix, 1e-6 if dtype == "float32" else 0) * white
    np.testing.assert_allclose(colours.astype(float), rgb, rtol=0, atol=tolerance)
    if alpha is not None:
        np.testing.assert_array_equal(pixels[..., 3], alpha)

    if (dtype, channels) == ("float32", 1) or dtype != "float32":  # Pillow has no float RGB
        with Image.open(path) as image:
            assert image.info["icc_profile"] == profile and image.info["xmp"] == metadata.xmp
            tags = image.getexif()
            assert tags[Base.Make] == "Pentax" and tags.get(Base.Orientation, 1) == 1
            assert tags[Base.XResolution] == 300 or "dpi" in image.info
            assert image.info.get("dpi", (300, 300)) == pytest.approx((300, 300), abs=0.01)
            photograph = tags.get_ifd(IFD.Exif)
            assert photograph[Base.ExifImageWidth] == 41 and Base.MakerNote not in photograph
            assert photograph[Base.DateTimeOriginal] == "2024:05:06 07:08:09"
            assert tags.get_ifd(IFD.GPSInfo)[2] == (1, 2, 3)


def test_xmp_of_the_picture_is_kept_and_that_of_the_file_is_not():
    kept = xmp.keep(XMP)
    description = ET.fromstring(kept)[0][0]
    names = {
        name.rpartition("}")[2] for name in (*description.attrib, *(x.tag for x in description))
    }
    assert names == {"about", "Rating", "subject", "rights"}
    assert "".join(description.itertext()).split() == ["Käfer", "&", "Blüte", "©", "Zoë"]
    assert xmp.keep(kept) == kept  # a result of results


def test_place_in_xmp_is_kept():
    """As programs write it into the sidecar of a RAW file, whose own EXIF has none."""
    place = b"exif:GPSLatitude='47,30.5N' exif:GPSLongitude='8,45.25E' exif:GPSAltitude='400/1'"
    other = b" xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:PixelXDimension='6000' "
    kept = xmp.keep(XMP.replace(b" xmp:Rating", other + place + b" xmp:Rating"))
    names = {name.rpartition("}")[2] for name in ET.fromstring(kept)[0][0].attrib}
    assert names == {"about", "Rating", "GPSLatitude", "GPSLongitude", "GPSAltitude"}


@pytest.mark.parametrize(
    "packet",
    [
        None,
        b"",
        XMP[:-300],
        b"\xff" * 100,
        XMP.replace(b"<x:xmpmeta", b"<!DOCTYPE x [<!ENTITY a 'aaa'>]><x:xmpmeta"),
        XMP.replace(b"dc/elements", b"another").replace(b"xap/1.0/", b"another"),
        XMP.replace(b"K", b"K" * 70_000),
        b"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>" + b"<a>" * 100_000,
        XMP.replace(b"<rdf:li>0, 0</rdf:li>", b"").replace(
            b"</dc:rights>", b"<a>" * 5000 + b"</a>" * 5000 + b"</dc:rights>"
        ),
    ],
)
def test_xmp_that_is_broken_or_says_nothing_is_left_out(packet):
    assert xmp.keep(packet) is None


@pytest.mark.parametrize("width", range(3, 7))
def test_tiff_directories_begin_at_even_positions(tmp_path, metadata, width):
    """As TIFF 6.0, section 2, has it."""
    write_photo(tmp_path / "x.tif", Photo(noise(3, width, 3), metadata=metadata))
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        page = file.pages[0]
        pointers = [page.tags[tag].valueoffset for tag in (IFD.Exif, IFD.GPSInfo)]
        positions = [page.offset]
        for pointer in pointers:
            file.filehandle.seek(pointer)
            positions.append(int.from_bytes(file.filehandle.read(4), "little"))
    assert all(position % 2 == 0 for position in positions)


def test_maps(tmp_path):
    depth = noise(20, 30, dtype="uint16")
    write_png(tmp_path / "depth.png", depth)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "depth.png"), -1), depth)
    write_png(tmp_path / "half.png", np.full((4, 4), 0.5, np.float32))
    assert (np.asarray(Image.open(tmp_path / "half.png")) == 128).all()


def test_a_profile_of_colours_is_not_written_on_grey(tmp_path):
    grey = np.repeat(noise(5, 5, 1), 3, axis=2)
    write_photo(tmp_path / "x.png", Photo(grey, True, None, Metadata(SRGB)))
    assert "icc_profile" not in Image.open(tmp_path / "x.png").info


# Orientation


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("kind", ["png", "png16", "late", "tif", "webp"])
def test_orientation(tmp_path, kind, orientation):
    stored = noise(70, 5, 3, dtype="uint16" if kind == "png16" else "uint8")
    path = tmp_path / f"x.{'png' if kind in ('png16', 'late') else kind}"
    late = imagecodecs.png_encode(stored)  # its EXIF behind the pixels, as some tools put it
    block = exif(orientation).removeprefix(b"Exif\0\0")
    if kind in ("png16", "late"):
        path.write_bytes(late[:-12] + chunk(b"eXIf", block) + late[-12:])
    elif kind == "webp":
        path.write_bytes(encoded(stored, "WEBP", exif=exif(orientation), lossless=True))
    else:
        path.write_bytes(encoded(stored, {"tif": "TIFF"}.get(kind, "PNG"), exif=exif(orientation)))
    photo, head = read_photo(path), probe(path)
    np.testing.assert_array_equal(photo.rgb, seen(stored, orientation))
    assert photo.rgb.flags.c_contiguous
    assert (head.height, head.width) == photo.rgb.shape[:2] and head.taken == TAKEN
    assert tags_of(photo.metadata.exif)[Base.Orientation] == 1


# EXIF of single tags


def camera(tmp_path: Path, tags: dict[int, object]) -> Path:
    """A JPEG with these tags in its photograph's directory."""
    about = tags_of(exif())
    about.get_ifd(IFD.Exif).update(tags)
    path = tmp_path / "camera.jpg"
    path.write_bytes(encoded(noise(8, 9, 3), "JPEG", exif=about))
    return path


@pytest.mark.parametrize("suffix", HELD)
def test_accents_and_adobe_rgb_of_a_camera_are_kept(tmp_path, suffix):
    """Cameras tell Adobe RGB by interoperability index R03 alone (DCF 2.0)."""
    interop = {1: "R03", 2: b"0100", 4097: 4000}
    given = {Base.CameraOwnerName: "Jxrgen", Base.ColorSpace: 65535, IFD.Interop: interop}
    path = camera(tmp_path, given)
    path.write_bytes(path.read_bytes().replace(b"Jxrgen", "Jürgen".encode("latin-1")))
    write_photo(tmp_path / f"x{suffix}", read_photo(path))
    with Image.open(tmp_path / f"x{suffix}") as image:
        tags = image.getexif()
        photograph = tags.get_ifd(IFD.Exif)
        assert photograph[Base.CameraOwnerName] == "Jürgen"
        assert photograph[Base.ColorSpace] == 65535
        assert tags.get_ifd(IFD.Interop) == {1: "R03", 2: b"0100"}


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".tif"])
def test_exif_that_is_too_long_for_a_jpeg_does_not_lose_the_photograph(tmp_path, suffix):
    tags = tags_of(exif())
    tags[Base.ImageDescription] = "settings " * 9000
    tags.get_ifd(IFD.Exif)[Base.UserComment] = b"ASCII\0\0\0" + b"x" * 60000
    given = Metadata(exif=tags.tobytes())
    write_photo(tmp_path / f"x{suffix}", Photo(noise(20, 30, 3), metadata=given))
    found = tags_of(read_photo(tmp_path / f"x{suffix}").metadata.exif)
    assert (Base.ImageDescription in found) == (suffix != ".jpg")
    assert len(found.get_ifd(IFD.Exif)[Base.UserComment]) == 60008
    assert found.get_ifd(IFD.Exif)[Base.ISOSpeedRatings] == 200 and found[Base.Make] == "Pentax"


def test_a_tag_that_cannot_be_written_costs_no_other(tmp_path):
    path = camera(tmp_path, {Base.ExposureBiasValue: IFDRational(-7, 3)})
    fraction = struct.pack(">ii", -7, 3)
    assert path.read_bytes().count(fraction) == 1
    path.write_bytes(path.read_bytes().replace(fraction, struct.pack(">ii", -7, 0)))
    photograph = tags_of(read_photo(path).metadata.exif).get_ifd(IFD.Exif)
    assert photograph[Base.ISOSpeedRatings] == 200 and Base.ExposureBiasValue not in photograph


# EXIF that is broken


@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", b"Exif\0\0junk", exif(6)[:40], b"Exif\0\0II*\0\xff\xff\xff\x7f"],
)
def test_broken_exif_does_not_lose_the_photograph(tmp_path, block):
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(noise(8, 9, 3), "JPEG", exif=block))
    assert read_photo(path).rgb.shape in ((8, 9, 3), (9, 8, 3))
    assert probe(path).taken is None


def test_unusual_exif_values(tmp_path):
    tags = tags_of(exif())
    tags[Base.Orientation] = 42
    tags.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "0000:00:00 00:00:00"
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(noise(8, 9, 3), "JPEG", exif=tags))
    assert read_photo(path).rgb.shape == (8, 9, 3)
    assert probe(path).taken is None


# Start-up and memory


def run(code: str, *args: str) -> str:
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_decoders_load_when_they_are_needed():
    loaded = run("import sys, utils.images; print(*sys.modules)").split()
    assert "PIL" in loaded
    assert not {"tifffile", "imagecodecs", "rawpy", "pillow_heif", "cv2", "torch"} & set(loaded)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is not told here")
def test_reading_holds_little_more_than_the_photograph(tmp_path):
    """12 megapixels, orientation and all, in 2.7 times their size; Pillow's own copy is 4/3."""
    for name, (height, width) in {"small": (8, 8), "large": (3000, 4000)}.items():
        image = np.zeros((height, width, 3), np.uint8)
        (tmp_path / f"{name}.jpg").write_bytes(encoded(image, "JPEG", exif=exif(6)))
    code = r"""
import re, sys
from utils.images import read_photo
status = lambda: open("/proc/self/status").read()
peak = lambda: int(re.search(r"VmHWM:\s+(\d+) kB", status())[1]) * 1024
read_photo(sys.argv[1])
before = peak()
size = read_photo(sys.argv[2]).rgb.nbytes
print((peak() - before) / size)
"""
    frames = float(run(code, str(tmp_path / "small.jpg"), str(tmp_path / "large.jpg")))
    assert 2 < frames < 2.7
