"""Running fusion: the pairwise cascade extended to a stack of any length, a frame at a time.

The picture so far and the next frame are a pair: what the picture shows sharp lies nearer (or
farther) than what the frame shows sharp, which is the scene of two layers that the cascade knows.
So a stack is folded frame by frame, in time linear in its length and memory that does not depend
on it. Three things make the fold fast, and keep it from losing sharpness on the way:

* Both sub-nets see half resolution first. What they give is smooth (the guidance map, and gains and
  offsets of the boundary fusion) and is enlarged; the texture comes from the frames at full
  resolution. Only tiles that touch the FDB, where the boundary map meets sources that differ, are
  worked out again at full resolution.
* The logits of the guidance map are doubled. A pixel that each of twenty frames mixes by 3 % is not
  sharp any more; in the band, where they are about 0 since no frame is right, it changes nothing.
* A tile that the frame does not concern is not touched at all.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from defocus.guidance import boundary_map
from models.mmfnet import MMFNet

SHARPEN = 2.0  # factor on the guidance logits
TILE = 256  # pixels: side of the squares that touch the FDB or do not; on the nets' grid
ROW = 4  # squares side by side that are fused at once
# What the nets see around a tile. The initial fusion reaches farther, but near the FDB a view like
# that of the training samples is enough (a wider one changed nothing on generated stacks).
VIEW = 40
WHOLE = 600_000  # pixels: smaller pictures get their guidance map at full resolution alone
VISIBLE = 6 / 255  # of boundary map × difference, averaged over 16×16 pixels: it touches the FDB
SETTLED = 1 / 255  # nearer than this to 0 or 1, the guidance map copies pixels

# What merging takes, measured: PyTorch and the features of a tile; frames (the picture before and
# after, the one decoded, the one aligned, those read ahead); maps.
PROCESS = 700_000_000  # bytes
FRAMES = 6
MAPS = 20  # bytes a pixel

Window = tuple[slice, slice]


class Decision(NamedTuple):
    """What the cascade says about a place, by which :func:`_blend` fuses it."""

    guidance: Tensor  # (1, 1, h, w)
    coefficients: Tensor | None  # (1, C, h, w), see models/boundary_fusion.py


class RunningFusion:
    """The all-in-focus picture of the frames merged so far.

    Args:
        model: in evaluation mode, on any device; see :func:`models.build.load_model`.
        first: a frame, (H, W, 3) uint8, uint16 or float32 in [0, 1], of at least 16×16 pixels.
        number: of that frame.

    Attributes:
        image: (H, W, 3) of the frames' type.
        index: (H, W) uint16, the number of the frame that each pixel comes from; in the band, of
            the one that contributes most.
        confidence: (H, W) uint8; 255 where one frame was clearly right, 0 where none was.
    """

    def __init__(self, model: MMFNet, first: np.ndarray, number: int = 0):
        self.model = model
        self.device = next(model.parameters()).device
        self.image = first
        self.index = np.full(first.shape[:2], number, np.uint16)
        self.confidence = np.full(first.shape[:2], 255, np.uint8)
        self.scale = 1.0 if first.dtype == np.float32 else float(np.iinfo(first.dtype).max)

    @torch.inference_mode()
    def merge(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Merge one more frame of the same shape and type.

        Returns:
            The guidance map, (H, W) float32: 1 where the picture so far stays, 0 where the frame
            is right, 0.5 where neither is.

        Raises:
            ValueError: the frame has another shape or type.
        """
        if frame.shape != self.image.shape or frame.dtype != self.image.dtype:
            raise ValueError(
                f"frame {number} is {frame.shape} {frame.dtype}, the picture {self.image.shape} "
                f"{self.image.dtype}"
            )
        size = frame.shape[:2]
        result = np.empty_like(frame)  # tiles see the pixels around them as they were
        guidance = np.empty(size, np.float32)
        if size[0] * size[1] > WHOLE:
            half, touching = self._at_half_resolution(frame)
            for tile in _runs(~touching, size):
                self._fuse(result, frame, guidance, tile, _enlarged(half, tile))
        else:
            touching = np.ones([-(-n // TILE) for n in size], bool)
        for tile in _runs(touching, size):
            seen, inside = _around(tile, size)
            decision = self._decide(self.image[seen], frame[seen])
            cut = (x if x is None else x[(..., *inside)] for x in decision)
            self._fuse(result, frame, guidance, tile, Decision(*cut))
        self.image = result
        self._note(guidance, number)
        return guidance

    def _at_half_resolution(self, frame: np.ndarray) -> tuple[Decision, np.ndarray]:
        """Decision (of half the size), and which squares of the full size touch the FDB."""
        height, width = frame.shape[:2]
        size = (-(-height // 2), -(-width // 2))
        images = [
            cv2.resize(x, size[::-1], interpolation=cv2.INTER_AREA) for x in (self.image, frame)
        ]
        half: Decision | None = None
        for tile in _runs(np.ones([-(-n // TILE) for n in size], bool), size):
            seen, inside = _around(tile, size)
            part = self._decide(*(x[seen] for x in images))
            if half is None:
                half = Decision(*(x if x is None else _canvas(x, size) for x in part))
            for plane, values in zip(half, part, strict=True):
                if plane is not None:
                    plane[(..., *tile)] = values[(..., *inside)]
        touching = np.zeros((-(-height // TILE), -(-width // TILE)), bool)
        for i, j in np.ndindex(*touching.shape):
            window = tuple(slice(k * TILE // 2, (k + 1) * TILE // 2) for k in (i, j))
            difference = cv2.absdiff(*(x[window] for x in images)).max(2) / np.float32(self.scale)
            contact = boundary_map(half.guidance[(0, 0, *window)]).cpu().numpy() * difference
            cells = [-(-n // 8) for n in contact.shape[::-1]]
            contact = cv2.resize(contact, cells, interpolation=cv2.INTER_AREA)
            touching[i, j] = contact.max() > VISIBLE
        return half, touching

    def _decide(self, image1: np.ndarray, image2: np.ndarray) -> Decision:
        """Initial fusion, and the coefficients of boundary fusion, of two pictures (h, w, 3)."""
        near, far = self._load(image1), self._load(image2)
        guidance = torch.sigmoid(SHARPEN * self.model.initial(near, far))
        if self.model.boundary is None:
            return Decision(guidance, None)
        return Decision(guidance, self.model.boundary.coefficients(near, far, guidance))

    def _fuse(
        self,
        result: np.ndarray,
        frame: np.ndarray,
        guidance: np.ndarray,
        tile: Window,
        decision: Decision,
    ) -> None:
        """Fuse a tile as decided."""
        weight = guidance[tile] = decision.guidance[0, 0].cpu().numpy()
        if weight.min() > 1 - SETTLED:
            result[tile] = self.image[tile]
        elif weight.max() < SETTLED:
            result[tile] = frame[tile]
        else:
            near, far = self._load(self.image[tile]), self._load(frame[tile])
            fused = torch.lerp(far, near, decision.guidance)
            if decision.coefficients is not None:
                residual = self.model.boundary.residual(decision.coefficients, near, far)
                fused += boundary_map(decision.guidance) * residual
            self._store(result[tile], fused)

    def _note(self, guidance: np.ndarray, number: int) -> None:
        """Index and confidence after a merge."""
        new = guidance < 0.5
        self.index[new] = number
        sure = (np.abs(guidance - 0.5) * np.float32(510)).astype(np.uint8)
        self.confidence = np.where(new, sure, np.minimum(self.confidence, sure))

    def _load(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) as the model takes it; channels last, as it lies."""
        tensor = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        return (tensor.to(torch.float32) / self.scale).permute(2, 0, 1)[None]

    def _store(self, region: np.ndarray, image: Tensor) -> None:
        """Write values to a region of a picture in its type, clipped to its range."""
        values = (image.clamp(0, 1) * self.scale)[0].permute(1, 2, 0).cpu().numpy()
        region[...] = values if region.dtype == np.float32 else np.rint(values)


def _canvas(part: Tensor, size: tuple[int, int]) -> Tensor:
    return part.new_empty((*part.shape[:2], *size))


def _enlarged(half: Decision, tile: Window) -> Decision:
    """A tile of a decision of half the size, bilinear."""
    size = [t.stop - t.start for t in tile]
    planes = []
    for plane in half:
        if plane is None:
            planes.append(None)
            continue
        # A pixel more at each side, so that tiles meet as if the whole had been enlarged.
        around = [
            slice(max(t.start // 2 - 1, 0), min(-(-t.stop // 2) + 1, n))
            for t, n in zip(tile, plane.shape[-2:], strict=True)
        ]
        large = F.interpolate(plane[(..., *around)], scale_factor=2, mode="bilinear")
        first = [t.start - 2 * a.start for t, a in zip(tile, around, strict=True)]
        planes.append(large[..., first[0] : first[0] + size[0], first[1] : first[1] + size[1]])
    return Decision(*planes)


def needed_memory(size: tuple[int, int], dtype: np.dtype) -> int:
    """Bytes that the process takes at most to align and merge frames (H, W) of a type."""
    height, width = size
    frame = height * width * 3 * np.dtype(dtype).itemsize
    return PROCESS + FRAMES * frame + MAPS * height * width


def _runs(squares: np.ndarray, size: tuple[int, int]) -> list[Window]:
    """Chosen squares of a grid as tiles, those side by side together."""
    tiles = []
    for row, line in enumerate(squares):
        column = 0
        while column < len(line):
            start = column
            while column < len(line) and line[column] and column - start < ROW:
                column += 1
            if column > start:
                edges = (row * TILE, (row + 1) * TILE), (start * TILE, column * TILE)
                tiles.append(
                    tuple(slice(a, min(b, n)) for (a, b), n in zip(edges, size, strict=True))
                )
            else:
                column += 1
    return tiles


def _around(tile: Window, size: tuple[int, int]) -> tuple[Window, Window]:
    """What is seen around a tile, and where the tile lies within that."""
    seen = tuple(
        slice(max(t.start - VIEW, 0), min(t.stop + VIEW, n))
        for t, n in zip(tile, size, strict=True)
    )
    inside = tuple(
        slice(t.start - s.start, t.stop - s.start) for t, s in zip(tile, seen, strict=True)
    )
    return seen, inside
