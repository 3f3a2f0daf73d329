"""Depths and layouts of the single types of files, RAW among them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
import tifffile
from image_files import SRGB, TAKEN, XMP, chunk, encoded, exif, noise, seen, tags_of, write_dng
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from utils.errors import UserError
from utils.formats import xmp
from utils.images import probe, read_photo, write_photo, write_png


@pytest.mark.parametrize("largest", [1023, 4095, 65535])
@pytest.mark.parametrize("head", [b"P5", b"P6", b"P2", b"P3"])
def test_pnm_is_stretched_to_the_full_range(tmp_path, head, largest):
    shape = (6, 7, 3) if head in (b"P6", b"P3") else (6, 7)
    values = np.random.default_rng(0).integers(0, largest + 1, shape)
    values.flat[0] = largest
    plain = head in (b"P2", b"P3")
    body = " ".join(map(str, values.flat)).encode() if plain else values.astype(">u2").tobytes()
    (tmp_path / "x.ppm").write_bytes(head + b"\n7 6\n%d\n" % largest + body)
    photo, known = read_photo(tmp_path / "x.ppm"), probe(tmp_path / "x.ppm")
    expected = np.rint(values * 65535 / largest)
    np.testing.assert_array_equal(photo.rgb if len(shape) == 3 else photo.rgb[..., 0], expected)
    assert photo.rgb.dtype == known.dtype == np.uint16
    assert photo.grey == known.grey == (len(shape) == 2)


@pytest.mark.parametrize("bits", [*range(2, 8), 10, 12, 14])
def test_tiff_of_odd_depths_is_stretched_to_the_full_range(tmp_path, bits):
    dtype = np.uint8 if bits < 8 else np.uint16
    values = np.random.default_rng(0).integers(0, 2**bits, (60, 70, 3)).astype(dtype)
    # Rows of whole bytes, packed from the highest bit on: not every imagecodecs can write them.
    rows = np.unpackbits(values.astype(">u2").reshape(60, -1, 1).view(np.uint8), axis=2)
    packed = np.packbits(rows[..., -bits:].reshape(60, -1), axis=1).tobytes()
    tifffile.imwrite(
        tmp_path / "x.tif",
        iter([packed]),
        shape=values.shape,
        dtype=dtype,
        photometric="rgb",
        bitspersample=bits,
        rowsperstrip=60,
    )
    expected = np.rint(values * (np.iinfo(dtype).max / (2**bits - 1)))
    np.testing.assert_array_equal(read_photo(tmp_path / "x.tif").rgb, expected)


def test_bmp_of_16_bits_a_pixel(tmp_path):
    """5 bits of red, 6 of green, 5 of blue, from the bottom up (Windows' BITMAPINFOHEADER)."""
    red, green, blue = (np.random.default_rng(0).integers(0, n, (6, 8)) for n in (32, 64, 32))
    pixels = (red << 11 | green << 5 | blue).astype("<u2")[::-1].tobytes()
    about = struct.pack("<IiiHHIIiiII", 40, 8, 6, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    about += struct.pack("<III", 0xF800, 0x7E0, 0x1F)  # masks of the colours
    start = 14 + len(about)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    (tmp_path / "x.bmp").write_bytes(head + about + pixels)
    photo = read_photo(tmp_path / "x.bmp")
    assert photo.rgb.dtype == np.uint8 and not photo.grey
    expected = np.dstack([red / 31, green / 63, blue / 31]) * 255
    np.testing.assert_allclose(photo.rgb, expected, atol=1)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_xmp_of_png_may_follow_the_pixels(tmp_path, late, compressed):
    packet = zlib.compress(XMP) if compressed else XMP
    head = b"XML:com.adobe.xmp\0" + (b"\1\0" if compressed else b"\0\0") + b"en\0title\0"
    chunks = chunk(b"iTXt", b"Comment\0\0\0\0\0none") + chunk(b"iTXt", head + packet)
    file = encoded(noise(6, 7, 3), "PNG")
    place = -12 if late else 33  # before the last chunk or after the first
    (tmp_path / "x.png").write_bytes(file[:place] + chunks + file[place:])
    assert read_photo(tmp_path / "x.png").metadata.xmp == xmp.keep(XMP)


def test_broken_late_xmp_does_not_lose_the_photograph(tmp_path):
    file = encoded(noise(6, 7, 3), "PNG")
    body = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0junk")
    (tmp_path / "x.png").write_bytes(file[:-12] + body + file[-12:])
    assert read_photo(tmp_path / "x.png").metadata.xmp is None


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("layout", ["contig", "separate", "tiled", "bigtiff", ">"])
def test_tiff_layouts(tmp_path, compression, layout):
    values = noise(40, 50, 3, dtype="uint16")
    options = {
        "separate": {"planarconfig": "separate"},
        "tiled": {"tile": (16, 16)},
        "bigtiff": {"bigtiff": True},
        ">": {"byteorder": ">"},
    }.get(layout, {})
    stored = np.moveaxis(values, -1, 0) if layout == "separate" else values
    tifffile.imwrite(
        tmp_path / "x.tif", stored, photometric="rgb", compression=compression, **options
    )
    np.testing.assert_array_equal(read_photo(tmp_path / "x.tif").rgb, values)


def test_tiff_pages(tmp_path):
    pages = noise(3, 20, 30, dtype="uint16")
    tifffile.imwrite(tmp_path / "x.tif", pages, imagej=True)
    assert probe(tmp_path / "x.tif").pages == 3
    for number, page in enumerate(pages):
        photo = read_photo(tmp_path / "x.tif", number)
        np.testing.assert_array_equal(photo.rgb[..., 2], page)
        assert photo.grey and photo.metadata.exif is None  # no claim of 3 pages for ImageJ
    for number in (-1, 3):
        with pytest.raises(UserError, match=rf"x\.tif has 3 pages.* no page {number}"):
            read_photo(tmp_path / "x.tif", number)
    write_png(tmp_path / "x.png", pages[0])
    with pytest.raises(UserError, match="has 1 page.* no page 1"):
        read_photo(tmp_path / "x.png", 1)


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize(("axes", "message"), [("ZCYX", "2 channels"), ("TZYX", "3 time points")])
def test_pages_that_are_not_all_frames_are_no_stack(tmp_path, kind, axes, message):
    pages, path = noise(3, 2, 20, 30, dtype="uint16"), tmp_path / "x.tif"
    tifffile.imwrite(path, pages, metadata={"axes": axes}, **{kind: True})
    with pytest.raises(UserError, match=rf"x\.tif holds {message}; save one"):
        probe(path)
    np.testing.assert_array_equal(read_photo(path, 5).rgb[..., 0], pages[2, 1])


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX", "YXS", "ZYXS"])
def test_pages_along_one_axis_are_a_stack(tmp_path, kind, axes):
    shape = {"Z": 4, "T": 4, "C": 4, "Y": 20, "X": 30, "S": 3}
    pages = noise(*(shape[axis] for axis in axes))
    tifffile.imwrite(tmp_path / "x.tif", pages, metadata={"axes": axes}, **{kind: True})
    assert probe(tmp_path / "x.tif").pages == (1 if axes == "YXS" else 4)


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("imagej", {"mode": "composite"}),
        ("imagej", {"mode": "color"}),
        ("ome", {"Channel": {"Name": ["DAPI", "FITC", "Cy5"]}}),
        ("ome", {"Channel": {"EmissionWavelength": [461, 519, 666]}}),
        ("ome", {"Channel": {"Color": [65535, 16711935, -16776961]}}),
    ],
)
def test_channels_of_one_depth_are_no_stack(tmp_path, kind, about):
    pages, path = noise(3, 20, 30, dtype="uint16"), tmp_path / "x.tif"
    tifffile.imwrite(path, pages, metadata={"axes": "CYX", **about}, **{kind: True})
    with pytest.raises(UserError, match=r"x\.tif holds 3 channels of one depth.* as slices"):
        probe(path)
    np.testing.assert_array_equal(read_photo(path, 1).rgb[..., 0], pages[1])


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("imagej", {"mode": "grayscale"}),
        ("ome", {"Channel": {"Name": [f"Channel:0:{i}" for i in range(3)], "Color": [-1] * 3}}),
    ],
)
def test_channels_that_only_a_number_tells_may_be_depths(tmp_path, kind, about):
    metadata = {"axes": "CYX", **about}
    tifffile.imwrite(tmp_path / "x.tif", noise(3, 20, 30), metadata=metadata, **{kind: True})
    assert probe(tmp_path / "x.tif").pages == 3


