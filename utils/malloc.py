"""glibc malloc tuning: keep freed memory for the next forward pass, or return it to the system."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGEST = 2**31 - 1  # mallopt takes an int
FRAME = 8_000_000  # bytes: larger blocks are frames or their maps, smaller ones features


def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back to the system; elsewhere do nothing.

    By default each large activation is mapped afresh and its pages are cleared on first touch,
    which costs a forward pass on the CPU as much as half of its arithmetic.
    """
    _set(M_MMAP_THRESHOLD, LARGEST)
    _set(M_TRIM_THRESHOLD, LARGEST)


def give_back_frames() -> None:
    """Tell glibc to return the memory of freed frames, and to use one heap for all threads;
    elsewhere do nothing.

    By default it starts to keep blocks of a frame's size, which do not fit frames that are a little
    larger: a sixth of the memory of a stack.
    """
    _set(M_MMAP_THRESHOLD, FRAME)
    _set(M_ARENA_MAX, 1)


def _set(option: int, value: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(option, value)
