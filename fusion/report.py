"""The report of a fused stack, and its record beside the results, which ``--resume`` reads."""

import contextlib
import hashlib
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

from fusion.fuse import Fusion
from fusion.outputs import FORMATS, Options
from fusion.stack_files import Source, Stack
from utils.atomic import partial
from utils.errors import UserError, os_errors


def describe(
    source: Source, stack: Stack, fusion: Fusion, files: dict[str, str], seconds: float
) -> dict:
    """The report of a stack: plain values for JSON.

    ``frames`` has a per-frame result, see :class:`fusion.fuse.FrameReport`, in the order of fusing;
    the index map refers to this order, from 0. ``unread`` lists files that could not be decoded.
    The first pixel of the result is the reference frame's at ``left``, ``top``.
    """
    rows, columns = fusion.area
    return {
        "name": source.name,
        "files": files,
        "width": columns.stop - columns.start,
        "height": rows.stop - rows.start,
        "left": columns.start,
        "top": rows.start,
        "type": str(fusion.image.dtype),
        "frames": [
            {"file": str(frame.path), "page": frame.page, **asdict(report)}
            for frame, report in zip(stack.frames, fusion.frames, strict=True)
        ],
        "unread": [{"file": str(files[0]), "reason": why} for files, why in stack.problems],
        "shuffled": fusion.shuffled,
        "seconds": round(seconds, 3),
        "peak_memory": peak_memory(),
    }


def summarize(report: dict) -> str:
    """A line on the stack, and one for each frame left out and each warning."""
    used = sum(frame["used"] for frame in report["frames"])
    count = len(report["frames"]) + len(report["unread"])
    size = f"{report['width']}×{report['height']}"
    about = f"{used} of {count} frames, {size}, {report['seconds']:.2f} s"
    lines = [f"{report['files']['fused']}: {about}"]
    named = [(Path(frame["file"]).name, frame) for frame in report["frames"]]
    lines += [f"  {name} left out: {x['reason']}" for name, x in named if not x["used"]]
    lines += [f"  {name}: {x['warning']}" for name, x in named if x["warning"]]
    if report["shuffled"]:
        what = "the frames are in no order of focus, which harms alignment"
        lines.append(f"  {what}; see --order focus")
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


def describe_origin(source: Source, options: Options, weights: Path) -> dict:
    """What the results of a stack depend on: its files, the options and the weights."""
    with os_errors(f"read {weights}"):
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    files = []
    for path in source.files:
        files.append({"file": path.name})
        with contextlib.suppress(OSError):  # an absent one has only a name
            stat = path.stat()
            files[-1] |= {"bytes": stat.st_size, "changed": stat.st_mtime_ns}
    chosen = asdict(options)
    del chosen["memory"]  # does not change the results
    return {"files": files, "options": chosen, "weights": digest}


def load_finished(output: Path, name: str, origin: dict) -> dict | None:
    """The report of a stack that was finished from the same origin and whose results exist."""
    try:
        record = json.loads(record_path(output, name).read_text(encoding="utf-8"))
        there = all((output / file).exists() for file in record["report"]["files"].values())
        return record["report"] if there and record["made_from"] == origin else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or not ours
        return None


def check_results(output: Path, name: str, pair: bool) -> None:
    """Raise a :class:`UserError` if the result of a pair would replace that of a stack, or that of
    a stack a file that no stack gave."""
    record = record_path(output, name)
    if pair and record.exists():
        what = f"{record} says that {name}-Fusion is a stack's result"
        raise UserError(f"{what}, which the pair's would replace; give another --output")
    # A stack that was killed between two files left its partial folder.
    if pair or record.exists() or partial(output, name).exists():
        return
    for path in (output / f"{name}-Fusion{suffix}" for suffix in FORMATS.values()):
        if path.exists():
            what = f"{path} is there and no stack's, for {record.name} is not beside it"
            raise UserError(f"{what}; move it, or give another --output")


def record_path(output: Path, name: str) -> Path:
    """The record of a finished stack: its report, and what it was made from."""
    return output / f"{name}-Record.json"
