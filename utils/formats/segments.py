"""Size limits on the strips and tiles of a TIFF, checked before they are decoded.

Each segment that a codec such as JPEG compressed has a size in its header, besides that of the
page; decoders trust the former, whatever it is.
"""

import io
import struct
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tifffile import COMPRESSION, TiffPage

from utils.errors import UserError

BLOCK = 16  # pixels by which an image may exceed its segment: codecs work in blocks
SLACK = 1024  # pixels by which a tile may exceed its page
# Codecs of bytes: tifffile limits their output to the size of the segment. Two by number, since
# tifffile has renamed them: CCITT T.4 and T.6 (fax).
BYTES = [COMPRESSION[x] for x in "NONE CCITTRLE LZW ADOBE_DEFLATE DEFLATE PACKBITS".split()]
BYTES += [COMPRESSION.LZMA, COMPRESSION.ZSTD, COMPRESSION(3), COMPRESSION(4)]
# Codecs of images, and Pillow's name of the format. Others, such as JPEG XL, have parts that exceed
# the size in their header.
IMAGES = {
    COMPRESSION.OJPEG: "JPEG",
    COMPRESSION.JPEG: "JPEG",
    COMPRESSION.JPEG_LOSSY: "JPEG",
    COMPRESSION.JPEG2000: "JPEG2000",
    COMPRESSION.JPEG_2000_LOSSY: "JPEG2000",
    COMPRESSION.APERIO_JP2000_YCBC: "JPEG2000",
    COMPRESSION.APERIO_JP2000_RGB: "JPEG2000",
    COMPRESSION.PNG: "PNG",
    COMPRESSION.WEBP: "WEBP",
}
COMPONENTS = 5  # of a pixel at most, one of them perhaps unused
CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000; the box around it is not trusted


def check_segments(path: Path, page: TiffPage) -> None:
    """Raise a :class:`UserError` if decoding a page would take more memory than its size."""
    sides = (page.imagewidth, page.imagelength)
    if page.is_tiled:
        tile = (page.tilewidth, page.tilelength)
        if any(part > side + SLACK for part, side in zip(tile, sides, strict=True)):
            what = f"tiles of {tile[0]}×{tile[1]} pixels for an image of {sides[0]}×{sides[1]}"
            raise UserError(f"{path} has {what}, refused")
    else:
        tile = (sides[0], min(page.rowsperstrip, sides[1]))
    if page.compression in BYTES:
        return
    if page.compression not in IMAGES:
        name = getattr(page.compression, "name", page.compression)
        raise UserError(f"{path} is compressed by {name}, which is not read; use deflate or none")
    kind = IMAGES[page.compression]
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(offset)
        width, height = _size(handle.read(count), kind)
        if width > tile[0] + BLOCK or height > tile[1] + BLOCK:
            what = f"a part of {tile[0]}×{tile[1]} pixels holds a picture of {width}×{height}"
            raise UserError(f"{path} is broken: {what}")


def _size(data: bytes, kind: str) -> tuple[int, int]:
    """(width, height) that a codec will decode, 0×0 of an empty segment."""
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
    """The largest size after any start marker; more components than colours and transparency
    count as width."""
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
