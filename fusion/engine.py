"""Fuse registered photographs by the cascade, in groups.

A long stack is fused a few photographs at a time, and the picture so far is one of the next group,
so memory does not grow with the stack. The guidance map of a small group is computed at once, of a
larger one in tiles, and above a megapixel at half resolution, where the sub-nets see all of a
camera's wide blur. Then the picture is assembled block by block, in parallel:

* Where one photograph is right in all of a block, the block is copied from it.
* Where half resolution loses visible detail, the guidance map is computed again at full resolution.
* The boundary fusion sub-net runs only where the boundary map is open, on the photographs that have
  weight there. Its coefficients are smooth, so half resolution serves, except where the guidance
  map was computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fusion.backends import AT_ONCE, Backend, Planes
from fusion.windows import Window, around, at, boxes, doubled, halved, squares, tiles, within

WHOLE = 1_000_000  # pixels: larger photographs start at half resolution
TILE = 500_000  # pixels of each photograph in the tiles at work, where ``AT_ONCE`` is more
TILES = 2  # at work
BLOCK = 512  # pixels: side of a block
SQUARE = 256  # pixels: side of what is refined or copied at once
# Margin in pixels that the sub-nets see around a tile or a box. Their receptive field is larger,
# but training samples taught them to use no more.
VIEW, NEAR = 32, 32
UNSURE = 0.1  # boundary map at half resolution from which full resolution decides alone
# Detail lost at half resolution, times the boundary map, averaged over 16×16 pixels. A lower
# threshold brought generated stacks hardly nearer to the truth.
VISIBLE = 5 / 255
REPAIRED = 4 / 255  # of the difference times the boundary map: below it no residual is visible
SETTLED = 1 / 512  # a guidance map nearer than this to 1 copies pixels
FAINT = 1 / 50  # a photograph with less weight all over a block is left out of it

# Pictures in memory beside those of a group: one decoded, one aligned, one read ahead, the result.
FRAMES = 4


@dataclass(frozen=True)
class Picture:
    """A fused picture, (H, W).

    Attributes:
        image: (H, W, 3) of the photographs' type.
        index: uint16, number of the photograph that each pixel comes from; near the FDB, of the
            one that contributes most.
        confidence: uint8; 255 where one photograph was clearly right, 0 where none was.
    """

    image: np.ndarray
    index: np.ndarray
    confidence: np.ndarray


def fuse_group(
    backend: Backend,
    photographs: Sequence[np.ndarray],
    numbers: Sequence[int],
    before: Picture | None = None,
    threads: int | None = None,
    keep: int = 0,
) -> tuple[Picture, np.ndarray]:
    """Fuse registered photographs; their order makes no difference.

    Args:
        photographs: (H, W, 3) uint8, uint16 or float32 in [0, 1], all alike, at least 16×16.
        numbers: of the photographs, for the index.
        before: the picture so far, one of the group.
        threads: blocks fused in parallel; the back end's by default.
        keep: number of photographs, at most, whose guidance map is returned.

    Returns:
        The picture, and the guidance map (keep, H, W) float16, of ``before`` first.
    """
    with ThreadPoolExecutor(threads or backend.threads) as pool:
        group = _Group(backend, photographs, numbers, before, keep, pool)
        group.fuse_all()
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
        self.photographs = [*photographs] if before is None else [before.image, *photographs]
        # The picture so far has no number: its pixels keep theirs.
        self.numbers = np.array([*numbers] if before is None else [-1, *numbers])
        first = self.photographs[0]
        self.size, self.dtype = first.shape[:2], first.dtype
        self.full = 1.0 if first.dtype == np.float32 else float(np.iinfo(first.dtype).max)
        pixels = self.size[0] * self.size[1]
        self.large = pixels > WHOLE
        self.whole = not self.large and len(self.photographs) * pixels <= AT_ONCE
        self.loaded = backend.load(self.photographs) if self.whole else None
        self.small = self.photographs
        if self.large:
            self.small = list(pool.map(halve, self.photographs))
        self.guidance = self._guide()
        self.result = Picture(
            np.empty_like(first), np.empty(self.size, np.uint16), np.empty(self.size, np.uint8)
        )
        self.kept = np.zeros((min(keep, len(self.photographs)), *self.size), np.float16)

    def fuse_all(self) -> None:
        """Assemble the picture."""
        everything = (slice(0, self.size[0]), slice(0, self.size[1]))
        if self.whole:
            return self.fuse(everything)
        for _ in self.pool.map(self.fuse, squares(everything, BLOCK)):
            pass  # asking for the results raises what a thread raised

    def fuse(self, block: Window) -> None:
        """Assemble a block."""
        seen = around(block, self.size, 2 * NEAR if self.large else NEAR)
        # What follows lies in what is seen; the guidance map in what the sub-nets saw of it.
        inside, known = within(block, seen), at(self.guidance, self._first(seen))
        if (one := _settled(known)) is not None:
            return self._copy(block, one)
        used = np.arange(len(known)) if self.whole else _with_weight(known)
        known = known[used].astype(np.float32)
        known /= known.sum(0)
        x = self.loaded
        if not self.whole:
            x = self.backend.load([self.photographs[i][seen] for i in used])
        if self.large:
            guidance, coefficients = self._decide(x, used, known, seen, inside)
        else:
            guidance = known
            touched = boundary_map(guidance) > SETTLED
            # The boxes of a small group, with their margins, would be larger than all of it.
            parts = [inside] if self.whole and touched.any() else boxes(touched, inside, SQUARE)
            coefficients = self._coefficients(None, x, guidance, parts)

        def put(square: Window) -> None:
            here = within(square, seen)
            decided = at(guidance, here)
            if (one := _settled(decided)) is not None:
                self.result.image[square] = self.photographs[used[one]][square]
            else:
                found = None if coefficients is None else at(coefficients, here)
                self._store(square, self.backend.blend(at(x, here), decided, found))
            self._note(square, used, decided)

        # A small group has no other block for the other threads.
        for _ in (self.pool.map if self.whole else map)(put, squares(block, SQUARE)):
            pass

    def _guide(self) -> np.ndarray:
        """The guidance map (N, h, w), at half resolution if the photographs are large."""
        size, count = self.small[0].shape[:2], len(self.small)
        # Half precision suffices for what is refined later.
        if self.whole:
            return self.backend.guide(self.loaded, alone=True)
        guidance = np.empty((count, *size), np.float16 if self.large else np.float32)
        most = min(AT_ONCE / count, TILE)
        alone = size[0] * size[1] <= most
        side = max(size) if alone else int((most / TILES) ** 0.5) - 2 * VIEW

        def guide(tile: Window) -> None:
            seen = around(tile, size, VIEW)
            found = self.backend.guide(self.backend.load([x[seen] for x in self.small]), alone)
            at(guidance, tile)[:] = at(found, within(tile, seen))

        for _ in self.pool.map(guide, tiles(size, side)):
            pass
        return guidance

    def _first(self, window: Window) -> Window:
        """A window of the photographs in the picture that the guidance map was computed from."""
        return halved(window) if self.large else window

    def _decide(
        self, x: Planes, used: np.ndarray, known: np.ndarray, seen: Window, inside: Window
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Guidance map and coefficients at full resolution: those of half resolution, computed
        again where that loses detail."""
        small = [self.small[i][halved(seen)] for i in used]
        size = x.shape[-2:]
        rows, columns = (slice(n) for n in size)
        guidance, boundary = enlarged(known)[:, rows, columns], boundary_map(known)
        details = (
            cv2.subtract(self.photographs[i][seen], double(part)[rows, columns], dtype=cv2.CV_32F)
            for i, part in zip(used, small, strict=True)
        )
        sharper = spread(details) * boundary_map(guidance)
        again = boxes(cv2.blur(sharper, (16, 16)) > VISIBLE * self.full, inside, SQUARE)
        touched = spread(small) * boundary > REPAIRED * self.full
        for box in again:
            touched[halved(box)] = False  # computed at full resolution below
        parts = boxes(touched, halved(inside), SQUARE)
        coefficients = self._coefficients(None, self.backend.load(small), known, parts, size)
        for box in again:
            view = around(box, size, VIEW)
            found = at(self.backend.guide(at(x, view)), within(box, view))
            before = at(guidance, box)
            # What was sure stays: half resolution judges wide blur better.
            before += np.minimum(1, boundary_map(before) / UNSURE) * (found - before)
        return guidance, self._coefficients(coefficients, x, guidance, again)

    def _coefficients(
        self,
        planes: np.ndarray | None,
        x: Planes,
        guidance: np.ndarray,
        parts: Sequence[Window],
        full: tuple[int, int] | None = None,
    ) -> np.ndarray | None:
        """Coefficients of the residual in some parts, written into ``planes`` (C, h, w), zeros by
        default; enlarged to ``full`` resolution if given. None if there are no parts."""
        for part in parts:
            view = around(part, guidance.shape[1:], NEAR)
            found = self.backend.coefficients(at(x, view), at(guidance, view), self.whole)
            if found is None:
                return None
            here = within(part, view)
            if full:
                found, here, part = enlarged(found), doubled(here), doubled(part)
            if planes is None:
                planes = np.zeros((len(found), *(full or guidance.shape[1:])), np.float32)
            target = at(planes, part)
            target[:] = at(found, here)[:, : target.shape[1], : target.shape[2]]
        return planes

    def _copy(self, block: Window, one: int) -> None:
        self.result.image[block] = self.photographs[one][block]
        self._note(
            block, np.array([one]), np.ones((1, *self.result.index[block].shape), np.float32)
        )

    def _store(self, block: Window, fused: np.ndarray) -> None:
        """Store planes (3, h, w) in the photographs' type."""
        image = cv2.merge(list(fused))
        if self.dtype == np.float32:
            self.result.image[block] = np.clip(image, 0, 1)
        else:
            kind = cv2.CV_8U if self.dtype == np.uint8 else cv2.CV_16U
            # It rounds and saturates.
            self.result.image[block] = cv2.multiply(image, (self.full,) * 4, dtype=kind)

    def _note(self, block: Window, used: np.ndarray, guidance: np.ndarray) -> None:
        """Store index, confidence and the guidance map to keep."""
        most = guidance.max(0)
        sure = (np.clip(2 * most - 1, 0, 1) * np.float32(255)).astype(np.uint8)
        best = self.numbers[used][guidance.argmax(0)]
        if self.before is not None:
            old = best < 0
            sure = np.where(old, np.minimum(sure, self.before.confidence[block]), sure)
            best = np.where(old, self.before.index[block], best)
        self.result.index[block], self.result.confidence[block] = best, sure
        for i, values in zip(used, guidance, strict=True):
            if i < len(self.kept):
                self.kept[i][block] = values


