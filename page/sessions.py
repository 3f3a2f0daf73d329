"""The files that each open page keeps on disk, and their removal."""

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
    uploads: dict[Path, int] = field(default_factory=dict)  # and modification times, ns
    result: Result | None = None
    folder: Path | None = None  # of this result
    coming: Path | None = None  # the folder of the next one, while it is awaited
    used: float = field(default_factory=time.time)


class Sessions:
    """Files of the visitors; a session is a page open in a browser.

    Args:
        root: folder of uploads and results. An upload is named after its content, so sessions may
            share it: it is removed with the last of them, unless it was uploaded again since.
        seconds: until a session that nobody closed expires, see :meth:`sweep`.
    """

    def __init__(self, root: Path, seconds: float):
        self.root, self.seconds = root, seconds
        self._open: dict[str, _Session] = {}
        self._coming = 0  # bytes of uploads in progress
        self._lock = threading.RLock()  # sweep closes sessions

    def note(self, name: str, uploads: Iterable[Path]) -> None:
        """Record the uploads of a session; files outside the root (samples) are not its own."""
        with self._lock:
            session = self._open.setdefault(name, _Session())
            session.used = time.time()
            for path in uploads:
                if self.root in path.parents and path.exists():
                    session.uploads[path] = path.stat().st_mtime_ns

    @contextlib.contextmanager
    def awaiting(self, name: str) -> Iterator[Path]:
        """A folder for the next result of a session, removed at the end unless :meth:`finish`
        has kept it."""
        folder = Path(tempfile.mkdtemp(prefix="results-", dir=self.root))
        with self._lock:
            session = self._open.setdefault(name, _Session())
            session.coming, session.used = folder, time.time()
        try:
            yield folder
        finally:
            with self._lock:
                if session.coming == folder:
                    session.coming = None
                if session.folder != folder:
                    _remove(folder)

    def awaits(self, name: str, folder: Path) -> bool:
        """Whether a session still awaits the result in a folder: neither stopped nor closed."""
        with self._lock:
            return self._open.get(name, _Session()).coming == folder

    def stop(self, name: str) -> None:
        """Await no result any more; the last one is kept."""
        with self._lock:
            self._open.get(name, _Session()).coming = None

    def finish(self, name: str, folder: Path, result: Result) -> bool:
        """Keep a result instead of the last one; False if it is not awaited any more."""
        with self._lock:
            if not self.awaits(name, folder):
                return False
            session = self._open[name]
            _remove(session.folder)
            session.result, session.folder = result, folder
            return True

    def result(self, name: str) -> Result | None:
        """The last result of a session."""
        with self._lock:
            return self._open.get(name, _Session()).result

    def close(self, name: str) -> None:
        """Remove the files of a session, except those that others share."""
        with self._lock:
            session = self._open.pop(name, _Session())
            _remove(session.folder)
            _remove(session.coming)
            for path, written in session.uploads.items():
                if any(path in other.uploads for other in self._open.values()):
                    continue
                with contextlib.suppress(OSError):  # gone, or its folder is not empty
                    if path.stat().st_mtime_ns == written:
                        path.unlink()
                        path.parent.rmdir()

    def sweep(self) -> None:
        """Remove expired sessions, and old files that belong to none."""
        with self._lock:
            oldest = time.time() - self.seconds
            for name in [name for name, session in self._open.items() if session.used < oldest]:
                self.close(name)
            kept = {
                x for own in self._open.values() for x in (*own.uploads, own.folder, own.coming)
            }
            for path, found in self._paths():
                if found.st_mtime < oldest and kept.isdisjoint((path, *path.parents)):
                    with contextlib.suppress(OSError):  # gone by now, or not empty
                        path.rmdir() if path.is_dir() else path.unlink()

    def reserve(self, size: int, limit: int) -> bool:
        """Reserve disk space for an upload of ``size`` bytes; False if there is too little."""
        with self._lock:
            if sum(found.st_size for _, found in self._paths()) + self._coming + size > limit:
                return False
            self._coming += size
            return True

    def release(self, size: int) -> None:
        """Release the reserved space of an upload that has ended."""
        with self._lock:
            self._coming -= size

    def _paths(self) -> Iterator[tuple[Path, os.stat_result]]:
        """All files and folders, a folder after its content; any may be gone by now."""
        for folder, folders, files in os.walk(self.root, topdown=False):
            for path in (Path(folder, name) for name in (*files, *folders)):
                with contextlib.suppress(FileNotFoundError):
                    yield path, path.stat()


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
