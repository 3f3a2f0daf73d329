"""HEIC and HEIF, as phones write them, through pillow-heif at full depth."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import ImageCms

from utils.errors import UserError
from utils.formats import photo
from utils.formats.exif import load_bytes, read_tags
from utils.formats.photo import Opened

# Numbers of ITU-T H.273, which stand for colours where there is no profile: transfers, primaries.
HDR = {16: "PQ", 18: "HLG"}
WIDE = {9: "BT.2020", 12: "Display P3"}
SRGB_NAME = "sRGB built-in"  # of Pillow's profile


@contextlib.contextmanager
def opened(path: Path, page: int) -> Iterator[Opened]:
    photo.check_page(path, page)
    image = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    photo.check_size(*image.size)
    icc, packet = image.info.get("icc_profile"), image.info.get("xmp")
    nclx = image.info.get("nclx_profile")
    if icc is None and nclx:
        if kind := HDR.get(nclx["transfer_characteristics"]):
            raise UserError(f"{path} is an HDR image ({kind}); convert it to sRGB or Display P3")
        icc = _profile(nclx)
    tags = read_tags(lambda: load_bytes(image.info.get("exif")), icc, packet=packet)
    tags = tags._replace(orientation=1)  # libheif turns it upright itself
    bits = image.info["bit_depth"]

    def decode() -> np.ndarray:
        samples = np.asarray(image)
        if samples.dtype == np.uint16:
            samples = photo.full_range(samples, 2**bits - 1)
        return photo.unmultiply(samples) if image.premultiplied_alpha else samples

    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    grey, alpha = image.mode[0] in "IL", image.has_alpha
    yield Opened(image.size, dtype, grey, tags, decode, alpha=alpha)


def _profile(nclx: dict[str, float]) -> bytes | None:
    """An ICC profile with wide primaries, otherwise that of sRGB; None for other primaries."""
    if nclx["color_primaries"] not in WIDE:
        return None
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())

    def place(tag: bytes) -> int:
        return struct.unpack_from(">I", icc, icc.index(tag, 132) + 4)[0] + 8

    corners = ("red", "green", "blue", "white")
    xy = np.array([[nclx[f"color_primary_{corner}_{a}"] for a in "xy"] for corner in corners])
    xyz = np.c_[xy, 1 - xy.sum(axis=1)].T / xy[:, 1]  # columns, each of luminance 1
    to_d50 = np.frombuffer(bytes(icc), ">i4", 9, place(b"chad")).reshape(3, 3) / 2**16
    colours = to_d50 @ (xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3]))
    for tag, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours.T, strict=True):
        struct.pack_into(">3i", icc, place(tag), *np.rint(colour * 2**16).astype(int))
    struct.pack_into(">6I", icc, place(b"chrm") + 4, *np.rint(xy[:3] * 2**16).astype(int).flat)
    icc[24:36] = struct.pack(">6H", 2000, 2, 1, 0, 0, 0)  # not now: equal colours, equal profiles
    name = WIDE[nclx["color_primaries"]].ljust(len(SRGB_NAME))
    return bytes(icc).replace(*(text.encode("utf-16-be") for text in (SRGB_NAME, name)))
