"""Fuse files to files, a pair or a stack at a time."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion.align import Registration, warp
from fusion.backends import Backend
from fusion.engine import needed_memory
from fusion.fuse import Fusion, Progress, Step, fuse
from fusion.order import sort_by_focus
from fusion.outputs import FORMATS, Options, Outputs, check_free, writing_memory
from fusion.pairs import Problem
from fusion.report import check_results, describe, record_path
from fusion.stack_files import BrokenFrame, Frames, Source, Stack, look_into, widen
from utils.atomic import atomic_files, write_json
from utils.errors import UserError
from utils.images import Photo, check_writable, white


def plan(
    backend: Backend, source: Source, output: Path, options: Options, progress: Progress
) -> tuple[Stack, Path, int]:
    """Check and order a stack: its frames, the file of the result, the bytes of memory needed.
    Raises :class:`UserError` if it cannot be fused as requested; nothing is written."""
    stack = look_into(source, options.order, options.strict or source.pair)
    format = options.format or ("tiff" if stack.dtype == np.float32 else "png")
    result = output / f"{source.name and source.name + '-'}Fusion{FORMATS[format]}"
    check_writable(result, stack.dtype)
    check_free(result, options, source.files)
    check_results(output, source.name, source.pair)
    needed = needed_memory(stack.size, stack.dtype, backend, 2)
    needed += writing_memory(options, stack.size)
    if options.memory is not None and needed > options.memory:
        need = f"frames of {stack.frames[0].size} pixels take {needed / 1e9:.2f} GB"
        raise UserError(f"{source.origin}: {need}, more than --memory {options.memory / 1e9:.2f}G")
    while options.order == "focus":
        with Frames(stack) as images:
            try:
                order = sort_by_focus(images, progress(range(len(images)), "ordering"))
                return Stack([stack.frames[i] for i in order], stack.problems), result, needed
            except BrokenFrame as error:
                stack = _without(stack, error, source, options)
    return stack, result, needed


def fuse_stack(
    backend: Backend,
    source: Source,
    output: Path,
    options: Options,
    progress: Progress,
    observe: Callable[[Step], None] | None = None,
    origin: dict | None = None,
) -> dict:
    """Fuse a stack and write its results, all or none; returns :func:`fusion.report.describe`.

    A frame that cannot be decoded is left out and named in the report, unless ``options.strict``.
    ``observe`` is that of :func:`fusion.fuse.fuse`. With an ``origin`` the results have a record,
    see :mod:`fusion.report`. Raises :class:`UserError` if the stack cannot be fused, or the results
    cannot be written.
    """
    stack, result, _ = plan(backend, source, output, options, progress)
    while True:
        started = time.perf_counter()
        try:
            with Frames(stack) as images, atomic_files(output, source.name) as folder:
                outputs = Outputs(folder, result.name, stack, options, observe)
                fusion = _fuse(backend, images, source, outputs, progress)
                alpha = _common_alpha(images, fusion)
                photo = Photo(fusion.image, stack.grey, alpha, images.metadata)
                files = outputs.write(fusion, photo)
                report = describe(source, stack, fusion, files, time.perf_counter() - started)
                if origin:  # written last, so moved last: no result is ever without its record
                    write_json(
                        record_path(folder, source.name), {"report": report, "made_from": origin}
                    )
            return report
        except BrokenFrame as error:
            stack = _without(stack, error, source, options)


def _without(stack: Stack, error: BrokenFrame, source: Source, options: Options) -> Stack:
    """The stack without a frame that cannot be decoded, if the others may and can be fused."""
    if options.strict or source.pair:
        raise UserError(str(error)) from error
    frames = [frame for i, frame in enumerate(stack.frames) if i != error.number]
    if len(frames) < 2:
        raise UserError(f"{source.origin}: 1 frame can be read, a stack has at least 2; {error}")
    broken = Problem((stack.frames[error.number].path,), str(error))
    return Stack(frames, [*stack.problems, broken])


def _fuse(
    backend: Backend, images: Frames, source: Source, outputs: Outputs, progress: Progress
) -> Fusion:
    """Fuse the frames of a stack, which ``outputs`` observe; a ValueError, or with ``strict`` an
    unused frame, is a UserError."""
    options, limit = outputs.options, outputs.options.memory
    if limit is not None:
        limit -= writing_memory(options, images.stack.size)
    observe = outputs.observe if outputs.also or options.steps or options.preview else None
    given = {name: getattr(options, name) for name in ("align", "motion", "exposure", "crop")}
    try:
        fusion = fuse(images, backend, **given, memory=limit, observe=observe, progress=progress)
    except ValueError as error:
        raise UserError(f"{source.origin}: {error}") from error
    for frame, report in zip(images.stack.frames, fusion.frames, strict=True):
        if options.strict and not report.used:
            raise UserError(f"{frame}: {report.reason}")
    return replace(fusion, shuffled=fusion.shuffled and options.order != "focus")


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
