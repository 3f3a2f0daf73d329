"""What scripts share: their option parser, and how they end on errors of the user."""

import argparse
import contextlib
import difflib
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space for a file
CLOSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)  # a path that cannot even be looked at


class UserError(Exception):
    """Something the user can put right; the message is one sentence naming the file or option."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error is, or comes from, a disk that is full."""
    return error is not None and (getattr(error, "errno", None) in FULL or is_full(error.__cause__))


def nearest(name: object, known: Iterable[object]) -> str:
    """The known name most similar to ``name`` but for its case, for "did you mean …?"."""
    names = {str(each).casefold(): str(each) for each in known}
    return names[difflib.get_close_matches(str(name).casefold(), names, n=1, cutoff=0)[0]]


@contextlib.contextmanager
def os_errors(cannot: str) -> Iterator[None]:
    """Turn an OSError into a :class:`UserError`: "cannot read x: no such file"."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot {cannot}: {error.strerror or error}") from error


def option_parser(description: str) -> argparse.ArgumentParser:
    """A parser of a script's options; its help shows the description verbatim."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return argparse.ArgumentParser(
        prog=spec and f"python -m {spec.name.removesuffix('.__main__')}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def cli(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a script's ``main``: a :class:`UserError` prints one line and gives exit code 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> int:
        code = 0
        with _any_output() as unwritten:
            try:
                code = main(*args, **kwargs) or 0
            except UserError as error:
                code = _say(error)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                return 130
            except BrokenPipeError:
                return 128 + 13  # as a shell reports SIGPIPE: the reader has left
            except MemoryError:
                code = _say("there is not enough memory; give smaller images, or fewer at once")
            except OSError as error:
                if not (is_full(error) or error.errno in CLOSED and error.filename):
                    raise
                do = "write" if is_full(error) else "use"
                code = _say(f"cannot {do} {error.filename or 'a file'}: {error.strerror}")
        if unwritten:
            code = _say(f"cannot write to standard output: {unwritten[0].strerror}")
        return code

    return wrapper


def _say(error: object) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


@contextlib.contextmanager
def _any_output() -> Iterator[list[OSError]]:
    """Escape characters that the terminal cannot show; go on without an output that is closed.

    Yields:
        A list that holds at the end why the output could not be written, unless its reader left.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the end)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    unwritten: list[OSError] = []
    try:
        yield unwritten
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush
            if not isinstance(error, BrokenPipeError):
                unwritten.append(error)
