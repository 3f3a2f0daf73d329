"""Errors a user can cause, and how a script ends on one."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Something the user can put right; the message is one sentence naming the file or option."""


def nearest(name: object, known: Iterable[object]) -> str:
    """Of some known names the one most like ``name``, for "did you mean …?"."""
    return difflib.get_close_matches(str(name), map(str, known), n=1, cutoff=0)[0]


def cli(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a script's ``main``: a :class:`UserError` prints one line and gives exit code 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> int:
        try:
            return main(*args, **kwargs) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return wrapper
