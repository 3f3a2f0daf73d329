"""Size limits on the strips and tiles of a TIFF, checked before they are decoded.

The page tells its size, and so does the picture that a codec such as JPEG makes of each segment;
the decoder goes by the latter, whatever it is.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tifffile import COMPRESSION, TiffPage

from utils.errors import UserError

BLOCK = 16  # pixels that a picture may be larger than its segment: codecs work in blocks
SLACK = 1024  # pixels that a tile may be larger than its page
# Codecs of bytes: tifffile has them stop at what a segment is to hold.
BYTES = (
    COMPRESSION.NONE,
    COMPRESSION.CCITTRLE,
    COMPRESSION.CCITTFAX3,
    COMPRESSION.CCITTFAX4,
    COMPRESSION.LZW,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
)
# Codecs of pictures, with Pillow's name of what they write. The others, JPEG XL among them, have
# parts that are larger than their heads say.
PICTURES = {
    COMPRESSION.OJPEG: "JPEG",
    COMPRESSION.JPEG: "JPEG",
    COMPRESSION.JPEG_LOSSY: "JPEG",
    COMPRESSION.PNG: "PNG",
    COMPRESSION.WEBP: "WEBP",
    COMPRESSION.JPEG2000: "JPEG2000",
    COMPRESSION.APERIO_JP2000_YCBC: "JPEG2000",
    COMPRESSION.JPEG_2000_LOSSY: "JPEG2000",
    COMPRESSION.APERIO_JP2000_RGB: "JPEG2000",
}
COMPONENTS = 5  # of a pixel at most, one of them unused perhaps
CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000, whose box around it may say anything


def check_segments(path: Path, page: TiffPage) -> None:
    """Raise a :class:`UserError` if decoding a page would take more than its size tells."""
    sides = (page.imagewidth, page.imagelength)
    if page.is_tiled:
        tile = (page.tilewidth, page.tilelength)
        if any(part > side + SLACK for part, side in zip(tile, sides, strict=True)):
            raise UserError(
                f"{path} has tiles of {tile[0]}×{tile[1]} pixels for an image of "
                f"{sides[0]}×{sides[1]}, refused"
            )
    else:
        tile = (page.imagewidth, min(page.rowsperstrip, page.imagelength))
    if page.compression in BYTES:
        return
    if page.compression not in PICTURES:
        name = getattr(page.compression, "name", page.compression)
        raise UserError(f"{path} is compressed by {name}, which is not read; use deflate or none")
    kind = PICTURES[page.compression]
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(offset)
        width, height = _size(handle.read(count), kind)
        if width > tile[0] + BLOCK or height > tile[1] + BLOCK:
            raise UserError(
                f"{path} is broken: a part of {tile[0]}×{tile[1]} pixels holds a picture of "
                f"{width}×{height}"
            )


def _size(data: bytes, kind: str) -> tuple[int, int]:
    """(width, height) that a codec will decode; of an empty segment 0×0."""
    if not data:
        return 0, 0
    if kind == "JPEG2000":
        return _size_of_codestream(data)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            return image.size
    except UnidentifiedImageError:
        return 0, 0  # no decoder will take it either


def _size_of_codestream(data: bytes) -> tuple[int, int]:
    """The largest that any mark of a beginning claims; more components than colours and
    transparency count as width."""
    width = height = 0
    at = data.find(CODESTREAM)
    while at >= 0:
        head = data[at + 8 : at + 42]  # ISO/IEC 15444-1, A.5.1
        if len(head) == 34:
            right, lower, left, upper, components = struct.unpack(">4I16xH", head)
            width = max(width, (right - left) * -(-components // COMPONENTS))
            height = max(height, lower - upper)
        at = data.find(CODESTREAM, at + 1)
    return width, height
