"""This process: the cores it may use, how it keeps memory, and when it ends."""

import ctypes
import os
import platform
import re
import sys
import threading
from multiprocessing import parent_process
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
INT_MAX = 2**31 - 1  # the largest that mallopt takes
FRAME = 8_000_000  # bytes: larger blocks are frames or their maps, smaller ones features


def cores() -> int:
    """How many cores this process may use; all of the machine where that is unknown (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processes() -> int:
    """How many processes share the work, as torchrun or a scheduler says in the environment."""
    known = {"RANK", "WORLD_SIZE"} <= os.environ.keys()  # some services set the second alone
    return int(os.environ["WORLD_SIZE"]) if known else 1


def end_with_parent() -> None:
    """End this worker process when its parent ends, even if that is killed."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back to the system; elsewhere do nothing.

    By default each large activation is mapped afresh and its pages are cleared on first touch,
    which costs a forward pass on the CPU as much as half of its arithmetic.
    """
    _mallopt({M_MMAP_THRESHOLD: INT_MAX, M_TRIM_THRESHOLD: INT_MAX})


def give_back_frames() -> None:
    """Tell glibc to return the memory of freed frames, and to use one heap for all threads;
    elsewhere do nothing.

    By default it starts to keep blocks of a frame's size, which do not fit frames that are a little
    larger: a sixth of the memory of a stack.
    """
    _mallopt({M_MMAP_THRESHOLD: FRAME, M_ARENA_MAX: 1})


def peak_memory() -> int | None:
    """Peak memory of this process in bytes; None where that is not known."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose getrusage includes the parent process
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _mallopt(options: dict[int, int]) -> None:
    if platform.libc_ver()[0] == "glibc":
        for option, value in options.items():
            ctypes.CDLL(None).mallopt(option, value)
