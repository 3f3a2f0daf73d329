"""Files that are written whole or not at all, one alone or several together, and checks of paths
before they are read or written."""

import contextlib
import glob
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

from utils.errors import UserError, os_errors

STANDARD = ("/dev/stdout", "/dev/stderr")
DESCRIPTORS = (Path("/dev/fd"), Path("/proc/self/fd"))
UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}(\.[^.]*)?", re.DOTALL)  # of atomic_path


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffix); rename it to ``path`` on success.

    On any exception the temporary file is deleted and ``path`` is unchanged. A symbolic link is
    kept and its target replaced. A stream, such as ``/dev/null`` or a pipe, is written at the end.
    Raises :class:`UserError` if the folder cannot be made or written to, or ``path`` is a folder, a
    socket or a disk.
    """
    path = Path(path)
    with os_errors(f"write {path}"):
        if is_stream(path):
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder, path.name)
                yield temporary
                # A named pipe that nobody reads from is an error, not a wait.
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
                os.set_blocking(descriptor, True)
                with open(descriptor, "wb") as file, temporary.open("rb") as data:
                    shutil.copyfileobj(data, file)
            return
        target = replaceable(path)
        # A name may have 255 bytes, and this one ten more than the target's.
        stem = target.stem[:-10] if len(os.fsencode(target.stem)) > 200 else target.stem
        temporary = target.with_name(f".{stem}.{secrets.token_hex(4)}{path.suffix}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, target)
        finally:
            with contextlib.suppress(OSError):  # the folder may not be one
                temporary.unlink(missing_ok=True)


def clear(folder: Path, name: str = "*") -> None:
    """Remove temporary files of :func:`atomic_path` whose process was killed, by their name
    without suffix. No other process may be writing them now."""
    for path in folder.glob(f".{name if name == '*' else glob.escape(name)}.*"):
        if UNFINISHED.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def write_json(path: str | Path, value: dict) -> None:
    """Write JSON as UTF-8, whole or not at all."""
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_file(path: str | Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, whole or not at all."""
    if isinstance(content, str):  # names that are not UTF-8 have lone surrogates; JSON's escapes
        content = content.encode(errors="backslashreplace")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def append(path: Path, line: str) -> None:
    """Add a line to a text file; raises :class:`UserError` if it cannot be written."""
    with os_errors(f"write {path}"), path.open("a", encoding="utf-8") as file:
        print(line, file=file)


@contextlib.contextmanager
def atomic_files(folder: str | Path, name: str) -> Iterator[Path]:
    """Yield a temporary folder; on success, its content moves to ``folder``, the oldest first.

    On any exception before it is deleted and ``folder`` is unchanged. The next run under the same
    ``name`` removes what one left that was killed, or stopped while files moved. A written folder
    replaces one of its name, which the caller has checked for files of others. A file never
    replaces a folder. Raises :class:`UserError` if the folder cannot be made or written to, or
    another process is writing under this name.
    """
    folder = Path(folder)
    temporary = partial_folder(folder, name)
    moving = False
    try:
        with os_errors(f"write to folder {folder}"), _locked(temporary):
            try:
                for path in temporary.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                yield temporary
                written = sorted(temporary.iterdir(), key=lambda path: path.stat().st_mtime_ns)
                for path in written:
                    if not path.is_dir():
                        replaceable(folder / path.name)
                moving = True
                for path in written:
                    _move(path, folder / path.name)
                moving = False
            finally:
                if not (moving and any(temporary.iterdir())):
                    shutil.rmtree(temporary, ignore_errors=True)
    except UserError as error:
        error.args = (str(error).replace(str(temporary), str(folder)),)
        raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes from it; raises :class:`UserError` if one is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"another process is writing {folder.name[1:].removesuffix('.partial')}"
            raise UserError(f"{what} to {folder.parent}; wait for it") from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def partial_folder(folder: Path, name: str) -> Path:
    """The temporary folder of :func:`atomic_files`."""
    return folder / f".{name}.partial"


def replaceable(path: Path) -> Path:
    """The path to write for ``path``, with links followed; raises :class:`UserError` if it is
    neither a regular file nor a stream, or is inaccessible."""
    mode = stat.S_IFREG
    with os_errors(f"write {path}"):  # links in a circle, a file where a folder should be
        with contextlib.suppress(FileNotFoundError):  # or a link to a file that is not there yet
            mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise UserError(f"cannot write {path}: it is a folder; give the name of a file")
    if not stat.S_ISREG(mode) and not is_stream(path):
        raise UserError(f"cannot write {path}: it is no regular file; give another name")
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_regular(path: str | Path) -> None:
    """Raise a :class:`UserError` for a pipe, socket or device: reading it may never end. Absent
    files and folders are left to whoever opens them."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UserError(f"{path} is no regular file but a pipe, socket or device; give a file")


def is_stream(path: str | Path) -> bool:
    """Whether a path is a terminal, ``/dev/null``, a pipe, or an open file (``/dev/stdout``)."""
    if Path(path).parent in DESCRIPTORS or str(path) in STANDARD:
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _move(path: Path, target: Path) -> None:
    """Move a written file or folder to its place."""
    if path.is_dir():
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        os.replace(path, target)
    elif target.is_symlink() or is_stream(target):  # perhaps to another disk
        with atomic_path(target) as copy:
            shutil.copyfile(path, copy)
    else:
        os.replace(path, target)
