"""Running fusion: the pairwise cascade extended to a stack of any length, a frame at a time.

The picture so far and the next frame are a pair: what the picture shows sharp lies nearer (or
farther) than what the frame shows sharp, which is the scene of two layers that the cascade knows.
So a stack is folded frame by frame, in time linear in its length and memory that does not depend
on it. Three things make the fold fast, and keep it from losing sharpness on the way:

* The guidance map is found at half resolution first. Only tiles that touch the FDB (where the
  boundary map meets sources that differ) are looked at again at full resolution, and only there
  does the boundary fusion run.
* The logits of the guidance map are doubled. A pixel that each of twenty frames mixes by 3 % is not
  sharp any more; in the band, where they are about 0 since no frame is right, it changes nothing.
* A tile that the frame does not concern is not touched at all.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from defocus.guidance import boundary_map
from models.mmfnet import MMFNet

SHARPEN = 2.0  # factor on the guidance logits
TILE = 256  # pixels: side of the squares that touch the FDB or do not; a multiple of the nets' grid
ROW = 4  # squares side by side that are fused at once
# What the initial fusion sees around a tile at full and at half resolution. Its reach is the whole
# picture, but half resolution has seen that; near the FDB a view like the training samples' is
# enough (a wider one changed nothing on generated stacks).
VIEW = 32
WHOLE = 600_000  # pixels: smaller pictures get their guidance map at full resolution alone
VISIBLE = 1.5 / 255  # of boundary map × difference, averaged over 16×16 pixels
SETTLED = 1 / 255  # nearer than this to 0 or 1, the guidance map copies pixels

# What merging takes, as measured by benchmarks/stacks.py: PyTorch and the features of a tile; frames
# (the picture before and after, the one decoded, the one aligned, the one read ahead …); maps.
PROCESS = 700_000_000  # bytes
FRAMES = 6
MAPS = 20  # bytes a pixel

Window = tuple[slice, slice]


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
        guidance, touching = self._overview(frame)
        for tile in _runs(touching, size):
            core, seen, inside = _around(tile, size, VIEW)
            guidance[core] = self._look(self.image[seen], frame[seen])[inside]
        result = self.image.copy()  # tiles see the pixels around them as they were
        for tile in _runs(~touching, size):
            self._select(result, frame, guidance, tile)
        for tile in _runs(touching, size):
            self._repair(result, frame, guidance, tile)
        self.image = result
        self._note(guidance, number)
        return guidance

    def _overview(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The guidance map from half resolution, and which squares of it touch the FDB."""
        height, width = frame.shape[:2]
        squares = -(-height // TILE), -(-width // TILE)
        if height * width <= WHOLE:
            return np.empty((height, width), np.float32), np.ones(squares, bool)
        half = (-(-width // 2), -(-height // 2))
        before, after = (
            cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in (self.image, frame)
        )
        guidance = np.empty(half[::-1], np.float32)
        for tile in _runs(np.ones([-(-n // TILE) for n in guidance.shape], bool), guidance.shape):
            core, seen, inside = _around(tile, guidance.shape, 2 * VIEW)
            guidance[core] = self._look(before[seen], after[seen])[inside]
        touching = np.zeros(squares, bool)
        for i, j in np.ndindex(*squares):
            window = tuple(slice(k * TILE // 2, (k + 1) * TILE // 2) for k in (i, j))
            difference = cv2.absdiff(before[window], after[window]).max(2) / np.float32(self.scale)
            contact = boundary_map(torch.from_numpy(guidance[window])).numpy() * difference
            cells = [-(-n // 8) for n in contact.shape[::-1]]
            contact = cv2.resize(contact, cells, interpolation=cv2.INTER_AREA)
            touching[i, j] = contact.max() > VISIBLE
        full = cv2.resize(guidance, (width, height), interpolation=cv2.INTER_LINEAR)
        return full, touching

    def _look(self, image1: np.ndarray, image2: np.ndarray) -> np.ndarray:
        """Initial fusion: the guidance map (H, W) of two pictures."""
        logits = self.model.initial(self._load(image1), self._load(image2))
        return torch.sigmoid(SHARPEN * logits)[0, 0].cpu().numpy()

    def _select(
        self, result: np.ndarray, frame: np.ndarray, guidance: np.ndarray, tile: Window
    ) -> None:
        """Initial fusion alone, where no boundary can be seen."""
        weight = guidance[tile]
        if weight.min() > 1 - SETTLED:
            return
        if weight.max() < SETTLED:
            result[tile] = frame[tile]
            return
        near, far = self._load(self.image[tile]), self._load(frame[tile])
        self._store(result[tile], far + torch.from_numpy(weight).to(self.device) * (near - far))

    def _repair(
        self, result: np.ndarray, frame: np.ndarray, guidance: np.ndarray, tile: Window
    ) -> None:
        """Initial and boundary fusion."""
        boundary_net = self.model.boundary
        if boundary_net is None:
            return self._select(result, frame, guidance, tile)
        core, seen, inside = _around(tile, guidance.shape, boundary_net.reach)
        near, far = self._load(self.image[seen]), self._load(frame[seen])
        weight = torch.from_numpy(guidance[seen]).to(self.device)[None, None]
        fused = far + weight * (near - far)
        fused = fused + boundary_map(weight) * boundary_net(near, far, weight)
        self._store(result[core], fused[(..., *inside)])

    def _note(self, guidance: np.ndarray, number: int) -> None:
        """Index and confidence after a merge."""
        new = guidance < 0.5
        self.index[new] = number
        sure = (np.abs(guidance - 0.5) * np.float32(510)).astype(np.uint8)
        self.confidence = np.where(new, sure, np.minimum(self.confidence, sure))

    def _load(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) as the model takes it."""
        tensor = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        return (tensor.to(torch.float32) / self.scale).permute(2, 0, 1)[None]

    def _store(self, region: np.ndarray, image: Tensor) -> None:
        """Write values in [0, 1] to a region of a picture in its type."""
        values = (image.clamp(0, 1) * self.scale)[0].permute(1, 2, 0).cpu().numpy()
        region[...] = values if region.dtype == np.float32 else np.rint(values)


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
                tiles.append(tuple(slice(a, min(b, n)) for (a, b), n in zip(edges, size)))
            else:
                column += 1
    return tiles


def _around(tile: Window, size: tuple[int, int], view: int) -> tuple[Window, Window, Window]:
    """A tile, what is seen around it on the nets' grid, and the tile within that."""
    grid = 8 if view % 32 else 32
    view = -(-view // grid) * grid
    seen = tuple(slice(max(t.start - view, 0), min(t.stop + view, n)) for t, n in zip(tile, size))
    inside = tuple(
        slice(t.start - s.start, t.stop - s.start) for t, s in zip(tile, seen, strict=True)
    )
    return tile, seen, inside
