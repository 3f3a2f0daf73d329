"""Image files as cameras and other programs write them, for several tests."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from utils.formats.tiff import add_directories

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]  # the colour space that its head declares
# As a program writes it that develops RAW files; of the picture it says rating, keyword, rights.
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmp:Rating="4" dc:format="image/x-raw"
 tiff:Orientation="8" xmpMM:DocumentID="0815" xmp:CreatorTool="developer" crs:Exposure2012="+1.00">
 <dc:subject><rdf:Bag><rdf:li>Käfer &amp; Blüte</rdf:li></rdf:Bag></dc:subject>
 <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© Zoë</rdf:li></rdf:Alt></dc:rights>
 <crs:ToneCurve><rdf:Seq><rdf:li>0, 0</rdf:li></rdf:Seq></crs:ToneCurve>
 </rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()
TAKEN = datetime(2024, 5, 6, 7, 8, 9, 250000)
# EXIF 2.32, 4.6.4: where row r, column c of a stored h×w image is seen, as (row, column).
SEEN = {
    1: lambda r, c, h, w: (r, c),
    2: lambda r, c, h, w: (r, w - 1 - c),
    3: lambda r, c, h, w: (h - 1 - r, w - 1 - c),
    4: lambda r, c, h, w: (h - 1 - r, c),
    5: lambda r, c, h, w: (c, r),
    6: lambda r, c, h, w: (c, h - 1 - r),
    7: lambda r, c, h, w: (w - 1 - c, h - 1 - r),
    8: lambda r, c, h, w: (w - 1 - c, r),
}


def noise(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape, np.float32)
    return values if dtype == "float32" else (values * np.iinfo(dtype).max).astype(dtype)


def exif(orientation: int = 1) -> bytes:
    """EXIF as a camera writes it."""
    tags = Image.Exif()
    tags[Base.Orientation] = orientation
    tags[Base.Make], tags[Base.Artist] = "Pentax", "Zoë".encode()
    tags[Base.XResolution], tags[Base.YResolution], tags[Base.ResolutionUnit] = 96, 96, 2
    tags.get_ifd(IFD.Exif).update(
        {
            Base.DateTimeOriginal: "2024:05:06 07:08:09",
            Base.SubsecTimeOriginal: "25",
            Base.MakerNote: b"offsets into the source",
            Base.ISOSpeedRatings: 200,
            Base.ExposureTime: IFDRational(1, 100),
            Base.ExifImageWidth: 4000,
        }
    )
    tags.get_ifd(IFD.GPSInfo).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return tags.tobytes()


def tags_of(block: bytes) -> Image.Exif:
    tags = Image.Exif()
    tags.load(block)
    return tags


def encoded(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def seen(stored: np.ndarray, orientation: int) -> np.ndarray:
    h, w = stored.shape[:2]
    size = (w, h) if orientation > 4 else (h, w)
    result = np.empty((*size, *stored.shape[2:]), stored.dtype)
    for r in range(h):
        for c in range(w):
            result[SEEN[orientation](r, c, h, w)] = stored[r, c]
    return result


XYZ = np.array(  # of linear sRGB, IEC 61966-2-1
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.119192, 0.9503041],
    ]
)


def write_dng(path: Path, scene: np.ndarray, orientation: int = 1, neutral=(1.0, 1.0, 1.0)) -> None:
    """The RAW of a camera whose sensor sees linear sRGB, each colour dimmed by ``neutral``.

    Args:
        scene: (H, W, 3), linear, in [0, 1].
    """
    bayer = np.empty(scene.shape[:2])
    for row, column, colour in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        bayer[row::2, column::2] = (scene * neutral)[row::2, column::2, colour]
    matrix = np.diag(neutral) @ np.linalg.inv(XYZ)
    rational = [part for x in matrix.flat for part in (round(x * 10000), 10000)]
    balance = [part for x in neutral for part in (round(x * 10000), 10000)]
    tags = [
        (274, "H", 1, orientation, True),
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),  # CFAPattern
        (700, "B", len(XMP), XMP, True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # DNGVersion
        (50708, "s", 0, "Test", True),  # UniqueCameraModel
        (50717, "I", 1, 60000, True),  # WhiteLevel
        (50721, "2i", 9, rational, True),  # ColorMatrix1
        (50728, "2I", 3, balance, True),  # AsShotNeutral
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
    ]
    sensor = (bayer * 60000).round().astype(np.uint16)
    tifffile.imwrite(path, sensor, photometric="cfa", metadata=None, extratags=tags, byteorder="<")
    photograph = tags_of(exif()).get_ifd(IFD.Exif) | {Base.ColorSpace: 65535}
    photograph[IFD.Interop] = {1: "R03"}  # Adobe RGB, for the camera's own JPEG
    add_directories(path, {IFD.Exif: photograph})
