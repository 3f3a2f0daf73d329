"""Download and verify the public image sources.

    python -m data.prepare list
    python -m data.prepare bsds500 [--root DIR] [--mirror URL | --archive FILE …]

Below ROOT (``datasets/``) this gives ``coco/val2017``, ``coco/annotations``,
``bsds500/{images,groundTruth}/{train,val,test}``, ``lytro/lytro-NN-{A,B}.jpg``,
``lytro_triples/lytro-NN-{A,B,C}.jpg``, ``mmfnet_lytro/lytro-NN-Fusion.png``,
``mfifb_lytro/METHOD/lytro-NN.jpg``, ``stacks/pcb`` and ``demo``, eight photographs that come with
scikit-image. Each of the folders appears whole or not at all, with ``FOLDER.source.json`` beside it
that says what it was made from. A second call compares the folder with that record and downloads
nothing.
"""

import contextlib
import gzip
import hashlib
import http.client
import importlib
import json
import re
import shutil
import socket
import sys
import tarfile
import tempfile
import urllib.error
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import yaml
from torchvision.datasets.utils import check_integrity, download_url
from tqdm import tqdm

from utils.atomic import write_json
from utils.errors import UserError, cli, is_full, nearest, option_parser

TIMEOUT = 60.0  # s without a byte before a connection counts as dead
_NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
_NETWORK += (RecursionError, ValueError)  # torchvision's for too many redirects, and for no URL
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


class BadArchive(Exception):
    """The network or the archive is at fault, not the disk."""


@dataclass(frozen=True)
class Archive:
    """A file to download and the folder it becomes.

    ``members`` is a pattern of the members that are used, which become ``path`` (a template of its
    groups) inside ``folder``; ``files`` is their number. ``md5`` and ``size`` (bytes) are None
    where none is published. ``content`` is :func:`digest` of the files that our tables were
    measured on, where we have them. Without ``url`` it is an installed package of this name.
    """

    name: str
    url: str
    folder: str
    members: str
    files: int
    path: str = r"\1"
    md5: str | None = None
    size: int | None = None
    content: str | None = None


@dataclass(frozen=True)
class Source:
    """A public data set: where it comes from and on which terms."""

    name: str
    page: str
    terms: str
    citation: str
    archives: Sequence[Archive]

    def __str__(self) -> str:
        sizes = [archive.size for archive in self.archives]
        size = "size not published" if None in sizes else f"{sum(sizes) / 1e6:.0f} MB"
        if not any(archive.url for archive in self.archives):
            size = "nothing to download"
        about = f"  page:  {self.page}\n  terms: {self.terms}\n  cite:  {self.citation}"
        return f"{self.name} ({size})\n{about}"


SOURCES = {
    name: Source(name, **about | {"archives": [Archive(**given) for given in about["archives"]]})
    for name, about in yaml.safe_load(Path(__file__).with_name("sources.yaml").read_bytes()).items()
}


def prepare(
    source: Source, root: Path, mirror: str | None = None, local: Sequence[Path] = ()
) -> None:
    """Bring ``source`` below ``root``; what is there is verified, not fetched again.

    ``mirror`` is the address of a folder that serves the archives under their own names, ``local``
    are archives downloaded by hand, used instead of the network and left in place. Raises
    :class:`UserError` for network, checksum or disk trouble, and a folder that is not ours.
    """
    for archive, given in zip(source.archives, _match(source, local), strict=True):
        folder = root / archive.folder
        try:
            if folder.exists():
                _verify(folder)
                print(f"{folder}: already there and unchanged")
                continue
            if given and not check_integrity(given, archive.md5):
                raise UserError(f"--archive {given} is missing or not the {archive.name} known")
            if given or not archive.url:
                path = given or Path(importlib.import_module(archive.name).__path__[0])
                _install(archive, path, str(path), folder)
            else:
                url = f"{mirror.rstrip('/')}/{archive.name}" if mirror else archive.url
                _fetch(archive, url, root / ".downloads" / archive.name, folder)
        except BadArchive as error:
            by_hand = f"get {archive.name} by hand from {source.page} and pass it with --archive"
            raise UserError(f"{error}: run it again later, or {by_hand}") from error
        except OSError as error:
            trouble = f"cannot use {error.filename or folder} ({error.strerror or error}):"
            if is_full(error):
                trouble = f"no space left for {folder}: free some or"
            raise UserError(f"{trouble} choose another --root") from error
        print(f"{folder}: {archive.files} files")


def _match(source: Source, local: Sequence[Path]) -> list[Path | None]:
    """For each archive of ``source``, the local file that stands for it (by name, if several)."""
    if len(source.archives) == len(local) == 1:
        return list(local)
    names = [archive.name for archive in source.archives]
    by_name: dict[str, Path] = {}
    for path in local:
        if path.name not in names:
            raise UserError(f"--archive {path} fits no file of {source.name}: {', '.join(names)}")
        if by_name.setdefault(path.name, path) != path:
            raise UserError(f"--archive {path} has the name of {by_name[path.name]}; give only one")
    return [by_name.get(name) for name in names]


def _fetch(archive: Archive, url: str, path: Path, folder: Path) -> None:
    """Keep the archive until its folder is there: an interrupted unpacking costs no download."""
    if not check_integrity(path, archive.md5):
        _download(archive, url, path)
    try:
        _install(archive, path, url, folder)
    except BadArchive:
        path.unlink()  # where no checksum is known, the next run would trust it
        raise
    path.unlink()
    with contextlib.suppress(OSError):  # not empty: the archive of another source
        path.parent.rmdir()


