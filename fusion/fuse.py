"""Fuse photographs of one scene: align them if asked to, and fuse them in groups.

>>> fusion = fuse([frame1, frame2, frame3])
>>> fusion.image, fusion.index

Frames are read one at a time, twice with alignment (to register, then to fuse them); only those of
one group are held in memory. A dark stack, such as 12 bits in files of 16, is read once more before
and brightened while it is fused: the network has learned from photographs that fill the range.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fusion.align import Progress, Registration, common_area, register, warp
from fusion.backends import Backend, load_backend
from fusion.engine import Picture, boundary_map, fuse_group, group_size, needed_memory
from fusion.order import is_shuffled, sharpness
from fusion.windows import Window
from utils.images import white

SMALLEST = 16  # pixels: side of a frame, and of the area that all frames show
WIDEST = 32766  # pixels: side of what OpenCV warps
DTYPES = (np.uint8, np.uint16, np.float32)
AS_THEY_ARE = "with --no-align (in Python, align=False)"  # how to fuse frames
# Stops that a stack is brightened by: with less it is not dark, more would show only noise.
DARK, DARKEST = 2, 8

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FrameReport:
    """Per-frame result."""

    used: bool  # whether it was fused
    reason: str | None  # why it was not
    matrix: list[list[float]] | None  # 3×3, from pixels of the reference frame to those of this one
    gain: list[float]  # factors on its stored R, G and B that match the median of the frames
    share: float = 0.0  # of the result's pixels that come from it
    seconds: float = 0.0  # to warp it, and its share of the time to fuse its group
    warning: str | None = None  # how it differs from the other frames


@dataclass(frozen=True)
class Fusion(Picture):
    """Fused photographs."""

    area: Window  # rows and columns of the reference frame that ``image`` shows
    frames: list[FrameReport]  # in the order given
    # (h, w) float16 if two frames were fused: 1 where the first is sharp, 0 where the second is,
    # 0.5 where neither is.
    guidance: np.ndarray | None = None
    # True if frames that had moved were given out of focus order, which harms their alignment:
    # neighbours share less sharp detail than they could. Nothing else depends on the order.
    shuffled: bool = False

    @property
    def boundary(self) -> np.ndarray | None:
        """(h, w) float16, of two frames: 1 − 2·|G − 0.5|, 1 where the residual acts."""
        return None if self.guidance is None else 1 - np.abs(2 * self.guidance - 1)


class Step(NamedTuple):
    """A frame and the maps of its group, as ``observe`` gets them."""

    frame: int
    aligned: np.ndarray  # (h, w, 3)
    guidance: np.ndarray  # (h, w) float16: 1 where the frame is sharp
    boundary: np.ndarray  # (h, w) float16: 1 where none of the group is


def fuse(
    images: "Iterable[np.ndarray | Tensor]",
    backend: Backend | None = None,
    *,
    align: bool = True,
    motion: str = "similarity",
    exposure: bool = True,
    crop: bool = True,
    strict: bool = False,
    memory: int | None = None,
    names: Sequence[str] | None = None,
    observe: Callable[[Step], None] | None = None,
    progress: Progress | None = None,
) -> Fusion:
    """Fuse photographs of one scene, each focused at another depth.

    Args:
        images: two or more (H, W, 3) RGB frames of one size and type: uint8, uint16, or floating
            point in [0, 1], which gives float32; arrays, tensors or Pillow's images. A sequence
            may read them from files on access: none is kept.
        backend: from :func:`fusion.backends.load_backend`, once for many calls; by default the
            shipped weights are loaded at each.
        align: register the frames; not needed for tripod and microscope stacks.
        motion, exposure: see :func:`fusion.align.register`.
        crop: keep only the area that all frames show; otherwise that of the reference frame, with
            the edge pixels of frames repeated beyond them.
        strict: raise ValueError before any fusing if a frame cannot be registered, instead of
            leaving it out.
        memory: bytes that the process may take, which limits how many frames are fused at once; by
            default half of what the machine has left.
        names: what messages call the frames; by default "frame 1", "frame 2", …
        observe: called with each frame after its group was fused.
        progress: wraps the frame numbers in a bar: ``lambda numbers, stage: tqdm(numbers, stage)``.

    Raises:
        ValueError: fewer than two frames can be used, they differ in size or type, are smaller than
            16×16, have less than that in common, are too large to be aligned, have values outside
            [0, 1], or ``memory`` is too little.
    """
    progress = progress or (lambda numbers, stage: numbers)
    images = images if hasattr(images, "__len__") else list(images)
    if len(images) < 2:
        raise ValueError(f"a stack has at least 2 frames, not {len(images)}")
    names = names or [f"frame {i + 1}" for i in range(len(images))]
    frames, backend = _Arrays(images, names), backend or load_backend()
    size, dtype = frames.size, frames.dtype
    if memory is not None and (needed := needed_memory(size, dtype, backend, 2)) > memory:
        need = f"frames of {size[1]}×{size[0]} pixels take {needed / 1e9:.2f} GB"
        raise ValueError(f"{need}, more than the limit of {memory / 1e9:g} GB")
    frames.brighten(progress)
    registrations = [Registration(np.eye(3), np.ones(3))] * len(frames)
    if align:
        if max(size) > WIDEST:
            what = f"frames of {size[1]}×{size[0]} pixels are too large to be aligned"
            way = f"fuse them {AS_THEY_ARE}"
            raise ValueError(f"{what}, {WIDEST} is the longest side; {way}")
        registrations = register(frames, motion=motion, exposure=exposure, progress=progress)
    for i, found in enumerate(registrations):
        if strict and found.matrix is None:
            raise ValueError(f"{names[i]}: {found.reason}")
    used = [i for i, found in enumerate(registrations) if found.matrix is not None]
    if len(used) < 2:
        found = zip(names, registrations, strict=True)
        reasons = (f"{name}: {each.reason}" for name, each in found if each.reason)
        what = f"fewer than two frames can be used ({'; '.join(reasons)})"
        raise ValueError(f"{what}; if they are registered already, fuse them {AS_THEY_ARE}")
    area = common_area(registrations, size) if crop else tuple(slice(0, n) for n in size)
    height, width = (max(0, s.stop - s.start) for s in area)
    if min(height, width) < SMALLEST:
        what = f"the frames have only {width}×{height} pixels in common"
        way = "keep the size instead of cropping, or leave frames out"
        raise ValueError(f"{what}, {SMALLEST}×{SMALLEST} is the least; {way}")
    most = group_size((height, width), dtype, backend, len(used), memory)
    keep = most if observe else int(len(used) == 2)
    moved = any(not np.array_equal(registrations[i].matrix, np.eye(3)) for i in used)
    picture = kept = None
    waiting: dict[int, np.ndarray] = {}  # aligned frames of the next group
    seconds: dict[int, float] = {}
    maps = []  # of sharpness
    for i in progress(used, "fusing"):
        started = time.perf_counter()
        waiting[i] = warp(frames[i], registrations[i], area)
        seconds[i] = time.perf_counter() - started
        if moved:
            maps.append(sharpness(waiting[i]))
        if len(waiting) + (picture is not None) < most and i != used[-1]:
            continue
        started = time.perf_counter()
        picture, kept = fuse_group(backend, [*waiting.values()], [*waiting], picture, keep)
        for number in waiting:
            seconds[number] += (time.perf_counter() - started) / len(waiting)
        if observe:
            boundary, maps_kept = boundary_map(kept), kept[-len(waiting) :]
            for (number, aligned), guidance in zip(waiting.items(), maps_kept, strict=True):
                observe(Step(number, darken(aligned, frames.stops), guidance, boundary))
        waiting.clear()
    darken(picture.image, frames.stops)
    # Row by row, since bincount widens its input.
    share = sum(np.bincount(row, minlength=len(frames)) for row in picture.index)
    share = share / picture.index.size
    reports = [
        FrameReport(
            used=i in used,
            reason=found.reason,
            matrix=found.matrix.tolist() if i in used else None,
            gain=found.gain.tolist(),
            share=float(share[i]),
            seconds=round(seconds.get(i, 0.0), 6),
            warning=found.warning,
        )
        for i, found in enumerate(registrations)
    ]
    return Fusion(
        **vars(picture),
        area=area,
        frames=reports,
        guidance=kept[0] if len(used) == 2 else None,
        shuffled=is_shuffled(maps),
    )


def find_stops(frame: np.ndarray) -> int:
    """By how many stops a frame, uint8, uint16 or float32, is brightened at most without any value
    beyond white; 0 if it is not dark."""
    brightest = max(float(frame.max()) / white(frame.dtype), 2.0**-DARKEST)
    stops = int(np.log2(1 / brightest))
    return stops if stops >= DARK else 0


def darken(image: np.ndarray, stops: int) -> np.ndarray:
    """Divide an image by 2^stops, rounded, in place."""
    if stops and image.dtype == np.float32:
        image /= np.float32(2**stops)
    elif stops:
        image >>= stops - 1
        image += 1
        image >>= 1
    return image


def _as_array(image: "np.ndarray | Tensor") -> np.ndarray:
    """An array in the machine's byte order, floating point as float32."""
    if hasattr(image, "detach"):  # a tensor
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image
    array = np.asarray(image)
    is_float = array.dtype.kind == "f"
    return array.astype(np.float32 if is_float else array.dtype.newbyteorder("="), copy=False)


