"""RAW files of cameras, developed equally for all frames of a stack, through rawpy (LibRaw)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rawpy
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from utils.errors import UserError
from utils.formats import photo
from utils.formats.exif import load_directory, read_tags
from utils.formats.photo import Opened, Tags
from utils.formats.xmp import LARGEST

# 16-bit sRGB with the camera's white balance. LibRaw's other defaults depend on the content: they
# brighten until 1 % of the pixels are white, and take the brightest pixel for the white level.
DEVELOP = {
    "use_camera_wb": True,
    "output_bps": 16,
    "output_color": rawpy.ColorSpace.sRGB,
    "gamma": (2.4, 12.92),
    "no_auto_bright": True,
    "adjust_maximum_thr": 0.0,
}
ENDIAN = {b"II": "<", b"MM": ">"}


@contextlib.contextmanager
def opened(path: Path, page: int) -> Iterator[Opened]:
    photo.check_page(path, page)
    try:
        with rawpy.imread(str(path)) as raw:
            photo.check_size(raw.sizes.width, raw.sizes.height)
            tags = _tags(path, raw)
            flip = {3: 3, 5: 8, 6: 6}.get(raw.sizes.flip, 1)  # LibRaw's code, as one of EXIF
            tags = tags._replace(orientation=flip)
            size = photo.upright_size(raw.sizes.iwidth, raw.sizes.iheight, flip)
            dtype, grey = np.dtype(np.uint16), raw.num_colors == 1
            yield Opened(size, dtype, grey, tags, lambda: raw.postprocess(**DEVELOP))  # upright
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        message = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise UserError(f"{path} is no RAW file that can be read, or broken ({message})") from error


def _tags(path: Path, raw: rawpy.RawPy) -> Tags:
    """EXIF of the file if it is TIFF-like, as most are; otherwise from LibRaw. XMP of a sidecar is
    preferred, since programs leave RAW files as they are."""
    packet = _read_sidecar(path)
    with path.open("rb") as file:
        head = file.read(8)
        if head[:2] in ENDIAN:
            endian = ENDIAN[head[:2]]
            offset = int.from_bytes(head[4:], "little" if endian == "<" else "big")
            return read_tags(
                lambda: _developed(load_directory(file, endian, offset)), packet=packet
            )
    return read_tags(lambda: _exif(raw), packet=packet)


def _read_sidecar(path: Path) -> bytes | None:
    """XMP of x.cr2.xmp, or of x.xmp, beside x.cr2."""
    for end in (f"{path.suffix}.xmp", ".xmp", ".XMP"):
        sidecar = path.with_suffix(end)
        if sidecar.is_file():
            with contextlib.suppress(OSError), sidecar.open("rb") as file:
                return file.read(LARGEST + 1)
    return None


def _developed(exif: Image.Exif) -> Image.Exif:
    """EXIF of what we develop: sRGB, even if the camera was set to Adobe RGB."""
    photograph = exif.get_ifd(IFD.Exif)
    photograph.pop(IFD.Interop, None)
    if Base.ColorSpace in photograph:
        photograph[Base.ColorSpace] = 1
    return exif


def _exif(raw: rawpy.RawPy) -> Image.Exif:
    exif = Image.Exif()
    shot = raw.other
    taken = shot.timestamp.strftime("%Y:%m:%d %H:%M:%S")
    known = {
        Base.DateTimeOriginal: taken if shot.timestamp.year > 1970 else None,
        Base.ExposureTime: IFDRational(shot.shutter_speed),
        Base.FNumber: IFDRational(shot.aperture),
        Base.FocalLength: IFDRational(shot.focal_length),
        Base.ISOSpeedRatings: round(shot.iso_speed),
        Base.LensModel: raw.lens.model,
    }
    exif.get_ifd(IFD.Exif).update({tag: value for tag, value in known.items() if value})
    return exif
