"""Files that cannot be read, and photographs that a file cannot hold."""

from __future__ import annotations

import io
import struct
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
from image_files import encoded, noise, write_dng
from PIL import Image

from tests.hostile.fault_files import heic, png
from utils.errors import UserError
from utils.images import Photo, read_photo, write_photo


def tiff(image: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


def tiff_bomb() -> bytes:
    return tiff(np.zeros((1, 1), np.uint8)).replace(
        struct.pack("<HHII", 256, 4, 1, 1), struct.pack("<HHII", 256, 4, 1, 10**9)
    )


VOLUME = {"photometric": "minisblack", "volumetric": True, "tile": (16, 16, 16)}
CUT = {
    "x.png": encoded(noise(24, 24, 3), "PNG"),
    "16.png": imagecodecs.png_encode(noise(24, 24, 3, dtype="uint16")),
    "x.jpg": encoded(noise(24, 24, 3), "JPEG"),
    "x.webp": encoded(noise(24, 24, 3), "WEBP"),
    "x.tif": encoded(noise(24, 24, 3), "TIFF"),
    "lzw.tif": tiff(noise(24, 24, 3), compression="lzw", photometric="rgb"),
    "jpeg.tif": tiff(noise(24, 24, 3), compression="jpeg", photometric="rgb"),
    "16.ppm": b"P6 24 24 65535\n" + noise(24, 24, 3, dtype="uint16").tobytes(),
    "x.heic": heic(noise(64, 64, 3)),
}

BAD = {
    "none.png": (None, "No such file"),
    "zero.png": (b"", "zero bytes"),
    "zero.dng": (b"", "zero bytes"),
    "text.png": (b"not an image at all", "no image"),
    "text.heic": (b"not an image at all", "no image"),
    "text.nef": (b"not an image at all", "no RAW file"),
    "x.xyz": (b"?", r"type \.xyz are not read"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
    "bomb.png": (png(40000, 40000, bytes(100)), "179 megapixels"),
    "bomb.tif": (tiff_bomb(), "179 megapixels"),
    "lying.png": (png(4000, 4000, bytes(100)), "cut short"),
    "cmyk.jpg": (encoded(Image.new("CMYK", (9, 9)), "JPEG"), "CMYK image; convert"),
    "cmyk.tif": (encoded(Image.new("CMYK", (9, 9)), "TIFF"), "CMYK image; convert"),
    "lab.tif": (encoded(Image.new("LAB", (9, 9)), "TIFF"), "CIELAB image; convert"),
    "int32.tif": (tiff(np.zeros((9, 9), np.int32)), "32-bit signed integers"),
    "uint32.tif": (tiff(np.zeros((9, 9), np.uint32)), "32-bit integers"),
    "int16.tif": (tiff(np.zeros((9, 9), np.int16)), "16-bit signed integers"),
    "nan.tif": (tiff(np.full((9, 9), np.nan, np.float32)), "NaN"),
    "inf.tif": (tiff(np.full((9, 9), np.inf, np.float32)), "NaN or infinity"),
    "hdr.tif": (tiff(np.linspace(0, 4, 81, dtype=np.float32).reshape(9, 9)), "from 0 to 4"),
    "negative.tif": (tiff(np.full((9, 9), -0.5, np.float32)), "from -0.5 to"),
    "volume.tif": (tiff(np.zeros((16,) * 3, np.uint8), **VOLUME), "volume"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(tmp_path, name):
    content, said = BAD[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_photo(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_photograph(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(UserError, match=r"x\.png: Is a directory"):
        read_photo(tmp_path / "x.png")


def test_a_rounding_error_beyond_white_is_clipped(tmp_path):
    values = np.linspace(-1e-6, 1 + 1e-6, 81, dtype=np.float32).reshape(9, 9)
    tifffile.imwrite(tmp_path / "x.tif", values)
    rgb = read_photo(tmp_path / "x.tif").rgb
    assert rgb.min() == 0 and rgb.max() == 1


@pytest.mark.parametrize("name", [*CUT, "x.dng"])
def test_a_file_cut_anywhere_is_refused_or_read(tmp_path, name):
    """No cut ends in anything but a clear error (or in a whole image, if the end is a trailer)."""
    path = tmp_path / name
    if name == "x.dng":
        write_dng(path, noise(24, 24, 3, dtype="float32"))
    else:
        path.write_bytes(CUT[name])
    whole = path.read_bytes()
    shape, refused = read_photo(path).rgb.shape, 0
    for length in np.linspace(1, len(whole) - 1, 30).astype(int):
        path.write_bytes(whole[:length])
        try:
            assert read_photo(path).rgb.shape == shape
        except UserError as error:
            refused += str(path) in str(error)
    assert refused >= 24


@pytest.mark.parametrize(
    ("name", "dtype", "alpha", "said"),
    [
        ("x.jpg", "uint16", False, r"\.jpg file holds no 16-bit image; write \.png or \.tif"),
        ("x.webp", "uint16", False, "no 16-bit image"),
        ("x.png", "float32", False, r"no floating-point image; write \.tif"),
        ("x.jpeg", "uint8", True, "no transparency"),
        ("x.gif", "uint8", False, r"type \.gif are not written"),
    ],
)
def test_what_a_type_cannot_hold_is_refused(tmp_path, name, dtype, alpha, said):
    rgb = noise(8, 9, 3, dtype=dtype)
    with pytest.raises(UserError, match=said):
        write_photo(tmp_path / name, Photo(rgb, False, rgb[..., 0] if alpha else None))
    assert not list(tmp_path.iterdir())


def test_an_alpha_that_is_opaque_everywhere_is_left_out_of_a_jpeg(tmp_path):
    rgb = noise(8, 9, 3)
    write_photo(tmp_path / "with.jpg", Photo(rgb, alpha=np.full((8, 9), 255, np.uint8)))
    write_photo(tmp_path / "without.jpg", Photo(rgb))
    assert (tmp_path / "with.jpg").read_bytes() == (tmp_path / "without.jpg").read_bytes()


@pytest.mark.parametrize("name", ["x.webp", "x.jpg"])
def test_a_size_that_a_type_cannot_hold_is_refused(tmp_path, name):
    said = rf"{name}: a \.\w+ file holds no image with a side of 70000 pixels"
    with pytest.raises(UserError, match=said):
        write_photo(tmp_path / name, Photo(np.zeros((1, 70000, 3), np.uint8)))
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "utils.formats.heif", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "x.heic").write_bytes(CUT["x.heic"])
    with pytest.raises(UserError, match=r"x\.heic needs .* pip install pillow-heif"):
        read_photo(tmp_path / "x.heic")
