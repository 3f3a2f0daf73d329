"""Fuse files to files, a pair or a stack at a time, with a report and a record for ``--resume``."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from fusion.align import Registration, warp
from fusion.backends import Backend
from fusion.engine import needed_memory
from fusion.frames import BrokenFrame, Frames, widen
from fusion.fuse import FrameReport, Fusion, Progress, fuse
from fusion.order import sharpness, sort_by_focus
from fusion.outputs import FORMATS, Observe, Options, Outputs, check_free, file_of, writing_memory
from fusion.pairs import Problem
from fusion.stack_files import Frame, Source, Stack, look_into, too_few
from utils.atomic import atomic_files, write_json
from utils.errors import UserError, os_errors
from utils.images import Photo, check_writable, read_photo, white
from utils.process import peak_memory

Found = TypeVar("Found")


def plan(
    backend: Backend, source: Source, output: Path, options: Options, progress: Progress
) -> tuple[Stack, Path, int]:
    """Check and order a stack: its frames, the file of the result, the bytes of memory needed.
    Raises :class:`UserError` if it cannot be fused as requested; nothing is written."""
    stack = look_into(source, options.order, options.strict or source.pair)
    format = options.format or ("tiff" if stack.dtype == np.float32 else "png")
    result = file_of(output, source.name, f"Fusion{FORMATS[format]}")
    check_writable(result, stack.dtype, size=stack.size)
    check_free(result, source, options)
    if format == "jpg" and any(map(_is_transparent, stack.frames)):
        check_writable(result, stack.dtype, alpha=True)
    needed = needed_memory(stack.size, stack.dtype, backend, 2)
    needed += writing_memory(options, stack.size)
    if options.memory is not None and needed > options.memory:
        need = f"frames of {stack.frames[0].size} pixels take {needed / 1e9:.2f} GB"
        raise UserError(f"{source}: {need}, more than --memory {options.memory / 1e9:g}G")
    if options.order == "focus":

        def sort(images: Frames) -> Stack:
            maps = [sharpness(images[i]) for i in progress(range(len(images)), "ordering")]
            frames = [images.stack.frames[i] for i in sort_by_focus(maps)]
            return Stack(frames, images.stack.problems)

        stack = _without_broken(sort, stack, source, options, progress)
    return stack, result, needed


def fuse_stack(
    backend: Backend,
    source: Source,
    output: Path,
    options: Options,
    progress: Progress,
    observe: Observe | None = None,
    origin: dict | None = None,
) -> dict:
    """Fuse a stack and write its results, all or none; returns its report, see :func:`_describe`.

    A frame that cannot be decoded is left out and named in the report, unless ``options.strict``.
    ``observe`` is called with each aligned frame. With an ``origin`` the results have a record:
    the report, and what they were made from. Raises :class:`UserError` if the stack cannot be
    fused, or the results cannot be written.
    """
    stack, result, _ = plan(backend, source, output, options, progress)
    passed = ("align", "motion", "exposure", "crop", "strict")
    given = {name: getattr(options, name) for name in passed}
    if options.memory is not None:
        given["memory"] = options.memory - writing_memory(options, stack.size)

    def write(images: Frames) -> dict:
        started = time.perf_counter()
        with atomic_files(output, source.name) as folder:
            outputs = Outputs(folder, source.name, result.suffix, images, options, observe)
            watch = outputs.observe if observe or options.steps or options.preview else None
            names = [frame.name for frame in images.stack.frames]
            told = {"names": names, "observe": watch, "progress": progress}
            try:
                fusion = fuse(images, backend, **given, **told)
            except ValueError as error:
                raise UserError(f"{source}: {error}") from error
            shuffled = fusion.shuffled and options.order != "focus"
            first = next(i for i, about in enumerate(fusion.frames) if about.used)
            warned = _warn(images, fusion.frames, images.metadata[first].icc)
            fusion = replace(fusion, frames=warned, shuffled=shuffled)
            alpha = _common_alpha(images, fusion)
            photo = Photo(fusion.image, images.stack.grey, alpha, images.metadata[first])
            files = outputs.write(fusion, photo)
            seconds = time.perf_counter() - started
            report = _describe(source, images.stack, fusion, files, seconds)
            if origin:  # written last, so moved last; an older one must not speak for new files
                record = file_of(folder, source.name, "Record.json")
                write_json(record, {"report": report, "made_from": origin})
                (output / record.name).unlink(missing_ok=True)
        return report

    return _without_broken(write, stack, source, options, progress)


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
    return {"files": files, "options": asdict(options), "weights": digest}


def load_finished(output: Path, name: str, origin: dict) -> dict | None:
    """The report of a stack that was finished from the same origin and whose results exist."""
    try:
        record = json.loads(file_of(output, name, "Record.json").read_text(encoding="utf-8"))
        there = all((output / file).exists() for file in record["report"]["files"].values())
        return record["report"] if there and record["made_from"] == origin else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or not ours
        return None


def _is_transparent(frame: Frame) -> bool:
    """Whether a frame is anywhere less than opaque; a broken one is named when it is fused."""
    with contextlib.suppress(UserError):
        return frame.probe.alpha and read_photo(frame.path, frame.page).transparent
    return False


def _without_broken(
    work: Callable[[Frames], Found],
    stack: Stack,
    source: Source,
    options: Options,
    progress: Progress,
) -> Found:
    """Do ``work`` on a stack; without the frames that cannot be decoded, if they may be left out.
    After the first of them all others are read, so that the work begins anew once, not for each."""
    while True:
        with Frames(stack) as images:
            try:
                return work(images)
            except BrokenFrame as error:
                if options.strict or source.pair:
                    raise
                broken = {error.number: str(error)}  # not the error, whose frames hold images
            rest = progress(range(len(images)), "checking")
            broken |= {error.number: str(error) for error in images.find_broken(rest)}
        frames = [frame for i, frame in enumerate(stack.frames) if i not in broken]
        problems = [Problem((stack.frames[i].path,), why) for i, why in sorted(broken.items())]
        stack = Stack(frames, [*stack.problems, *problems])
        if len(frames) < 2:
            raise UserError(f"{source}: {too_few(stack)}")


def _warn(
    images: Frames, reports: Sequence[FrameReport], profile: bytes | None
) -> list[FrameReport]:
    """The reports of frames, with a warning for each used one that has another colour profile than
    that of the first, which the result has."""
    warned = []
    for i, report in enumerate(reports):
        said = [report.warning] if report.warning else []
        if report.used and images.metadata[i].icc != profile:
            said.append("its colour profile is not that of the first frame, which the result has")
        if images.stack.frames[i].turned:
            said.append("turned by the orientation of the first frame, not by that of its own file")
        warned.append(replace(report, warning="; ".join(said) or None))
    return warned


def _common_alpha(images: Frames, fusion: Fusion) -> np.ndarray | None:
    """The least alpha of all frames, read once more, at each pixel of the result, (h, w); None if
    all are opaque."""
    if not images.transparent:
        return None
    common = None
    for number, frame in enumerate(fusion.frames):
        alpha = images.photo(number).alpha if frame.used else None
        if alpha is not None:
            place = Registration(np.array(frame.matrix), np.ones(3))
            alpha = warp(widen(alpha, fusion.image.dtype), place, fusion.area)
            common = alpha if common is None else np.minimum(common, alpha)
    return None if common is None or common.min() == white(common.dtype) else common


def _describe(
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
        "unread": [{"file": str(x.files[0]), "reason": x.error} for x in stack.problems],
        "shuffled": fusion.shuffled,
        "seconds": round(seconds, 3),
        "peak_memory": peak_memory(),
    }
