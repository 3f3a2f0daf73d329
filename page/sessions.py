"""Visitors' files on disk: their quota and their removal."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from page.fusing import Result


@dataclass
class _Session:
    uploads: dict[Path, int] = field(default_factory=dict)  # and when they were written, ns
    folder: Path | None = None  # of the last results, or those to come
    result: Result | None = None
    used: float = field(default_factory=time.time)


class Sessions:
    """Files of the visitors; a session is a page that is open in somebody's browser.

    Args:
        root: folder of uploads and results. An upload is named after its content, so sessions may
            share it: it goes with the last of them, and not if it was uploaded again since.
        seconds: until what a session has goes although nobody closed it; see :meth:`sweep`.
    """

    def __init__(self, root: Path, seconds: float):
        self.root, self.seconds = root, seconds
        self._open: dict[str, _Session] = {}
        self._coming = 0  # bytes of uploads that are on their way
        self._lock = threading.Lock()

    def note(self, name: str, uploads: Iterable[Path]) -> None:
        """Remember what a session has uploaded; files outside of the root (samples) stay."""
        with self._lock:
            session = self._open.setdefault(name, _Session())
            for path in uploads:
                if self.root in path.parents and path.exists():
                    session.uploads[path] = path.stat().st_mtime_ns

    def begin(self, name: str) -> Path:
        """Make an empty folder for a session's next results; remove the last ones."""
        with self._lock:
            session = self._open.setdefault(name, _Session())
            _remove(session.folder)
            session.result, session.used = None, time.time()
            session.folder = Path(tempfile.mkdtemp(prefix="results-", dir=self.root))
            return session.folder

    def finish(self, name: str, folder: Path, result: Result) -> bool:
        """Keep a result; False if the session was closed meanwhile: then it is removed."""
        with self._lock:
            session = self._open.get(name)
            if session is None or session.folder != folder:
                _remove(folder)
                return False
            session.result = result
            return True

    def result(self, name: str) -> Result | None:
        """The last result of a session."""
        with self._lock:
            return self._open.get(name, _Session()).result

    def close(self, name: str) -> None:
        """Remove all that a session has, but for what others have too."""
        with self._lock:
            self._close(name)

    def _close(self, name: str) -> None:
        session = self._open.pop(name, _Session())
        _remove(session.folder)
        for path, written in session.uploads.items():
            if any(path in other.uploads for other in self._open.values()):
                continue
            with contextlib.suppress(OSError):  # absent, or something else is in its folder
                if path.stat().st_mtime_ns == written:
                    path.unlink()
                    path.parent.rmdir()

    def sweep(self) -> None:
        """Remove what is old: of sessions, and files that belong to none."""
        with self._lock:
            oldest = time.time() - self.seconds
            for name in [name for name, session in self._open.items() if session.used < oldest]:
                self._close(name)
            kept = {path for session in self._open.values() for path in session.uploads}
            kept |= {session.folder for session in self._open.values()}
            for path in self._paths():
                if kept.isdisjoint((path, *path.parents)):
                    with contextlib.suppress(OSError):  # gone by now, or not empty
                        if path.stat().st_mtime < oldest:
                            path.rmdir() if path.is_dir() else path.unlink()

    def reserve(self, size: int, limit: int) -> bool:
        """Reserve room for an upload; False if there is not enough."""
        with self._lock:
            if self.size() + self._coming + size > limit:
                return False
            self._coming += size
            return True

    def release(self, size: int) -> None:
        """Release the room reserved for an upload."""
        with self._lock:
            self._coming -= size

    def size(self) -> int:
        """Bytes on disk of all sessions."""
        total = 0
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _paths(self) -> Iterator[Path]:
        """All files and folders, contents first; any may have vanished."""
        for folder, folders, files in os.walk(self.root, topdown=False):
            yield from (Path(folder, name) for name in (*files, *folders))


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