@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_channels_within_a_page_are_refused(tmp_path, layout):
    """Of unspecified meaning; one beside grey or RGB is a mask or infrared, and left out."""
    path, samples = tmp_path / "x.tif", noise(20, 30, 3, dtype="uint16")

    def write(count: int) -> None:
        stored = samples[..., :count]
        stored = np.moveaxis(stored, 2, 0) if layout == "separate" else stored
        extra = ["unspecified"] * (count - 1)
        about = {"photometric": "minisblack", "extrasamples": extra, "planarconfig": layout}
        tifffile.imwrite(path, stored, **about)

    write(3)
    with pytest.raises(UserError, match=r"x\.tif has 3 channels in each pixel"):
        probe(path)
    write(2)
    np.testing.assert_array_equal(read_photo(path).rgb[..., 0], samples[..., 0])


def test_a_stack_behind_one_page_is_refused(tmp_path):
    """As ImageJ stores what is beyond 4 GB."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, noise(3, 20, 30), imagej=True, truncate=True)
    with pytest.raises(UserError, match=r"x\.tif holds 3 images behind one page.* image sequence"):
        probe(path)
    page = tifffile.imread(path, key=0)
    tifffile.imwrite(path, page, description="ImageJ=1.11a\nimages=3\nslices=3\n", metadata=None)
    assert probe(path).pages == 1  # a page of such a stack, with its description


@pytest.mark.parametrize(
    ("unit", "scale"), [("micron", 16), ("um", 16), (r"\u00B5m", 16), ("mm", 16000)]
)
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_scale_of_imagej_is_kept(tmp_path, unit, scale, suffix):
    """16 pixels in a micron, 25400 microns in an inch."""
    about = {"resolution": (scale, scale), "metadata": {"unit": unit}}
    tifffile.imwrite(tmp_path / "x.tif", noise(20, 30), imagej=True, **about)
    photo = read_photo(tmp_path / "x.tif")
    assert photo.metadata.dpi == (16 * 25400, 16 * 25400)
    write_photo(tmp_path / f"y{suffix}", photo)
    found = read_photo(tmp_path / f"y{suffix}").metadata.dpi
    assert found == pytest.approx(photo.metadata.dpi, rel=1e-6)


@pytest.mark.parametrize(
    ("unit", "size"), [("nm", 250), ("mm", 0.00025), ("\xb5m", 0.25), (None, 0.25)]
)
def test_scale_of_ome_is_kept(tmp_path, unit, size):
    """A quarter of a micron across, half of one high; 25400 microns in an inch."""
    about = {"PhysicalSizeX": size, "PhysicalSizeY": 2 * size}
    about |= {f"PhysicalSize{axis}Unit": unit for axis in "XY" if unit}
    tifffile.imwrite(tmp_path / "x.tif", noise(20, 30), ome=True, metadata=about)
    assert read_photo(tmp_path / "x.tif").metadata.dpi == pytest.approx((101600, 50800))


@pytest.mark.parametrize("about", ['PhysicalSizeX="0"', 'PhysicalSizeX="x"', 'PhysicalSizeY="-1"'])
def test_a_broken_scale_costs_no_more(tmp_path, about):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, noise(20, 30), ome=True, metadata={"PhysicalSizeX": 0.25})
    path.write_bytes(path.read_bytes().replace(b'PhysicalSizeX="0.25"', about.encode().ljust(20)))
    assert read_photo(path).metadata.dpi is None


@pytest.mark.parametrize("mode", ["1", "P", "RGBX", "RGBA", "LA", "PA"])
def test_tiff_modes_are_as_pillow_shows_them(tmp_path, mode):
    image = Image.fromarray(noise(20, 30, 4))
    image = (image.convert("RGB").quantize(16) if mode[0] == "P" else image).convert(mode)
    image.save(tmp_path / "x.tif")
    photo = read_photo(tmp_path / "x.tif")
    shown = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(photo.rgb, shown[..., :3])
    assert photo.grey == (mode in ("1", "LA"))
    assert (photo.alpha is not None) == mode.endswith("A")
    if photo.alpha is not None:
        np.testing.assert_array_equal(photo.alpha, shown[..., 3])


def test_tiff_white_may_be_0(tmp_path):
    values = noise(20, 30, dtype="uint16")
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="miniswhite")
    photo = read_photo(tmp_path / "x.tif")
    np.testing.assert_array_equal(photo.rgb[..., 0], 65535 - values)
    assert photo.grey


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_colours_multiplied_by_alpha_are_divided_again(tmp_path, dtype):
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    straight, alpha = noise(20, 30, 3, dtype=dtype), noise(20, 30, 1, dtype=dtype, seed=1)
    stored = np.concatenate([straight * (alpha / white), alpha], axis=2)
    stored = stored if dtype == "float32" else stored.round()
    tifffile.imwrite(
        tmp_path / "x.tif", stored.astype(dtype), photometric="rgb", extrasamples=["assocalpha"]
    )
    photo = read_photo(tmp_path / "x.tif")
    np.testing.assert_array_equal(photo.alpha, alpha[..., 0])
    # What was rounded away comes back magnified by 1 / alpha.
    error = np.abs(photo.rgb.astype(float) - straight) * (alpha / white)
    assert error.max() <= (1e-6 if dtype == "float32" else 1.01)


@pytest.mark.parametrize("key", [None, 3])
def test_png_palettes_and_colour_keys(tmp_path, key):
    Image.fromarray(noise(9, 9, 3)).quantize(8).save(tmp_path / "p.png", transparency=key)
    photo = read_photo(tmp_path / "p.png")
    shown = np.asarray(Image.open(tmp_path / "p.png").convert("RGBA"))
    np.testing.assert_array_equal(photo.rgb, shown[..., :3])
    assert not photo.grey and (photo.alpha is None) == (key is None)
    if key is not None:
        np.testing.assert_array_equal(photo.alpha, shown[..., 3])
        assert set(np.unique(photo.alpha)) == {0, 255}


# HEIC


@pytest.mark.parametrize(
    ("mode", "channels", "bits"),
    [("RGB", 3, 8), ("L", 1, 8), ("RGB;16", 3, 10), ("RGBA;16", 4, 10)],
)
def test_heic(tmp_path, mode, channels, bits):
    """A flat field comes back within a step of its depth, 10 bits over the full range of 16."""
    white = 2**16 - 1 if bits > 8 else 255
    colour = np.round(np.array([1.0, 0.4, 0.7, 0.2])[:channels] * white)
    field = np.broadcast_to(colour, (48, 64, channels)).astype(np.uint16 if bits > 8 else np.uint8)
    image = pillow_heif.from_bytes(mode, (64, 48), field.tobytes())
    options = {"quality": 100, "chroma": 444, "matrix_coefficients": 0}  # 0: no YCbCr
    image.save(tmp_path / "x.heic", exif=exif(6), icc_profile=SRGB, xmp=XMP, **options)
    photo, head = read_photo(tmp_path / "x.heic"), probe(tmp_path / "x.heic")
    assert photo.rgb.shape == (64, 48, 3) and (head.width, head.height) == (48, 64)
    assert photo.rgb.dtype == head.dtype == field.dtype
    assert photo.grey == head.grey == (channels == 1) and head.alpha == (channels == 4)
    step = white / (2**bits - 1)
    np.testing.assert_allclose(photo.rgb[20, 20], np.resize(colour[:3], 3), atol=1.6 * step)
    if channels == 4:
        np.testing.assert_allclose(photo.alpha, colour[3], atol=1.6 * step)
    assert photo.metadata.icc == SRGB and head.taken == TAKEN
    assert photo.metadata.xmp == xmp.keep(XMP)
    (tmp_path / "phone.jpg").write_bytes((tmp_path / "x.heic").read_bytes())  # misnamed
    np.testing.assert_array_equal(read_photo(tmp_path / "phone.jpg").rgb, photo.rgb)


@pytest.mark.parametrize(
    ("primaries", "published"),  # red, green, blue as columns, in D50
    [
        (
            12,
            [
                [0.51512, 0.29198, 0.15710],
                [0.24120, 0.69225, 0.06657],
                [-0.00105, 0.04189, 0.78407],
            ],
        ),
        (
            9,
            [
                [0.67348, 0.16566, 0.12505],
                [0.27904, 0.67535, 0.04561],
                [-0.00193, 0.02998, 0.79686],
            ],
        ),
    ],
)
def test_heic_colours_by_number_get_a_profile(tmp_path, primaries, published):
    """With the columns of Apple's Display P3, and of the profiles published for BT.2020."""
    image = pillow_heif.from_pillow(Image.fromarray(noise(32, 32, 3)))
    image.save(tmp_path / "x.heic", color_primaries=primaries, transfer_characteristics=13)
    icc = read_photo(tmp_path / "x.heic").metadata.icc
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    known = profile.profile
    columns = [known.red_colorant[0], known.green_colorant[0], known.blue_colorant[0]]
    np.testing.assert_allclose(np.transpose(columns), published, atol=1e-4)
    greys = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3))
    shown = ImageCms.profileToProfile(greys, profile, ImageCms.createProfile("sRGB"))
    np.testing.assert_allclose(shown, greys, atol=1)  # their curve is that of sRGB


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_heic_of_hdr_is_refused(tmp_path, transfer, name):
    image = pillow_heif.from_pillow(Image.fromarray(noise(32, 32, 3)))
    image.save(tmp_path / "x.heic", color_primaries=9, transfer_characteristics=transfer)
    for read in (read_photo, probe):
        with pytest.raises(UserError, match=rf"x\.heic is an HDR image \({name}\); convert"):
            read(tmp_path / "x.heic")


