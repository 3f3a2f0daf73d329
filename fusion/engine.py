"""Running fusion: the pairwise cascade extended to a stack of any length, a frame at a time.

The picture so far and the next frame are a pair: what the picture shows sharp lies nearer (or
farther) than what the frame shows sharp, which is the scene of two layers that the cascade knows.
So a stack is folded frame by frame, in time linear in its length and memory that does not depend
on it. Large pictures go through in blocks, several at once, each in two steps:

* At half resolution. What the sub-nets give is smooth (the guidance map, and gains and offsets of
  the boundary fusion) and is enlarged; the texture comes from the frames at full resolution. The
  boundary sub-net sees only what the boundary map lets it change.
* At full resolution, again, the parts of it that touch the FDB and where the sources differ
  in detail that half resolution does not show.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from models import scales
from fusion.backends import Cascade, OnnxCascade
from fusion.windows import Window, around, boxes, filled, halved, squares, within

BLOCK = 512  # pixels: side of what is worked on at half resolution at once
SQUARE = 256  # pixels: side of what is worked on at full resolution at once
# What the nets see around a block or square, at the resolution of the step. The initial fusion
# reaches farther, but a view like that of the training samples is enough.
VIEW = 16
NEAR = 8  # pixels: what the boundary fusion sees of that
# Of what half resolution loses of the sources' difference, times the boundary map, averaged over
# 16×16 pixels. With less of it, generated stacks came out little nearer to the truth, and later.
VISIBLE = 5 / 255
# Of the sources' difference, times the boundary map: with less, the residual cannot be seen.
REPAIRED = 4 / 255
SETTLED = 1 / 255  # nearer than this to 0 or 1, the guidance map copies pixels

# What merging takes, measured; the frames are the picture before and after, the one decoded, the
# one aligned, and those read ahead.
THREAD = 100_000_000  # bytes, for the features and tiles of a block
FRAMES = 6
MAPS = 6  # bytes a pixel


class Decision(NamedTuple):
    """What the cascade says about a block, by which it is fused.

    Attributes:
        guidance: (h, w) float32, 1 where the picture so far is right, 0 where the frame is.
        coefficients: (h, w, C) float32 of the residual, 0 where it would not be seen; None if it
            would be nowhere.
    """

    guidance: np.ndarray
    coefficients: np.ndarray | None

    def part(self, window: Window) -> Decision:
        """The decision on a window of the block."""
        return Decision(*(x if x is None else x[window] for x in self))


class RunningFusion:
    """The all-in-focus picture of the frames merged so far.

    Args:
        cascade: see :mod:`fusion.cascade`.
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
            seen = around(block, frame.shape[:2], 2 * VIEW)
            pair = [self._load(x[seen]) for x in (self.image, frame)]
            decision = self._decide(pair, within(block, seen))
            for square in squares(block, SQUARE):
                part = decision.part(within(square, block))
                low, high, *_ = cv2.minMaxLoc(part.guidance)
                if low > 1 - SETTLED:
                    result[square] = self.image[square]
                elif high < SETTLED:
                    result[square] = frame[square]
                else:
                    here = within(square, seen)
                    result[square] = self._stored(blend(*(x[here] for x in pair), part))
            guidance[block] = decision.guidance
            self._note(block, decision.guidance, number)

        with ThreadPoolExecutor(self.threads) as threads:
            for _ in threads.map(work, squares(whole, BLOCK)):
                pass  # asking for the results raises what a thread raised
        self.image = result
        return guidance

    def _decide(self, pair: list[np.ndarray], inside: Window) -> Decision:
        """Decide on a window of two pictures, each part of it at the resolution that it needs."""
        size = pair[0].shape[:2]
        large = self.image.shape[0] * self.image.shape[1] > scales.WHOLE
        if large:
            (guidance, coefficients), parts = self._at_half_resolution(pair, inside)
        else:
            guidance, coefficients = np.empty(size, np.float32), None
            parts = squares(inside, SQUARE)
        decided = guidance.copy()
        for part in parts:
            seen = around(part, size, VIEW)
            images, here = [x[seen] for x in pair], within(part, seen)
            found = self.cascade.guidance(*images)
            if large:
                # What was sure stays: at half resolution wide blur is seen better.
                coarse = guidance[seen]
                weight = np.minimum(1, boundary_map(coarse) / scales.UNSURE)
                found = coarse + weight * (found - coarse)
            decided[part] = found[here]
            values = self._coefficients(images, found, here)
            coefficients = filled(coefficients, size, part, values)
        return Decision(decided, coefficients).part(inside)

    def _at_half_resolution(
        self, pair: list[np.ndarray], inside: Window
    ) -> tuple[Decision, list[Window]]:
        """The decision on two pictures, enlarged, with coefficients in a window, and the parts of
        the window that are too fine for it."""
        size = pair[0].shape[1::-1]
        half = [-(-n // 2) for n in size]
        small = [cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in pair]
        found = self.cascade.guidance(*small)
        guidance = cv2.resize(found, size)
        difference = cv2.subtract(*small)
        fine = greatest(cv2.absdiff(cv2.subtract(*pair), cv2.resize(difference, size)))
        lost = cv2.blur(boundary_map(guidance) * fine, (16, 16)) > VISIBLE
        again = boxes(lost, inside, SQUARE)
        # The boundary sub-net need not see what is done again, nor what it cannot change.
        repaired = boundary_map(found) * greatest(np.abs(difference)) > REPAIRED
        for box in again:
            repaired[halved(box)] = False
        coefficients = None
        for box in boxes(repaired, halved(inside), SQUARE // 2):
            values = self._coefficients(small, found, box)
            values = None if values is None else cv2.resize(values, None, fx=2, fy=2)
            doubled = tuple(slice(2 * s.start, 2 * s.stop) for s in box)
            coefficients = filled(coefficients, guidance.shape, doubled, values)
        return Decision(guidance, coefficients), again

    def _coefficients(
        self, images: list[np.ndarray], guidance: np.ndarray, box: Window
    ) -> np.ndarray | None:
        """Of the residual, on a box of two pictures."""
        seen = around(box, guidance.shape, NEAR)
        values = self.cascade.coefficients(*(x[seen] for x in (*images, guidance)))
        return None if values is None else values[within(box, seen)]

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

    def _stored(self, image: np.ndarray) -> np.ndarray:
        """As the frames have it."""
        if self.image.dtype == np.float32:
            return np.clip(image, 0, 1)
        kind = cv2.CV_8U if self.image.dtype == np.uint8 else cv2.CV_16U
        return cv2.multiply(image, (self.scale,) * 4, dtype=kind)  # rounds and saturates


def blend(near: np.ndarray, far: np.ndarray, decision: Decision) -> np.ndarray:
    """Fuse two pictures (h, w, 3) float32 as decided: initial fusion, and the residual."""
    guidance, coefficients = decision
    fused = far + three(guidance) * (near - far)
    if coefficients is not None:
        fused += three(boundary_map(guidance)) * residual(coefficients, near, far)
    return fused


def boundary_map(guidance: np.ndarray) -> np.ndarray:
    """:func:`defocus.guidance.boundary_map` of an array."""
    return 1 - np.abs(2 * guidance - 1)


def residual(coefficients: np.ndarray, image1: np.ndarray, image2: np.ndarray) -> np.ndarray:
    """What :mod:`models.boundary_fusion` says its coefficients (h, w, C) mean, on arrays."""
    if coefficients.shape[-1] == 3:
        return coefficients
    offset, plus, minus = coefficients[..., :3], coefficients[..., 3], coefficients[..., 4]
    return offset + three(plus) * (image1 + image2) + three(minus) * (image1 - image2)


def three(plane: np.ndarray) -> np.ndarray:
    """(h, w) as (h, w, 3): in arithmetic with pictures much faster than to broadcast."""
    return cv2.merge([plane, plane, plane])


def greatest(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) to the greatest of the channels (h, w)."""
    return cv2.max(cv2.max(image[..., 0], image[..., 1]), image[..., 2])


def needed_memory(
    size: tuple[int, int], dtype: np.dtype, cascade: Cascade | type[Cascade] = OnnxCascade
) -> int:
    """Bytes that the process takes at most to align and merge frames (H, W), a thread at work."""
    height, width = size
    frame = height * width * 3 * np.dtype(dtype).itemsize
    return cascade.memory + THREAD + FRAMES * frame + MAPS * height * width
