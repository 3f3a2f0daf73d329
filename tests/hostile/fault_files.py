"""Files that an unlucky or a hostile user has: truncated, corrupted, oversized claims, floods."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
import pillow_heif
import tifffile
from PIL import Image

from tests.image_files import chunk, encoded

HEIGHT, WIDTH = 48, 64
BIG = 6000  # pixels: side of what a small file claims to be, or holds
MANY = 600_000  # small parts of a file
HEAD = b"II*\0" + struct.pack("<I", 8)  # of a TIFF whose first directory lies at byte 8
CHUNK = {"text": b"tEXt", "private": b"teSt", "data": b"IDAT"}


def photograph(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 3) uint8 noise, coarse and fine."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 160, (-(-height // 8), -(-width // 8), 3)).repeat(8, 0).repeat(8, 1)
    fine = rng.integers(0, 96, (height, width, 3))
    return (coarse[:height, :width] + fine).astype(np.uint8)


def by_pillow(kind: str, image: np.ndarray | Image.Image | None = None, **options) -> bytes:
    return encoded(photograph() if image is None else image, kind, **options)


def by_tifffile(image: np.ndarray | None = None, **options) -> bytes:
    image = photograph() if image is None else image
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **{"photometric": "rgb", "metadata": None} | options)
    return buffer.getvalue()


def heic(image: np.ndarray | None = None) -> bytes:
    image = photograph() if image is None else image
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(image)).save(buffer)
    return buffer.getvalue()


def good() -> dict[str, bytes]:
    """A file of each type that is read, by its name."""
    wide = photograph().astype(np.uint16) * 257
    grey = photograph()[..., 0]
    return {
        "8.png": by_pillow("PNG"),
        "16.png": imagecodecs.png_encode(wide),
        "palette.png": by_pillow("PNG", Image.fromarray(photograph()).quantize(32)),
        "plain.jpg": by_pillow("JPEG", quality=90),
        "progressive.jpg": by_pillow("JPEG", progressive=True),
        "lossy.webp": by_pillow("WEBP"),
        "plain.bmp": by_pillow("BMP"),
        "8.ppm": by_pillow("PPM"),
        "16.ppm": b"P6 %d %d 65535\n" % (WIDTH, HEIGHT) + wide.astype(">u2").tobytes(),
        "plain.tif": by_tifffile(),
        "deflate.tif": by_tifffile(compression="zlib"),
        "lzw.tif": by_tifffile(wide, compression="lzw"),
        "jpeg.tif": by_tifffile(compression="jpeg"),
        "jpeg2000.tif": by_tifffile(compression="jpeg2000"),
        "tiles.tif": by_tifffile(tile=(16, 16)),
        "float.tif": by_tifffile(photograph().astype(np.float32) / 255),
        "grey.tif": by_tifffile(grey, photometric="minisblack"),
        "big.tif": by_tifffile(bigtiff=True),
        "phone.heic": heic(),
    }


def cut(data: bytes, parts: int) -> Iterator[bytes]:
    """The file ends after 1, 2, … of so many parts, but for the last tenth."""
    for part in range(1, parts + 1):
        yield data[: len(data) * 9 * part // (10 * (parts + 1))]


def damaged(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """A few bytes are others, the more the later; half of them in the head."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        bytes_ = bytearray(data)
        end = min(len(data), 200) if number % 2 else len(data)
        for place in rng.integers(0, end, 1 + number):
            bytes_[place] = rng.integers(256)
        yield bytes(bytes_)


def png(width: int, height: int, data: bytes, kind: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(tags: dict[int, int], data: bytes = b"", following: int = 0) -> bytes:
    """A little-endian TIFF of one directory; a tag of value -1 points to the data."""
    start = 8 + len(directory(tags, 0, 0))
    return HEAD + directory(tags, start, following) + data


def directory(tags: dict[int, int], start: int, following: int) -> bytes:
    """A TIFF directory whose data lie at ``start``; the next directory lies at ``following``."""
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, start if value < 0 else value)
        for tag, value in sorted(tags.items())
    )
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def tags(compression: int = 1, size: int = 0, side: int = 64, samples: int = 1) -> dict[int, int]:
    """Of a page of side × side pixels in one strip."""
    return {
        **{256: side, 257: side, 258: 8, 259: compression, 262: 2 if samples == 3 else 1},
        **{273: -1, 277: samples, 278: side, 279: size or side * side * samples},
    }


