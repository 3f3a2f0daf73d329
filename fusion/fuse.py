"""Fuse photographs of one scene: align them if asked to, and fuse them in groups.

>>> fusion = fuse([frame1, frame2, frame3])
>>> fusion.image, fusion.index

Frames are read one at a time, twice if they are to be aligned (to register them, then to fuse
them), and those of a group are held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fusion.align import Registration, common_area, register, warp
from fusion.backends import Backend, load_backend
from fusion.engine import fuse_group, group_size, needed_memory
from fusion.order import is_shuffled, sharpness
from fusion.windows import Window

SMALLEST = 16  # pixels: side of a frame, and of what frames have in common
DTYPES = (np.uint8, np.uint16, np.float32)

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[Iterable[int], str], Iterable[int]]


@dataclass(frozen=True)
class FrameReport:
    """Per-frame result.

    Attributes:
        used: whether it was fused; if not, ``reason`` says why.
        matrix: 3×3, from pixels of the reference frame to pixels of this one.
        gain: factors on its stored R, G and B that match the median of the frames.
        share: of the result's pixels that come from it.
        seconds: to warp and fuse it, its share of its group's.
        warning: in what it differs from the other frames, or None.
    """

    used: bool
    reason: str | None
    matrix: list[list[float]] | None
    gain: list[float]
    share: float = 0.0
    seconds: float = 0.0
    warning: str | None = None


@dataclass(frozen=True)
class Fusion:
    """Fused photographs.

    Attributes:
        image: (h, w, 3) of the frames' type.
        index: (h, w) uint16: the frame that each pixel comes from; in the band around the FDB,
            where none is right, the one that contributes most.
        confidence: (h, w) uint8; 255 where one frame was clearly right, 0 where none was.
        area: rows and columns of the reference frame that ``image`` shows.
        frames: a report of each frame, in the order given.
        guidance: (h, w) float16, of two frames that were fused: 1 where the first is right, 0 where
            the second is, 0.5 where neither; otherwise None.
        shuffled: whether frames had to be registered that follow one another in no order of focus:
            neighbours share less that is sharp than they could. Nothing else depends on the order.
    """

    image: np.ndarray
    index: np.ndarray
    confidence: np.ndarray
    area: Window
    frames: list[FrameReport]
    guidance: np.ndarray | None = None
    shuffled: bool = False

    @property
    def boundary(self) -> np.ndarray | None:
        """(h, w) float16, of two frames: 1 − 2·|G − 0.5|, where the residual acts."""
        return None if self.guidance is None else 1 - np.abs(2 * self.guidance - 1)


class Step(NamedTuple):
    """A frame and its share of its group's guidance map, as ``observe`` gets them."""

    frame: int
    aligned: np.ndarray  # (h, w, 3)
    guidance: np.ndarray  # (h, w) float16: 1 where the frame is right
    boundary: np.ndarray  # (h, w) float16: 1 where none of the group is


