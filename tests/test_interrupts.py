"""Signals end a script, and leave the process as it was."""

from __future__ import annotations

import contextlib
import signal

import pytest

from utils.interrupts import check_interrupted, heed_signals


@pytest.fixture(params=[signal.SIG_IGN, signal.default_int_handler])
def ctrl_c(request):
    """What a shell begins a job with, in the background and before the user's eyes."""
    former = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, former)


def test_a_signal_raises_and_one_that_is_lost_is_remembered():
    with heed_signals():
        check_interrupted()
        with contextlib.suppress(KeyboardInterrupt):  # as a library may
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            check_interrupted()


def test_afterwards_all_is_as_it_was(ctrl_c):
    """Another script in this process must neither end by an old signal nor remember new ones."""
    term = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), heed_signals():
        signal.raise_signal(signal.SIGTERM)
    check_interrupted()
    assert signal.getsignal(signal.SIGINT) == ctrl_c
    assert signal.getsignal(signal.SIGTERM) == term


def test_only_a_job_in_the_background_does_not_hear_ctrl_c(ctrl_c):
    heard = ctrl_c != signal.SIG_IGN
    with (
        heed_signals(),
        pytest.raises(KeyboardInterrupt) if heard else contextlib.nullcontext(),
    ):
        signal.raise_signal(signal.SIGINT)