def boundary_map(guidance: np.ndarray) -> np.ndarray:
    """:func:`models.mmfnet.boundary_map` of an array (N, h, w)."""
    return np.minimum(1, 2 * (1 - guidance.max(0)))


def _settled(guidance: np.ndarray) -> int | None:
    """The photograph that is right all over a guidance map (N, h, w), if there is one."""
    least = guidance.min((1, 2))
    return int(least.argmax()) if least.max() > 1 - SETTLED else None


def _with_weight(guidance: np.ndarray) -> np.ndarray:
    """Photographs with weight in a guidance map (N, h, w), in order, filled up with others to 2, 4
    or 8: ONNX Runtime needs a graph for each number."""
    most = guidance.max((1, 2))
    count = max(2, 1 << (int((most > FAINT).sum()) - 1).bit_length())
    return np.sort(np.argsort(-most, kind="stable")[:count])


def spread(images: Iterable[np.ndarray]) -> np.ndarray:
    """Largest difference of some images (h, w, 3) in any channel, (h, w) of their type."""
    low = high = None
    for image in images:
        low = image if low is None else cv2.min(low, image)
        high = image if high is None else cv2.max(high, image)
    red, green, blue = cv2.split(cv2.subtract(high, low))
    return cv2.max(cv2.max(red, green), blue)