class _Arrays(Sequence):
    """Frames as arrays, checked on access and brightened by ``stops``; the first one, read for its
    size, is kept until then."""

    def __init__(self, images: "Sequence[np.ndarray | Tensor]", names: Sequence[str]):
        self.images, self.names, self.first, self.size, self.stops = images, names, None, None, 0
        self.first = self[0]
        self.size, self.dtype = self.first.shape[:2], self.first.dtype

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> np.ndarray:
        frame = self._read(i)
        if self.stops and frame.dtype == np.float32:
            return frame * np.float32(2**self.stops)
        return frame << self.stops if self.stops else frame

    def brighten(self, progress: Progress) -> None:
        """Choose the stops: those that the brightest frame allows."""
        stops = find_stops(self.first)
        if stops:
            for i in progress(range(1, len(self)), "measuring"):
                stops = min(stops, find_stops(self[i]))
        self.stops = stops

    def _read(self, i: int) -> np.ndarray:
        if i == 0 and self.first is not None:
            frame, self.first = self.first, None
            return frame
        image, name = self.images[i], self.names[i]
        frame = _as_array(image)
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype not in DTYPES:
            found = f"{frame.shape} {frame.dtype}" if frame.ndim else f"a {type(image).__name__}"
            what = f"frames are (H, W, 3) RGB of uint8, uint16 or floating point, not {found}"
            way = "utils.images.read_photo(path).rgb reads any file as such"
            raise ValueError(f"{name}: {what}; {way}")
        size = f"{frame.shape[1]}×{frame.shape[0]}"
        if min(frame.shape[:2]) < SMALLEST:
            least = f"{SMALLEST}×{SMALLEST} is the least"
            raise ValueError(f"{name} has {size} pixels, {least}")
        if self.size and (frame.shape[:2], frame.dtype) != (self.size, self.dtype):
            before = f"the frames before {self.size[1]}×{self.size[0]} {self.dtype}"
            way = "all have to be of one size and type"
            raise ValueError(f"{name} is {size} {frame.dtype}, {before}; {way}")
        if frame.dtype == np.float32 and not (frame.min() >= 0 and frame.max() <= 1):  # or NaN
            raise ValueError(f"{name} has values outside [0, 1]; scale all frames alike")
        return frame
