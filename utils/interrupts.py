"""Ctrl-C, and the SIGTERM of torchrun or a scheduler, end a script alike."""

import contextlib
import signal
from collections.abc import Iterator

_came = False


@contextlib.contextmanager
def heed_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt within, and remember that they came."""
    global _came
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in former.items():
            if number == signal.SIGTERM or handler != signal.SIG_IGN:  # a job in the background
                signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        _came = False


def check_interrupted() -> None:
    """Raise the KeyboardInterrupt that came and was lost. Python drops one in a finalizer, and one
    in the middle of shutil.rmtree ends as an OSError: it closes a folder twice."""
    if _came:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: object) -> None:
    global _came
    _came = True
    raise KeyboardInterrupt
