"""Per-stack report: for JSON and for the screen."""

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

    ``frames`` are in the order in which they were fused, and the index map counts them so, from 0;
    ``unread`` are files that could not be decoded. A ``matrix`` maps pixels of the reference frame
    to those of its frame; the result's first pixel is the reference's at ``left``, ``top``.
    ``shuffled``: see :class:`fusion.fuse.Fusion`.
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


def sentence(report: dict) -> str:
    """One line per stack, one per frame left out or warned of, and one if they are shuffled."""
    used = sum(frame["used"] for frame in report["frames"])
    lines = [
        "{fused}: {used} of {count} frames, {width}×{height}, {seconds:.2f} s".format(
            fused=report["files"]["fused"],
            used=used,
            count=len(report["frames"]) + len(report["unread"]),
            **{key: report[key] for key in ("width", "height", "seconds")},
        )
    ]
    lines += [
        f"  {Path(frame['file']).name} left out: {frame['reason']}"
        for frame in report["frames"]
        if not frame["used"]
    ]
    lines += [
        f"  {Path(frame['file']).name}: {frame['warning']}"
        for frame in report["frames"]
        if frame.get("warning")
    ]
    if report.get("shuffled"):
        lines.append(
            "  the frames are in no order of focus, which harms alignment; see --order focus"
        )
    return "\n".join(lines)


def peak_memory() -> int | None:
    """Peak memory of this process in bytes; None where unknown."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose getrusage starts from what the parent process had
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
