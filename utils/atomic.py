"""Files that are either whole or absent, one alone or several together."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffix); rename it to ``path`` on success.

    On any exception the temporary file is deleted and ``path`` is left as it was.

    Raises:
        UserError: if the folder cannot be made or written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # the folder may not be one
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_files(folder: str | Path, name: str) -> Iterator[Path]:
    """Yield a temporary folder; on success, what was written there moves to ``folder``.

    On any exception it is deleted and ``folder`` is left as it was. Another run under the same
    ``name`` replaces what a process that was killed left.

    Raises:
        UserError: if the folder cannot be made or written to.
    """
    folder = Path(folder)
    temporary = folder / f".{name}.partial"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.iterdir():
            target = folder / path.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(path, target)
    except OSError as error:
        raise UserError(f"cannot write to folder {folder}: {error.strerror or error}") from error
    except UserError as error:
        if str(temporary) not in str(error):
            raise
        raise UserError(str(error).replace(str(temporary), str(folder))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
