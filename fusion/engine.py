"""Fuse registered photographs by the cascade, in groups, in tiles and at two resolutions.

The cascade takes any number of photographs. Many are fused in groups; the result of a group is one
photograph of the next, so memory does not depend on their number. The guidance map of a small group
is computed at once, that of a larger one in tiles, and above a megapixel at half resolution: blur
in photographs of a camera is many pixels wide, and there the sub-nets see all of it. The result is
then composed block by block, in several threads:

* A block in which one photograph is sharp everywhere is copied from it.
* In others the guidance map is computed at full resolution again, where that shows more.
* The boundary fusion sub-net processes boxes around the boundary, with the photographs that have
  weight there. Its coefficients are smooth: they are enlarged from half resolution, except where
  the guidance map was computed again.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fusion.backends import AT_ONCE, Backend, Planes
from fusion.windows import Window, around, at, boxes, doubled, halved, squares, tiles, within
from utils.images import white

TILE = 300_000  # pixels of each photograph in the tiles at work, if ``AT_ONCE`` allows more
TILES = 2  # at work
SQUARE = 144  # pixels: side of the blocks composed in parallel
# Pixels around a tile or a box that the sub-nets see: where tiles must give what the whole picture
# gives; and in larger pictures. Sides of boxes are then multiples of 32, which the initial sub-net
# fills up to. Receptive fields are larger, but more improved nothing.
VIEW, NEAR = 32, 8
# Two-resolution thresholds.
WHOLE = 1_000_000  # pixels: larger photographs are processed at half resolution first
UNSURE = 0.1  # boundary map at half resolution above which full resolution decides alone
NEARBY = 3  # pixels around an unsure one that full resolution decides too: the FDB may be there
# Detail lost at half resolution (the difference between photographs, times the boundary map, mean
# of 16×16 pixels) above which the guidance map is computed again. With less, generated and
# ray-traced stacks hardly improved.
VISIBLE = 7 / 255
REPAIRED = 4 / 255  # difference times boundary map above which the residual is visible
SETTLED = 1 / 512  # a guidance map nearer than this to 1 copies pixels
FAINT = 1 / 50  # photographs with less weight everywhere in a block are left out of it

# Frames held beside the photographs of a group: one decoded, one aligned, one read ahead, the
# result.
FRAMES = 4


@dataclass(frozen=True)
class Picture:
    """The result of fusing photographs (H, W)."""

    image: np.ndarray  # (H, W, 3) of the photographs' type
    index: np.ndarray  # (H, W) uint16, number of the photograph that contributes most to a pixel
    confidence: np.ndarray  # (H, W) uint8; 255 where one was clearly sharp, 0 where none was


def fuse_group(
    backend: Backend,
    photographs: Sequence[np.ndarray],
    numbers: Sequence[int],
    before: Picture | None = None,
    keep: int = 0,
) -> tuple[Picture, np.ndarray]:
    """Fuse registered photographs; their order makes no difference.

    Args:
        photographs: (H, W, 3) uint8, uint16 or float32 in [0, 1], of one size and type, at least
            16×16.
        numbers: of the photographs, for the index.
        before: the result of the groups before, which joins this one.
        keep: number of photographs whose guidance maps (keep, H, W) float16 are returned with the
            result, at most; that of ``before`` first.
    """
    with ThreadPoolExecutor(backend.threads) as pool:
        group = _Group(backend, photographs, numbers, before, keep, pool)
        everything = tuple(slice(0, n) for n in group.size)
        if group.whole:
            group.fuse(everything)
        else:
            list(pool.map(group.fuse, squares(everything, SQUARE)))  # raises what it raised
    return group.result, group.kept


class _Group:
    def __init__(
        self,
        backend: Backend,
        photographs: Sequence[np.ndarray],
        numbers: Sequence[int],
        before: Picture | None,
        keep: int,
        pool: ThreadPoolExecutor,
    ):
        self.backend, self.before, self.pool = backend, before, pool
        self.photographs, self.numbers = [*photographs], np.array(numbers)
        if before is not None:  # it has no number: its pixels keep theirs
            self.photographs.insert(0, before.image)
            self.numbers = np.array([-1, *numbers])
        first = self.photographs[0]
        self.size, self.dtype = first.shape[:2], first.dtype
        self.full = white(first.dtype)
        pixels = self.size[0] * self.size[1]
        self.large = pixels > WHOLE
        self.view = NEAR if self.large else VIEW
        self.whole = not self.large and len(self.photographs) * pixels <= AT_ONCE
        self.loaded = backend.load(self.photographs) if self.whole else None
        self.small = list(pool.map(halve, self.photographs)) if self.large else self.photographs
        self.guidance = self._guide()
        maps = (np.empty(self.size, kind) for kind in (np.uint16, np.uint8))
        self.result = Picture(np.empty_like(first), *maps)
        self.kept = np.zeros((min(keep, len(self.photographs)), *self.size), np.float16)

    def fuse(self, block: Window) -> None:
        """Compose a block of the result."""
        seen = around(block, self.size, (2 if self.large else 1) * self.view)
        inside = within(block, seen)  # this and the boxes are relative to ``seen``
        known = at(self.guidance, halved(seen) if self.large else seen)
        if (one := _find_settled(known)) is not None:
            self.result.image[block] = self.photographs[one][block]
            alone = np.ones((1, *self.result.index[block].shape), np.float32)
            return self._record(block, np.array([one]), alone)
        used, x = np.arange(len(known)), self.loaded
        if not self.whole:
            used = _select_weighted(known)
            x = self.backend.load([self.photographs[i][seen] for i in used])
        known = known[used].astype(np.float32)
        known /= known.sum(0)
        if self.large:
            guidance, coefficients = self._decide(x, used, known, seen, inside)
        else:
            guidance = known
            touched = boundary_map(guidance) > SETTLED
            # In a small group, boxes with their surroundings would exceed the whole image.
            parts = [inside] if self.whole and touched.any() else boxes(touched, inside, SQUARE)
            coefficients = self._coefficients(x, guidance, parts)

        def compose(square: Window) -> None:
            here = within(square, seen)
            decided = at(guidance, here)
            if (one := _find_settled(decided)) is not None:
                self.result.image[square] = self.photographs[used[one]][square]
            else:
                found = None if coefficients is None else at(coefficients, here)
                self._store(square, self.backend.blend(at(x, here), decided, found))
            self._record(square, used, decided)

        if self.whole:  # there is no other block for the other threads
            list(self.pool.map(compose, squares(block, SQUARE)))
        else:
            compose(block)

    def _guide(self) -> np.ndarray:
        """The guidance map (N, h, w), at half resolution if the photographs are large."""
        size, count = self.small[0].shape[:2], len(self.small)
        if self.whole:
            return self.backend.guide(self.loaded, alone=True)
        # Half precision is enough for a map that is computed again.
        guidance = np.empty((count, *size), np.float16 if self.large else np.float32)
        most = min(AT_ONCE / count, TILE)
        alone = size[0] * size[1] <= most
        side = max(size) if alone else int((most / TILES) ** 0.5) - 2 * self.view

        def guide(tile: Window) -> None:
            seen = around(tile, size, self.view)
            found = self.backend.guide(self.backend.load([x[seen] for x in self.small]), alone)
            at(guidance, tile)[:] = at(found, within(tile, seen))

        list(self.pool.map(guide, tiles(size, side)))
        return guidance

    def _decide(
        self, x: Planes, used: np.ndarray, known: np.ndarray, seen: Window, inside: Window
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Guidance map and coefficients at full resolution: enlarged, and computed again where
        full resolution shows more detail."""
        small = [self.small[i][halved(seen)] for i in used]
        size = x.shape[-2:]
        rows, columns = (slice(n) for n in size)
        guidance, boundary = double_planes(known)[:, rows, columns], boundary_map(known)
        details = (
            cv2.subtract(self.photographs[i][seen], double(part)[rows, columns], dtype=cv2.CV_32F)
            for i, part in zip(used, small, strict=True)
        )
        doubt = dilate(boundary_map(guidance), NEARBY)
        sharper = spread(details) * doubt
        again = boxes(cv2.blur(sharper, (16, 16)) > VISIBLE * self.full, inside, SQUARE)
        touched = spread(small) * boundary > REPAIRED * self.full
        for box in again:
            touched[halved(box)] = False  # computed at full resolution below
        parts = boxes(touched, halved(inside), SQUARE)
        coefficients = self._coefficients(self.backend.load(small), known, parts, full=size)
        for box in again:
            view = around(box, size, self.view)
            found = at(self.backend.guide(at(x, view)), within(box, view))
            before = at(guidance, box)
            # Sure decisions stay: wide blur is recognised better at half resolution.
            before += np.minimum(1, at(doubt, box) / UNSURE) * (found - before)
        return guidance, self._coefficients(x, guidance, again, coefficients)

    def _coefficients(
        self,
        x: Planes,
        guidance: np.ndarray,
        parts: Sequence[Window],
        planes: np.ndarray | None = None,
        full: tuple[int, int] | None = None,
    ) -> np.ndarray | None:
        """Coefficients of the residual: ``planes`` (C, h, w), zero by default, filled in the given
        parts, and enlarged to ``full`` resolution if that is given; None if there are none."""
        for part in parts:
            view = around(part, guidance.shape[1:], self.view)
            found = self.backend.coefficients(at(x, view), at(guidance, view), self.whole)
            if found is None:
                return None
            here = within(part, view)
            if full:
                found, here, part = double_planes(found), doubled(here), doubled(part)
            if planes is None:
                planes = np.zeros((len(found), *(full or guidance.shape[1:])), np.float32)
            target = at(planes, part)
            target[:] = at(found, here)[:, : target.shape[1], : target.shape[2]]
        return planes

    def _store(self, block: Window, fused: np.ndarray) -> None:
        """Write planes (3, h, w) to the result, in the type of the photographs."""
        image = cv2.merge(list(fused))
        if self.dtype == np.float32:
            image = np.clip(image, 0, 1)
        else:
            kind = cv2.CV_8U if self.dtype == np.uint8 else cv2.CV_16U
            image = cv2.multiply(image, (self.full,) * 4, dtype=kind)  # rounds and saturates
        self.result.image[block] = image

    def _record(self, block: Window, used: np.ndarray, guidance: np.ndarray) -> None:
        """Write index, confidence and the guidance maps to keep."""
        most = guidance.max(0)
        sure = np.rint(np.clip(2 * most - 1, 0, 1) * np.float32(255)).astype(np.uint8)
        best = self.numbers[used][guidance.argmax(0)]
        if self.before is not None:
            old = best < 0
            sure = np.where(old, np.minimum(sure, self.before.confidence[block]), sure)
            best = np.where(old, self.before.index[block], best)
        self.result.index[block], self.result.confidence[block] = best, sure
        for i, values in zip(used, guidance, strict=True):
            if i < len(self.kept):
                self.kept[i][block] = values