def lying() -> dict[str, bytes]:
    """Small files that claim, or hold, very much; none can be read."""
    large = np.zeros((BIG, BIG), np.uint8)
    inner = {
        7: imagecodecs.jpeg_encode(large),
        34712: imagecodecs.jpeg2k_encode(large),
        34933: imagecodecs.png_encode(large),
        8: imagecodecs.zlib_encode(large),
        50000: imagecodecs.zstd_encode(large),
        32773: imagecodecs.packbits_encode(large),
    }
    found = {f"codec-{code}.tif": tiff(tags(code, len(x)), x) for code, x in inner.items()}
    webp = imagecodecs.webp_encode(np.zeros((BIG, BIG, 3), np.uint8))
    found["codec-50001.tif"] = tiff(tags(50001, len(webp), samples=3), webp)
    for code in (50002, 34887, 34934, 22610, 34925, 65535):  # JPEG XL, LERC, JPEG XR, …
        found[f"codec-{code}.tif"] = tiff(tags(code, 100), bytes(100))
    header = "<IIIIiiHHIIiiII"  # of a BMP, after its first two bytes
    for side in (30_000, 2**16, 2**31 - 1, 2**32 - 1):
        found[f"side-{side}.tif"] = tiff(tags(side=side, size=100), bytes(100))
        tile = {k: v for k, v in tags().items() if k not in (273, 278, 279)}
        tile |= {322: side, 323: side, 324: -1, 325: 100}
        found[f"tile-{side}.tif"] = tiff(tile, bytes(100))
        found[f"side-{side}.png"] = png(min(side, 2**31 - 1), 30_000, bytes(100))
        found[f"side-{side}.ppm"] = b"P6 %d 30000 255\n" % side
        bmp = struct.pack(header, 154, 0, 54, 40, side % 2**31, 30_000, 1, 24, *[0] * 6)
        found[f"side-{side}.bmp"] = b"BM" + bmp + bytes(100)
    found["no-palette.png"] = png(64, 64, bytes(65 * 64), kind=3)
    found["half.png"] = png(64, 64, bytes(1000))
    found["0-wide.png"] = png(0, 64, b"")
    found["no-pixels.tif"] = tiff({256: 64, 257: 64})
    found["no-tags.tif"] = tiff({})
    found["outside.tif"] = tiff(tags() | {273: 10**9})
    return found


def flooding() -> dict[str, bytes]:
    """Small files that take long to go through; none is read."""
    plain, picture = by_pillow("PNG"), by_pillow("JPEG")
    found = {
        f"{name}-chunks.png": plain[:33] + chunk(kind, b"") * MANY + plain[33:]
        for name, kind in CHUNK.items()
    }
    found["late-chunks.png"] = plain[:-12] + chunk(b"teSt", b"") * MANY + plain[-12:]
    found["comments.jpg"] = picture[:2] + b"\xff\xfe\0\2" * MANY + picture[2:]
    found["filler.jpg"] = picture[:2] + b"\xff" * MANY + picture[2:]
    found["comment.ppm"] = b"P6 #" + b"x" * MANY + b"\n64 48 255\n" + bytes(WIDTH * HEIGHT * 3)
    scans = by_pillow("JPEG", np.zeros((BIG // 3, BIG // 3), np.uint8), progressive=True)
    last = scans[scans.rfind(b"\xff\xda") : -2]
    found["scans.jpg"] = scans[:-2] + last * 20_000 + scans[-2:]
    return found


def loops() -> dict[str, bytes]:
    """TIFF whose directories form a ring: the page is read, once."""
    data = bytes(photograph(1, 64, 64)[..., 0])
    size = len(directory(tags(), 0, 0))
    second, start = 8 + size, 8 + 2 * size
    ring = directory(tags(), start, second) + directory(tags(), start, 8)
    return {"itself.tif": tiff(tags(), data, following=8), "two.tif": HEAD + ring + data}


def unfit() -> dict[str, bytes]:
    """Whole files of what is not fused."""
    return {
        "empty.png": b"",
        **{f"text.{kind}": b"not an image at all" for kind in ("png", "tif", "heic", "nef")},
        "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "film.gif": by_pillow("GIF"),
        "gif.png": by_pillow("GIF"),
        "cmyk.jpg": by_pillow("JPEG", Image.new("CMYK", (WIDTH, HEIGHT))),
        "cmyk.tif": by_pillow("TIFF", Image.new("CMYK", (WIDTH, HEIGHT))),
        "lab.tif": by_pillow("TIFF", Image.new("LAB", (WIDTH, HEIGHT))),
        "int32.tif": by_tifffile(np.zeros((HEIGHT, WIDTH), np.int32), photometric="minisblack"),
        "nan.tif": by_tifffile(np.full((HEIGHT, WIDTH, 3), np.nan, np.float32)),
        "hdr.tif": by_tifffile(np.full((HEIGHT, WIDTH, 3), 40, np.float32)),
        "other-size.png": by_pillow("PNG", photograph(1, HEIGHT + 1, WIDTH)),
        "tiny.png": by_pillow("PNG", photograph(1, 15, 15)),
        "unknown.xyz": b"?",
    }
