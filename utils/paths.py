"""Checks of paths before they are read or written."""

import os
import stat
from pathlib import Path

from utils.errors import UserError

STANDARD = ("/dev/stdout", "/dev/stderr")
DESCRIPTORS = (Path("/dev/fd"), Path("/proc/self/fd"))


def check_regular(path: str | Path) -> None:
    """Raise a :class:`UserError` for a pipe, socket or device: reading it may never end. Absent
    files and folders are left to whoever opens them."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UserError(f"{path} is no regular file but a pipe, socket or device; give a file")


def is_stream(path: str | Path) -> bool:
    """Whether a path is a terminal, ``/dev/null``, a pipe, or an open file of this process
    (``/dev/stdout``)."""
    if Path(path).parent in DESCRIPTORS or str(path) in STANDARD:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