# RAW


def srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("neutral", [(1, 1, 1), (0.5, 1, 0.6)])
def test_raw(tmp_path, orientation, neutral):
    scene = np.empty((64, 96, 3))
    scene[:, :48], scene[:, 48:] = (0.2, 0.4, 0.1), (0.02, 0.5, 0.7)
    write_dng(tmp_path / "x.dng", scene, orientation, neutral)
    photo, head = read_photo(tmp_path / "x.dng"), probe(tmp_path / "x.dng")
    expected = seen(srgb(scene), orientation)
    assert photo.rgb.dtype == head.dtype == np.uint16 and not photo.grey
    assert (head.height, head.width) == photo.rgb.shape[:2] == expected.shape[:2]
    for spot in (slice(8, 16), slice(-16, -8)):  # off the edge between the colours
        np.testing.assert_allclose(photo.rgb[spot, spot] / 65535, expected[spot, spot], atol=1e-3)
    assert head.taken == TAKEN and photo.metadata.xmp == xmp.keep(XMP)
    assert head.orientation == orientation
    kept = tags_of(photo.metadata.exif)
    assert kept[Base.Orientation] == 1 and kept.get_ifd(IFD.Exif)[Base.ISOSpeedRatings] == 200
    assert kept.get_ifd(IFD.Exif)[Base.ColorSpace] == 1  # what it is developed to
    assert IFD.Interop not in kept.get_ifd(IFD.Exif)