def fuse(
    images: Sequence[np.ndarray | Tensor],
    backend: Backend | None = None,
    *,
    align: bool = True,
    motion: str = "similarity",
    exposure: bool = True,
    crop: bool = True,
    memory: int | None = None,
    observe: Callable[[Step], None] | None = None,
    progress: Progress | None = None,
) -> Fusion:
    """Fuse photographs of one scene, each focused at another depth.

    Args:
        images: a sequence of at least two equally large (H, W, 3) frames, RGB: uint8, uint16 or
            float32 in [0, 1], arrays or tensors. It may read its frames from files when it is
            asked for them; none is kept.
        backend: of :func:`fusion.backends.load_backend`; by default with the shipped weights.
        align: register the frames to one another; leave it out for tripod and microscope stacks
            that are registered already.
        motion, exposure: see :func:`fusion.align.register`.
        crop: keep the area that all frames show; otherwise the reference frame's, where what a
            frame does not show is continued from its edge.
        memory: bytes that the process may take, by which so many frames are fused at once; by
            default half of what the machine has left.
        observe: called with each frame after its group was fused.
        progress: goes through frame numbers with a bar, like
            ``lambda numbers, stage: tqdm(numbers, stage)``.

    Raises:
        ValueError: fewer than two frames can be used, they differ in size or type, are smaller than
            16×16, have less than that in common, or ``memory`` is too little.
    """
    progress = progress or (lambda numbers, stage: numbers)
    frames = _Arrays(images)
    if len(frames) < 2:
        raise ValueError(f"a stack has at least 2 frames, not {len(frames)}")
    backend = backend or load_backend()
    size, dtype = frames.size()
    if memory is not None and (needed := needed_memory(size, dtype, backend, 2)) > memory:
        raise ValueError(
            f"frames of {size[1]}×{size[0]} pixels take {needed / 1e9:.2f} GB, more than the limit "
            f"of {memory / 1e9:.2f} GB"
        )
    if align:
        registrations = register(frames, motion=motion, exposure=exposure, progress=progress)
    else:
        registrations = [Registration(np.eye(3), np.ones(3), None) for _ in range(len(frames))]
    used = [i for i, found in enumerate(registrations) if found.matrix is not None]
    if len(used) < 2:
        reasons = (f"frame {i + 1}: {r.reason}" for i, r in enumerate(registrations) if r.reason)
        raise ValueError(
            f"fewer than two frames can be used ({'; '.join(reasons)}); --no-align fuses frames "
            "that are registered already"
        )
    area = (slice(0, size[0]), slice(0, size[1]))
    if align and crop:
        area = common_area(registrations, size)
    height, width = (max(0, s.stop - s.start) for s in area)
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"the frames have only {width}×{height} pixels in common, {SMALLEST}×{SMALLEST} is the "
            "least; keep the size instead of cropping, or leave frames out"
        )
    most = group_size((height, width), dtype, backend, len(used), memory)
    keep = most if observe else int(len(used) == 2)
    moved = any(not np.array_equal(registrations[i].matrix, np.eye(3)) for i in used)
    picture, kept, seconds, waiting, maps = None, None, {}, {}, []
    for i in progress(used, "fusing"):
        started = time.perf_counter()
        waiting[i] = _aligned(frames[i], registrations[i], area)
        seconds[i] = time.perf_counter() - started
        if moved:
            maps.append(sharpness(waiting[i]))
        if len(waiting) + (picture is not None) < most and i != used[-1]:
            continue
        started = time.perf_counter()
        picture, kept = fuse_group(
            backend, list(waiting.values()), list(waiting), picture, keep=keep
        )
        for number in waiting:
            seconds[number] += (time.perf_counter() - started) / len(waiting)
        if observe:
            boundary = np.minimum(1, 2 * (1 - kept.max(0)))
            for guidance, (number, aligned) in zip(
                kept[-len(waiting) :], waiting.items(), strict=True
            ):
                observe(Step(number, aligned, guidance, boundary))
        waiting.clear()
    rows = (np.bincount(row, minlength=len(frames)) for row in picture.index)  # it widens its input
    share = sum(rows) / picture.index.size
    reports = [
        FrameReport(
            used=found.matrix is not None,
            reason=found.reason,
            matrix=None if found.matrix is None else found.matrix.tolist(),
            gain=found.gain.tolist(),
            share=float(share[i]),
            seconds=round(seconds.get(i, 0.0), 6),
            warning=found.warning,
        )
        for i, found in enumerate(registrations)
    ]
    guidance = kept[0] if len(used) == 2 else None
    return Fusion(*vars(picture).values(), area, reports, guidance, is_shuffled(maps))


def _aligned(frame: np.ndarray, found: Registration, area: Window) -> np.ndarray:
    """Warp a frame to the reference, cropped to ``area``."""
    rows, columns = area
    identity = np.array_equal(found.matrix, np.eye(3)) and np.all(found.gain == 1)
    if identity:
        return np.ascontiguousarray(frame[area])
    offset = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]], np.float64)
    size = (rows.stop - rows.start, columns.stop - columns.start)
    return warp(frame, replace(found, matrix=found.matrix @ offset), size)


class _Arrays(Sequence):
    """Frames as arrays, checked as they come."""

    def __init__(self, images: Sequence[np.ndarray | Tensor]):
        self.images = images
        self.first: tuple[tuple[int, int], np.dtype] | None = None
        self.ahead: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> np.ndarray:
        if i in self.ahead:
            return self.ahead.pop(i)
        image = self.images[i]
        frame = image if isinstance(image, np.ndarray) else image.cpu().numpy()
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype not in DTYPES:
            raise ValueError(
                f"frame {i + 1}: frames are (H, W, 3) uint8, uint16 or float32, not {frame.shape} "
                f"{frame.dtype}"
            )
        if min(frame.shape[:2]) < SMALLEST:
            raise ValueError(
                f"frame {i + 1} has {frame.shape[1]}×{frame.shape[0]} pixels, "
                f"{SMALLEST}×{SMALLEST} is the least"
            )
        form = frame.shape[:2], frame.dtype
        if self.first is None:
            self.first = form
        if form != self.first:
            (height, width), dtype = self.first
            raise ValueError(
                f"frame {i + 1} is {frame.shape[1]}×{frame.shape[0]} {frame.dtype}, the frames "
                f"before {width}×{height} {dtype}; frames are equally large and of one type"
            )
        return frame

    def size(self) -> tuple[tuple[int, int], np.dtype]:
        """(H, W) and type of the frames; reads the first, which is kept until it is asked for."""
        if self.first is None:
            self.ahead[0] = self[0]
        return self.first
