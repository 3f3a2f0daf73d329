"""Ctrl-C, and the SIGTERM of torchrun or a scheduler, end a script alike."""

import signal

_came = False


def raise_on_signals() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, and remember that they came."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as it is of a job in the background
        signal.signal(signal.SIGINT, _interrupt)


def check_interrupted() -> None:
    """Raise the KeyboardInterrupt that came and was lost. Python drops one in a finalizer, and one
    in the middle of shutil.rmtree ends as an OSError: it closes a folder twice."""
    if _came:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: object) -> None:
    global _came
    _came = True
    raise KeyboardInterrupt
