"""How many cores this process may use."""

import os


def cores() -> int:
    """Those granted by the scheduler; all of the machine where that is unknown (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