@pytest.mark.parametrize("tiff_like", [True, False])
@pytest.mark.parametrize("sidecars", [["x.xmp"], ["x.XMP"], ["x.dng.xmp"], ["x.dng.xmp", "x.xmp"]])
def test_xmp_of_raw_is_that_of_its_sidecar(tmp_path, monkeypatch, sidecars, tiff_like):
    if not tiff_like:
        monkeypatch.setattr("utils.formats.raw.ENDIAN", {})
    write_dng(tmp_path / "x.dng", np.full((32, 32, 3), 0.1))
    for i, name in enumerate(sidecars):
        rated = XMP.replace(b'Rating="4"', b'Rating="%d"' % (i + 1))
        (tmp_path / name).write_bytes(rated)
    kept = read_photo(tmp_path / "x.dng").metadata.xmp
    assert b'xmp:Rating="1"' in kept and "Käfer".encode() in kept


def test_a_sidecar_that_cannot_be_read_is_none(tmp_path):
    write_dng(tmp_path / "x.dng", np.full((32, 32, 3), 0.1))
    (tmp_path / "x.xmp").mkdir()
    assert read_photo(tmp_path / "x.dng").metadata.xmp == xmp.keep(XMP)


def test_raw_that_is_not_built_like_tiff_keeps_what_libraw_knows(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.formats.raw.ENDIAN", {})
    write_dng(tmp_path / "x.dng", np.full((32, 32, 3), 0.1))
    assert probe(tmp_path / "x.dng").taken == TAKEN.replace(microsecond=0)
    kept = tags_of(read_photo(tmp_path / "x.dng").metadata.exif).get_ifd(IFD.Exif)
    assert kept[Base.ISOSpeedRatings] == 200 and Base.FNumber not in kept
    assert kept[Base.ExposureTime] == pytest.approx(0.01)


def test_raw_brightness_does_not_depend_on_the_scene(tmp_path):
    """A dark frame and one with a light in it agree where they show the same."""
    scene = np.full((64, 96, 3), 0.1)
    write_dng(tmp_path / "dark.dng", scene)
    scene[:, 60:] = 0.9
    write_dng(tmp_path / "light.dng", scene)
    dark, light = (read_photo(tmp_path / f"{name}.dng").rgb for name in ("dark", "light"))
    np.testing.assert_array_equal(dark[:, :40], light[:, :40])
