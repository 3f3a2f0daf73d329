"""The report of a fused stack."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path

from fusion.fuse import Fusion
from fusion.stack_files import Source, Stack


def describe(
    source: Source, stack: Stack, fusion: Fusion, files: dict[str, str], seconds: float
) -> dict:
    """The report of a stack: plain values for JSON.

    ``frames`` has a per-frame result, see :class:`fusion.fuse.FrameReport`, in the order of fusing;
    the index map refers to this order, from 0. ``unread`` lists files that could not be decoded.
    The first pixel of the result is the reference frame's at ``left``, ``top``.
    """
    rows, columns = fusion.area
    frames = [
        {"file": str(frame.path), "page": frame.page, **asdict(report)}
        for frame, report in zip(stack.frames, fusion.frames, strict=True)
    ]
    unread = [
        {"file": str(problem.files[0]), "reason": problem.error} for problem in stack.problems
    ]
    return {
        "name": source.name,
        "files": files,
        "width": columns.stop - columns.start,
        "height": rows.stop - rows.start,
        "left": columns.start,
        "top": rows.start,
        "type": str(fusion.image.dtype),
        "frames": frames,
        "unread": unread,
        "shuffled": fusion.shuffled,
        "seconds": round(seconds, 3),
        "peak_memory": peak_memory(),
    }


def summarize(report: dict) -> str:
    """A line on the stack, one for each frame that was left out or has a warning, and one if the
    frames are in no order of focus."""
    used = sum(frame["used"] for frame in report["frames"])
    count = len(report["frames"]) + len(report["unread"])
    lines = [
        f"{report['files']['fused']}: {used} of {count} frames, "
        f"{report['width']}×{report['height']}, {report['seconds']:.2f} s"
    ]
    names = [Path(frame["file"]).name for frame in report["frames"]]
    named = list(zip(names, report["frames"], strict=True))
    lines += [f"  {name} left out: {x['reason']}" for name, x in named if not x["used"]]
    lines += [f"  {name}: {x['warning']}" for name, x in named if x.get("warning")]
    if report.get("shuffled"):
        lines.append(
            "  the frames are in no order of focus, which harms alignment; see --order focus"
        )
    return "\n".join(lines)


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