def halve(image: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels, (⌈H/2⌉, ⌈W/2⌉, 3) of the same type."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        sides = 0, height % 2, 0, width % 2
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_REPLICATE)
    half = -(-width // 2), -(-height // 2)
    return cv2.resize(image, half, interpolation=cv2.INTER_AREA)


def double(image: np.ndarray) -> np.ndarray:
    """Interpolate an image of half resolution to full."""
    return cv2.resize(image, None, fx=2, fy=2)


def enlarged(planes: np.ndarray) -> np.ndarray:
    """:func:`double` of planes (C, …)."""
    return np.stack([double(plane) for plane in planes])


def needed_memory(
    size: tuple[int, int], dtype: np.dtype, backend: Backend | type[Backend], count: int
) -> int:
    """Peak bytes of a process that fuses photographs (H, W) in groups of ``count``."""
    pixels = size[0] * size[1]
    image = 3 * np.dtype(dtype).itemsize
    # Reduced photographs and the guidance map; index, confidence and a guidance map that is kept.
    maps = count * (image / 4 + 2 / 4 if pixels > WHOLE else 4) + 5
    features = backend.features * min(count * min(pixels, WHOLE), AT_ONCE)
    if pixels > WHOLE:
        features = backend.features * min(count * TILE, AT_ONCE)
    return int(backend.memory + features + pixels * ((count + FRAMES) * image + maps))


def group_size(
    size: tuple[int, int], dtype: np.dtype, backend: Backend, count: int, memory: int | None = None
) -> int:
    """Size of the groups in which ``count`` photographs (H, W) are fused, at least 2.

    Args:
        memory: limit of the process in bytes; by default half of the machine's free memory.
    """
    if memory is None:
        memory = available_memory() // 2
    fits = (
        n for n in range(2, backend.largest + 1) if needed_memory(size, dtype, backend, n) <= memory
    )
    most = max(fits, default=2)
    if count <= most:
        return count
    rounds = -(-(count - 1) // (most - 1))
    return 1 + -(-(count - 1) // rounds)  # all of about the same size


def available_memory() -> int:
    """Free memory of the machine in bytes; plenty where unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1 << 40
    (found,) = (line for line in lines if line.startswith("MemAvailable"))
    return int(found.split()[1]) * 1024
