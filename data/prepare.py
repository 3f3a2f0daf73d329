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

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import http.client
import importlib
import json
import socket
import ssl
import sys
import tempfile
import urllib.error
from collections.abc import Sequence
from pathlib import Path

from torchvision.datasets.utils import check_integrity, download_url

from data.archives import BadArchive, extract
from data.public import SOURCES, Archive, Source, describe
from utils.atomic import atomic_path
from utils.errors import UserError, cli, nearest

TIMEOUT = 60.0  # s without a byte before a connection counts as dead
_NETWORK = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
    RecursionError,  # torchvision's word for too many redirects
    ValueError,  # not a URL
)


def prepare(
    source: Source, root: Path, mirror: str | None = None, local: Sequence[Path] = ()
) -> None:
    """Bring ``source`` below ``root``; what is there is verified, not fetched again.

    Args:
        source: an entry of :data:`data.public.SOURCES`.
        root: folder that holds all sources; made if absent.
        mirror: address of a folder that serves the archives under their own names.
        local: archives downloaded by hand, used instead of the network and left in place.

    Raises:
        UserError: network, checksum or disk trouble, or a folder that is not ours to replace.
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
                _install(source, archive, path, str(path), folder)
            else:
                _fetch(source, archive, mirror, root / ".downloads", folder)
        except OSError as error:
            raise _disk_error(error, folder) from error
        print(f"{folder}: {archive.files} files")


def _fetch(
    source: Source, archive: Archive, mirror: str | None, downloads: Path, folder: Path
) -> None:
    """Keep the archive until its folder is there: an interrupted unpacking costs no download."""
    url = f"{mirror.rstrip('/')}/{archive.name}" if mirror else archive.url
    path = downloads / archive.name
    if not check_integrity(path, archive.md5):
        _download(source, archive, url, path)
    try:
        _install(source, archive, path, url, folder)
    except BadArchive:
        path.unlink()  # where no checksum is known, the next run would trust it
        raise
    path.unlink()
    with contextlib.suppress(OSError):  # not empty: the archive of another source
        downloads.rmdir()


def _match(source: Source, local: Sequence[Path]) -> list[Path | None]:
    """For each archive of ``source``, the local file that stands for it (by name, if several)."""
    if len(source.archives) == len(local) == 1:
        return list(local)
    names = [archive.name for archive in source.archives]
    for path in local:
        if path.name not in names:
            raise UserError(f"--archive {path} fits no file of {source.name}: {', '.join(names)}")
    by_name = {path.name: path for path in local}
    return [by_name.get(name) for name in names]


def _download(source: Source, archive: Archive, url: str, path: Path) -> None:
    """Fetch ``url`` to ``path``, which appears only once its size and checksum are right."""
    otherwise = _by_hand(source, archive)

    def check_size() -> None:
        # urllib takes a connection that closes early for the end of the file.
        size = temporary.stat().st_size
        if archive.size is not None and size < archive.size:
            raise UserError(f"{url} broke off after {size} of {archive.size} bytes: run it again")

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none and would wait for ever
    print(f"{url} → {path}")
    try:
        with atomic_path(path) as temporary:
            try:
                download_url(url, temporary.parent, temporary.name, archive.md5)
            except urllib.error.HTTPError as error:
                raise UserError(f"{url}: {error.code} {error.reason}: {otherwise}") from error
            except _NETWORK as error:
                reason = getattr(error, "reason", error)
                raise UserError(f"cannot reach {url} ({reason}): {otherwise}") from error
            except RuntimeError as error:  # the checksum; a short file is named as such below
                check_size()
                raise UserError(
                    f"{url} is not the published file (its MD5 differs), nothing was kept: "
                    f"{otherwise}"
                ) from error
            except OSError as error:
                raise _disk_error(error, path) from error
            check_size()
    finally:
        socket.setdefaulttimeout(timeout)


def _by_hand(source: Source, archive: Archive) -> str:
    return (
        f"run it again later, or get {archive.name} by hand from {source.page} "
        "and pass it with --archive"
    )


def _install(source: Source, archive: Archive, path: Path, origin: str, folder: Path) -> None:
    """Unpack the archive at ``path`` and put its record and then its folder in place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        unpacked = Path(scratch) / "files"
        try:
            extract(archive, path, unpacked)
        except BadArchive as error:
            raise BadArchive(f"{error}: {_by_hand(source, archive)}") from error
        record = {"url": origin, "files": archive.files, "content_sha256": digest(unpacked)}
        if path.is_file():
            record |= {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            if archive.content == record["content_sha256"]:
                print(f"{folder}: the files that our tables were measured on")
            elif archive.content:
                _warn(f"{folder} holds other files than our tables were measured on")
            elif archive.md5 is None:
                _tell_checksum(folder, record["sha256"])
        # Record first: a folder without one was never made by this command.
        with atomic_path(_record(folder)) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        unpacked.rename(folder)


def _verify(folder: Path) -> None:
    try:
        record = json.loads(_record(folder).read_text(encoding="utf-8"))
        expected = record["content_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} was not made by this command: move it away or choose another --root"
        ) from error
    if digest(folder) != expected:
        raise UserError(f"files in {folder} are missing or altered: delete it and run again")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _tell_checksum(folder: Path, sha256: str) -> None:
    print(f"SHA-256 {sha256} (none is published to compare with; kept in {_record(folder)})")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads(_record(folder).read_text(encoding="utf-8"))["sha256"]
        if before != sha256:
            _warn(f"{folder} came from another file last time: {before}")


def _record(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.source.json")


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


def _disk_error(error: OSError, path: Path) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"no space left for {path}: free some or choose another --root")
    where = error.filename or path
    return UserError(f"cannot use {where} ({error.strerror or error}): choose another --root")


@cli
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare", description="Download and verify public image sources."
    )
    parser.add_argument("name", help=f"{', '.join(SOURCES)}, or list")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="default: %(default)s")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--mirror", metavar="URL", help="URL of a folder that serves the archives")
    where.add_argument(
        "--archive", metavar="FILE", type=Path, nargs="+", default=[], help="downloaded by hand"
    )
    args = parser.parse_args(argv)
    if args.name == "list":
        print("\n".join(describe(source) for source in SOURCES.values()))
        return
    if args.name not in SOURCES:
        names = [*SOURCES, "list"]
        near = nearest(args.name, names)
        raise UserError(f"no source {args.name!r}: did you mean {near} (of {', '.join(names)})?")
    print(describe(SOURCES[args.name]))
    prepare(SOURCES[args.name], args.root.expanduser(), args.mirror, args.archive)


if __name__ == "__main__":
    sys.exit(main())
