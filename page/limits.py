"""Limits of the page, checked on the server before a pixel is decoded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import UserError
from utils.images import check_extension, probe

MEGA = 1_000_000
FULL_DISK = "the disk of the server is full; try again in a few minutes"


def _limit(default: int, meaning: str) -> int:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Limits:
    """Each is an option of ``app.py`` too."""

    files: int = _limit(40, "photographs at once")
    megapixels: int = _limit(64, "megapixels of a photograph")
    total_megapixels: int = _limit(600, "megapixels of all photographs at once")
    megabytes: int = _limit(200, "megabytes of a file")
    total_megabytes: int = _limit(1000, "megabytes of all files at once")
    disk_megabytes: int = _limit(8000, "megabytes on disk for the files of all visitors")
    waiting: int = _limit(32, "visitors who wait for their turn; others are told to come later")
    minutes: int = _limit(60, "minutes that files are kept if nobody closes the page")

    def __str__(self) -> str:
        each = f"{self.megapixels} megapixels and {self.megabytes} MB"
        total = f"{self.total_megapixels} megapixels and {self.total_megabytes} MB"
        count = f"2 to {self.files} photographs or pages of a TIFF"
        return f"JPEG, PNG, TIFF, WebP, HEIC, RAW: {count}, up to {each} each, {total} together."


def check(paths: Sequence[Path], limits: Limits, least: int = 2) -> None:
    """Raise a :class:`UserError` if there are fewer than ``least`` photographs or too many, each
    page of a TIFF being one, if one is of another type, broken or too large, or if all together are
    too large."""
    if len(paths) > limits.files:
        raise UserError(f"these are {len(paths)} files; the limit is {limits.files}")
    count = pixels = size = 0
    for path in paths:
        check_extension(path)
        if not path.exists():
            raise UserError(f"{path} is not on the server any more; choose it again")
        if path.stat().st_size > limits.megabytes * MEGA:
            raise UserError(f"{path} is larger than {limits.megabytes} MB, the limit for a file")
        head = probe(path)
        if head.width * head.height > limits.megapixels * MEGA:
            found = f"{path} has {head.width}×{head.height} pixels"
            raise UserError(f"{found}; the limit is {limits.megapixels} megapixels")
        count += head.pages
        pixels += head.width * head.height * head.pages
        size += path.stat().st_size
    if count < least:
        raise UserError("choose at least two photographs, each focused at another depth")
    if count > limits.files:
        raise UserError(f"these are {count} photographs; the limit is {limits.files}")
    for total, most, unit in (
        (pixels, limits.total_megapixels, "megapixels"),
        (size, limits.total_megabytes, "MB"),
    ):
        if total > most * MEGA:
            found = math.ceil(10 * total / MEGA) / 10  # rounded up: not the limit itself
            what = f"these photographs have {found:g} {unit} together"
            raise UserError(f"{what}; the limit is {most} {unit}")
