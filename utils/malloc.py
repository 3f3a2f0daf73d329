"""glibc malloc tuning: keep freed memory for the next forward pass, or return it to the system."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGEST = 2**31 - 1  # mallopt takes an int
FRAME = 8_000_000  # bytes: larger is a frame, or a map of one, and not a block's features


def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back to the system; elsewhere do nothing.

    By default each large activation is mapped afresh and its pages are cleared on first touch,
    which costs a forward pass on the CPU as much as half of its arithmetic.
    """
    _set(M_MMAP_THRESHOLD, LARGEST)
    _set(M_TRIM_THRESHOLD, LARGEST)


def give_back_frames() -> None:
    """Tell glibc to give the memory of freed frames back, and to keep one heap for all threads;
    elsewhere do nothing.

    By default it learns to keep what is of a frame's size, which it then cannot use for frames
    that are a little larger: a sixth of the memory of a stack.
    """
    _set(M_MMAP_THRESHOLD, FRAME)
    _set(M_ARENA_MAX, 1)


def _set(option: int, value: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(option, value)