def halve(image: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels, (⌈H/2⌉, ⌈W/2⌉, 3) of the same type."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def double(image: np.ndarray) -> np.ndarray:
    """An image interpolated at twice its resolution."""
    return cv2.resize(image, None, fx=2, fy=2)


def double_planes(planes: np.ndarray) -> np.ndarray:
    return np.stack([double(plane) for plane in planes])


def boundary_map(guidance: np.ndarray) -> np.ndarray:
    """:func:`models.mmfnet.boundary_map` of an array (N, h, w)."""
    return np.minimum(1, 2 * (1 - guidance.max(0)))


def dilate(plane: np.ndarray, radius: int) -> np.ndarray:
    """The largest value within a disk around each pixel of a plane (h, w)."""
    return cv2.dilate(plane, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2))


def _find_settled(guidance: np.ndarray) -> int | None:
    """The photograph that alone is sharp in all of a guidance map (N, h, w), if any."""
    least = guidance.min((1, 2))
    return int(least.argmax()) if least.max() > 1 - SETTLED else None


def _select_weighted(guidance: np.ndarray) -> np.ndarray:
    """The photographs with weight in a guidance map (N, h, w), in order; filled up to 2, 4 or 8,
    since ONNX Runtime needs a graph for each number of photographs."""
    most = guidance.max((1, 2))
    count = max(2, 1 << (int((most > FAINT).sum()) - 1).bit_length())
    return np.sort(np.argsort(-most, kind="stable")[:count])


