"""Running fusion: the pairwise cascade extended to a stack of any length, a frame at a time.

The picture so far and the next frame are a pair: what the picture shows sharp lies nearer (or
farther) than what the frame shows sharp, which is the scene of two layers that the cascade knows.
So a stack is folded frame by frame, in time linear in its length and memory that does not depend
on it. Large pictures go through in blocks, several at once, each in two steps:

* At half resolution. What the sub-nets give is smooth (the guidance map, and gains and offsets of
  the boundary fusion) and is enlarged; the texture comes from the frames at full resolution.
* At full resolution, again, the squares of it that touch the FDB and where the sources differ
  in detail that half resolution does not show.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from stacks.cascade import Cascade, Decision, OnnxCascade

BLOCK = 512  # pixels: side of what is worked on at half resolution at once
SQUARE = 256  # pixels: side of what touches the FDB or does not
# What the nets see around a block or square; on their grid of 32. The initial fusion reaches
# farther, but near the FDB a view like that of the training samples is enough.
VIEW = 32
WHOLE = 600_000  # pixels: smaller pictures are worked on at full resolution alone
# Of what half resolution loses of the sources' difference, times the boundary map, averaged over
# 16×16 pixels. Less of it left the truth of generated stacks unchanged.
VISIBLE = 6 / 255
SETTLED = 1 / 255  # nearer than this to 0 or 1, the guidance map copies pixels

# What merging takes, measured; the frames are the picture before and after, the one decoded, the
# one aligned, and those read ahead.
THREAD = 100_000_000  # bytes, for the features and tiles of a block
FRAMES = 6
MAPS = 6  # bytes a pixel

Window = tuple[slice, slice]


class RunningFusion:
    """The all-in-focus picture of the frames merged so far.

    Args:
        cascade: see :mod:`stacks.cascade`.
        first: a frame, (H, W, 3) uint8, uint16 or float32 in [0, 1], of at least 16×16 pixels.
        number: of that frame.
        threads: blocks worked on at once; by default as the cascade has it.

    Attributes:
        image: (H, W, 3) of the frames' type.
        index: (H, W) uint16, the number of the frame that each pixel comes from; in the band, of
            the one that contributes most.
        confidence: (H, W) uint8; 255 where one frame was clearly right, 0 where none was.
    """

    def __init__(
        self, cascade: Cascade, first: np.ndarray, number: int = 0, threads: int | None = None
    ):
        self.cascade = cascade
        self.threads = threads or cascade.parallel
        self.image = first
        self.index = np.full(first.shape[:2], number, np.uint16)
        self.confidence = np.full(first.shape[:2], 255, np.uint8)
        self.scale = 1.0 if first.dtype == np.float32 else float(np.iinfo(first.dtype).max)

    def merge(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Merge one more frame of the same shape and type.

        Returns:
            The guidance map, (H, W) float16: 1 where the picture so far stays, 0 where the frame
            is right, 0.5 where neither is.

        Raises:
            ValueError: the frame has another shape or type.
        """
        if frame.shape != self.image.shape or frame.dtype != self.image.dtype:
            raise ValueError(
                f"frame {number} is {frame.shape} {frame.dtype}, the picture {self.image.shape} "
                f"{self.image.dtype}"
            )
        whole = (slice(0, frame.shape[0]), slice(0, frame.shape[1]))
        result = np.empty_like(frame)  # blocks see the pixels around them as they were
        guidance = np.empty(frame.shape[:2], np.float16)

        def work(block: Window) -> None:
            for tile, decision in self._decide(frame, block):
                self._fuse(result, frame, tile, decision)
                guidance[tile] = decision.guidance
                self._note(tile, decision.guidance, number)

        with ThreadPoolExecutor(self.threads) as threads:
            for _ in threads.map(work, _squares(whole, BLOCK)):
                pass  # asking for the results raises what a thread raised
        self.image = result
        return guidance

    def _decide(self, frame: np.ndarray, block: Window) -> Iterable[tuple[Window, Decision]]:
        """The squares of a block, each decided on at the resolution that it needs."""
        size = frame.shape[:2]
        large = size[0] * size[1] > WHOLE
        if large:
            half, lost = self._at_half_resolution(frame, block)
        for square in _squares(block, SQUARE):
            inside = _within(square, block)
            if large and lost[inside].max() <= VISIBLE:
                yield square, half.part(inside)
            else:
                seen = _around(square, size, VIEW)
                decision = self.cascade(self._load(self.image[seen]), self._load(frame[seen]))
                yield square, decision.part(_within(square, seen))

    def _at_half_resolution(self, frame: np.ndarray, block: Window) -> tuple[Decision, np.ndarray]:
        """The decision on a block, enlarged, and how much near the FDB was too fine for it."""
        seen = _around(block, frame.shape[:2], 2 * VIEW)
        full = [self._load(x[seen]) for x in (self.image, frame)]
        size = full[0].shape[1::-1]
        half = [-(-n // 2) for n in size]
        images = [cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in full]
        inside = _within(block, seen)
        guidance, coefficients = (
            x if x is None else cv2.resize(x, size)[inside] for x in self.cascade(*images)
        )
        coarse = cv2.resize(images[0] - images[1], size)[inside]
        fine = cv2.absdiff(full[0][inside] - full[1][inside], coarse).max(2)
        lost = cv2.blur(boundary_map(guidance) * fine, (16, 16))
        return Decision(guidance, coefficients), lost

    def _fuse(
        self, result: np.ndarray, frame: np.ndarray, tile: Window, decision: Decision
    ) -> None:
        """Fuse a tile as decided."""
        guidance, coefficients = decision
        if guidance.min() > 1 - SETTLED:
            result[tile] = self.image[tile]
        elif guidance.max() < SETTLED:
            result[tile] = frame[tile]
        else:
            near, far = self._load(self.image[tile]), self._load(frame[tile])
            fused = far + guidance[..., None] * (near - far)
            if coefficients is not None:
                fused += boundary_map(guidance)[..., None] * residual(coefficients, near, far)
            np.clip(fused, 0, 1, out=fused)
            fused *= np.float32(self.scale)
            result[tile] = fused if result.dtype == np.float32 else np.rint(fused, out=fused)

    def _note(self, tile: Window, guidance: np.ndarray, number: int) -> None:
        """Index and confidence after a merge."""
        new = guidance < 0.5
        sure = (np.abs(guidance - 0.5) * np.float32(510)).astype(np.uint8)
        self.index[tile][new] = number
        before = self.confidence[tile]
        self.confidence[tile] = np.where(new, sure, np.minimum(before, sure))

    def _load(self, image: np.ndarray) -> np.ndarray:
        """As the cascade takes it."""
        return np.multiply(image, np.float32(1 / self.scale), dtype=np.float32)


def boundary_map(guidance: np.ndarray) -> np.ndarray:
    """:func:`defocus.guidance.boundary_map` of an array."""
    return 1 - np.abs(2 * guidance - 1)


def residual(coefficients: np.ndarray, image1: np.ndarray, image2: np.ndarray) -> np.ndarray:
    """What :mod:`models.boundary_fusion` says its coefficients (h, w, C) mean, on arrays."""
    if coefficients.shape[-1] == 3:
        return coefficients
    offset, plus, minus = coefficients[..., :3], coefficients[..., 3:4], coefficients[..., 4:]
    return offset + plus * (image1 + image2) + minus * (image1 - image2)


def needed_memory(
    size: tuple[int, int], dtype: np.dtype, cascade: Cascade | type[Cascade] = OnnxCascade
) -> int:
    """Bytes that the process takes at most to align and merge frames (H, W), a thread at work."""
    height, width = size
    frame = height * width * 3 * np.dtype(dtype).itemsize
    return cascade.memory + THREAD + FRAMES * frame + MAPS * height * width


def _squares(window: Window, side: int) -> list[Window]:
    """Squares that cover a window, those at its far borders cut off."""
    rows, columns = window
    return [
        (slice(y, min(y + side, rows.stop)), slice(x, min(x + side, columns.stop)))
        for y in range(rows.start, rows.stop, side)
        for x in range(columns.start, columns.stop, side)
    ]


def _around(window: Window, size: tuple[int, int], view: int) -> Window:
    """A window and what is seen around it in a picture (H, W)."""
    return tuple(
        slice(max(s.start - view, 0), min(s.stop + view, n))
        for s, n in zip(window, size, strict=True)
    )


def _within(window: Window, around: Window) -> Window:
    """Where a window lies within one around it."""
    return tuple(
        slice(s.start - a.start, s.stop - a.start) for s, a in zip(window, around, strict=True)
    )