def _download(archive: Archive, url: str, path: Path) -> None:
    """Fetch ``url`` to ``path``, which appears only once its size and checksum are right."""
    print(f"{url} → {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as scratch:
        part = Path(scratch, archive.name)
        try:
            download_url(url, scratch, archive.name)
        except urllib.error.HTTPError as error:
            raise BadArchive(f"{url}: {error.code} {error.reason}") from error
        except _NETWORK as error:
            raise BadArchive(f"cannot reach {url} ({getattr(error, 'reason', error)})") from error
        # urllib takes a connection that closes early for the end of the file.
        size = part.stat().st_size
        if archive.size is not None and size < archive.size:
            raise BadArchive(f"{url} broke off after {size} of {archive.size} bytes")
        if not check_integrity(part, archive.md5):
            raise BadArchive(f"{url} is not the published file (its MD5 differs), nothing was kept")
        part.replace(path)


def _install(archive: Archive, path: Path, origin: str, folder: Path) -> None:
    """Unpack the archive at ``path`` and put its record and then its folder in place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        unpacked = Path(scratch) / "files"
        _extract(archive, path, unpacked)
        content = digest(unpacked)
        record = {"url": origin, "files": archive.files, "content_sha256": content}
        if path.is_file():
            sha256 = _sha256(path)
            record |= {"bytes": path.stat().st_size, "sha256": sha256}
            before, warning = _read_record(folder).get("sha256", sha256), ""
            if archive.content == content:
                print(f"{folder}: the files that our tables were measured on")
            elif archive.content:
                warning = "holds other files than our tables were measured on"
            elif archive.md5 is None:
                kept = f"none is published to compare with; kept in {_record(folder)}"
                print(f"SHA-256 {sha256} ({kept})")
                warning = "" if before == sha256 else f"came from another file last time: {before}"
            if warning:
                print(f"warning: {folder} {warning}", file=sys.stderr)
        # Record first: a folder without one was never made by this command.
        write_json(_record(folder), record)
        unpacked.rename(folder)


def _extract(archive: Archive, path: Path, folder: Path) -> None:
    """Write the members that ``archive.members`` picks below ``folder``, and check their number.
    (torchvision's ``extract_archive`` unpacks everything: of COCO 0.7 GB of unused annotations.)"""
    count = 0
    with tqdm(total=archive.files, desc=archive.name, unit="file") as progress:
        try:
            for name, opened in _files(path):
                parts = name.replace("\\", "/").split("/")
                if not parts[0] or ".." in parts:
                    raise BadArchive(f"{path.name} is refused: member {name!r} leaves its folder")
                if not (found := re.match(archive.members, name)):
                    continue
                place = folder / found.expand(archive.path)
                if place.exists():
                    raise BadArchive(f"{path.name} holds {place.relative_to(folder)} twice")
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened() as stream, open(place, "wb") as out:
                    shutil.copyfileobj(stream, out)
                count += 1
                progress.update()
        except _BROKEN as error:
            raise BadArchive(f"{path.name} is broken ({error})") from error
    if count != archive.files:
        raise BadArchive(f"{path.name} has {count} of the {archive.files} files expected")


def _files(path: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Names of the files in a zip, tar or folder, each with a function that opens it."""
    if path.is_dir():
        for file in path.iterdir():
            yield file.name, partial(file.open, "rb")
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name, partial(archive.open, name)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for member in archive:
                if not (member.isfile() or member.isdir()):
                    what = f"{path.name} is refused: member {member.name!r} is no file"
                    raise BadArchive(what)
                if member.isfile():
                    yield member.name, partial(archive.extractfile, member)
    else:
        raise BadArchive(f"{path.name} is not a whole zip or tar archive")


def _verify(folder: Path) -> None:
    expected = _read_record(folder).get("content_sha256")
    if expected is None:
        foreign = f"{folder} was not made by this command"
        raise UserError(f"{foreign}: move it away or choose another --root")
    if digest(folder) != expected:
        raise UserError(f"files in {folder} are missing or altered: delete it and run again")


def _record(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.source.json")


def _read_record(folder: Path) -> dict[str, str]:
    """The record beside a folder; empty if there is none."""
    try:
        return dict(json.loads(_record(folder).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def digest(folder: Path) -> str:
    """SHA-256 of all names and contents below ``folder``, but for file managers' hidden files."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("[!.]*")):
        if not path.is_dir():
            total.update(f"{path.relative_to(folder).as_posix()} {_sha256(path)}\n".encode())
    return total.hexdigest()


@cli
def main(argv: Sequence[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("name", help=f"{', '.join(SOURCES)}, or list")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="default: %(default)s")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--mirror", metavar="URL", help="URL of a folder that serves the archives")
    where.add_argument(
        "--archive", metavar="FILE", type=Path, nargs="+", default=[], help="downloaded by hand"
    )
    args = parser.parse_args(argv)
    if args.name == "list":
        print(*SOURCES.values(), sep="\n")
    elif source := SOURCES.get(args.name):
        print(source)
        socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none and would wait for ever
        prepare(source, args.root.expanduser(), args.mirror, args.archive)
    else:
        names = [*SOURCES, "list"]
        near = nearest(args.name, names)
        raise UserError(f"no source {args.name!r}: did you mean {near} (of {', '.join(names)})?")


if __name__ == "__main__":
    sys.exit(main())