def spread(images: Iterable[np.ndarray]) -> np.ndarray:
    """Largest difference between images (h, w, 3) in any channel, (h, w) of their type."""
    low = high = None
    for image in images:
        low, high = (image, image) if low is None else (cv2.min(low, image), cv2.max(high, image))
    return functools.reduce(cv2.max, cv2.split(cv2.subtract(high, low)))


def needed_memory(size: tuple[int, int], dtype: np.dtype, backend: Backend, count: int) -> int:
    """Bytes that the process needs at most to fuse photographs (H, W) in groups of ``count``."""
    pixels = size[0] * size[1]
    image = 3 * np.dtype(dtype).itemsize
    # Half-size photographs and the guidance map; index, confidence and a kept guidance map.
    maps = count * (image / 4 + 2 / 4 if pixels > WHOLE else 4) + 5
    seen = TILE if pixels > WHOLE else pixels
    features = backend.features * min(count * seen, AT_ONCE)
    return int(backend.memory + features + pixels * ((count + FRAMES) * image + maps))


def group_size(
    size: tuple[int, int], dtype: np.dtype, backend: Backend, count: int, memory: int | None = None
) -> int:
    """How many of ``count`` photographs (H, W) are fused at once, at least 2, if the process may
    take ``memory`` bytes, by default half of the available memory."""
    limit = available_memory() // 2 if memory is None else memory
    most = 2
    while most < backend.largest and needed_memory(size, dtype, backend, most + 1) <= limit:
        most += 1
    if count <= most:
        return count
    rounds = -(-(count - 1) // (most - 1))
    return 1 + -(-(count - 1) // rounds)  # groups of about equal size


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of available memory, of the container if there is one; plenty where that is not known.
    Processes of torchrun on one machine share it."""
    sizes = [1 << 40]
    with contextlib.suppress(OSError):
        text = (root / "proc/meminfo").read_text()
        sizes.append(int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # "max" is no limit
        group = root / "sys/fs/cgroup"
        limit, used = (int((group / f"memory.{x}").read_text()) for x in ("max", "current"))
        cached = re.search(r"inactive_file (\d+)", (group / "memory.stat").read_text())
        sizes.append(max(0, limit - used + int(cached[1])))
    return min(sizes) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
