"""Unpack what a source uses of an archive: zip, tar, or the folder of an installed package."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from data.public import Archive
from utils.errors import UserError

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


class BadArchive(UserError):
    """The archive itself is at fault, not the disk."""


def _members(path: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]] | None]]:
    """Names in a zip, tar or folder, each with a function that opens it (None: not a file)."""
    if path.is_dir():
        for file in sorted(path.iterdir()):
            yield file.name, partial(file.open, "rb") if file.is_file() else None
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                yield info.filename, None if info.is_dir() else partial(archive.open, info)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for member in archive:
                tarfile.data_filter(member, str(path.parent))  # no links out, no devices
                opener = partial(archive.extractfile, member) if member.isfile() else None
                yield member.name, opener
    else:
        raise BadArchive(f"{path.name} is not a whole zip or tar archive")


def extract(archive: Archive, path: Path, folder: Path) -> None:
    """Write the members that ``archive.members`` picks below ``folder``, and check their number.

    torchvision's ``extract_archive`` unpacks everything (of COCO 0.7 GB of unused annotations), and
    tar files without an extraction filter.
    """
    written: set[str] = set()
    with tqdm(total=archive.files, desc=archive.name, unit="file") as progress:
        try:
            for name, opener in _members(path):
                parts = PurePosixPath(name.replace("\\", "/"))
                if parts.is_absolute() or ".." in parts.parts:
                    raise BadArchive(f"{path.name} is refused: member {name!r} leaves its folder")
                found = re.match(archive.members, name)
                if opener is None or found is None:
                    continue
                place = found.expand(archive.path)
                if place in written:
                    raise BadArchive(f"{path.name} holds {place} twice")
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                with opener() as stream, open(folder / place, "wb") as out:
                    shutil.copyfileobj(stream, out)
                written.add(place)
                progress.update()
        except tarfile.FilterError as error:
            raise BadArchive(f"{path.name} is refused ({error})") from error
        except _BROKEN as error:
            raise BadArchive(f"{path.name} is broken ({error})") from error
    if len(written) != archive.files:
        raise BadArchive(f"{path.name} has {len(written)} of the {archive.files} files expected")
