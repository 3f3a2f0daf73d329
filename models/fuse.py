"""Fuse images with a trained cascade, whole or in tiles, at any size and in little memory.

The sub-nets are convolutional: what they say about a pixel depends on a bounded neighbourhood. Each
states it by two attributes:

* ``multiple``: it works on a grid of so many pixels;
* ``reach``: a block of output that lies on this grid depends on no input farther than this from
  the block, in pixels.

So a tile that sees its reach around itself, cut on the grid, gives what the whole image gives. The
cascade runs stage by stage, since its stages reach differently far: first the guidance map of the
whole image (of a large one in half resolution, then in full where that is not sure, see
:mod:`models.scales`), then the boundary fusion, and that only where the boundary map is not zero.
Sources and results keep their type; only a tile at a time is held as floating-point features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import EllipsisType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from defocus.guidance import INVISIBLE, boundary_map
from models import scales
from models.mmfnet import MMFNet, select

SMALLEST = 16  # pixels: side of an image
# Side of tiles by default: with what they see around them they take about 0.6 GB of features.
# Smaller ones would be mostly overlap, and leave out little more.
TILE = 768

Region = tuple[EllipsisType, slice, slice]
Progress = Callable[[Sequence["Tile"], str], Iterable["Tile"]]


class Fused(NamedTuple):
    """The fused image, of the sources' shape and type, and its guidance map.

    ``guidance`` is float32 in [0, 1], one channel: 1 where image 1 is right, 0 where image 2 is,
    0.5 where neither.
    """

    fused: Tensor
    guidance: Tensor

    @property
    def boundary(self) -> Tensor:
        """1 − 2·|G − 0.5|: where the residual acts."""
        return boundary_map(self.guidance)


class FusedArrays(NamedTuple):
    """:class:`Fused` as arrays: image (H, W, 3) as given, maps (H, W) float32 in [0, 1]."""

    fused: np.ndarray
    guidance: np.ndarray
    boundary: np.ndarray


class Tile(NamedTuple):
    """A rectangle of an image, each part an index (…, rows, columns)."""

    core: Region  # what is computed
    seen: Region  # what has to be seen for it
    inside: Region  # the core within what is seen


def fuse_arrays(
    model: MMFNet,
    image1: np.ndarray,
    image2: np.ndarray,
    tile: int | None = None,
    progress: Progress | None = None,
) -> FusedArrays:
    """Fuse two photographs; the model may be on any device.

    >>> model = load_model("weights/mmfnet.safetensors")
    >>> fused, guidance, boundary = fuse_arrays(model, near, far)

    Args:
        model: in evaluation mode, see :func:`models.build.load_model`.
        image1, image2: (H, W, 3), RGB, aligned, at least 16×16; both uint8, uint16, or float32 in
            [0, 1]. The fused image is of that type.
        tile, progress: see :func:`fuse`.

    Raises:
        ValueError: the images differ in shape, are no RGB images or too small.
    """
    for image in (image1, image2):
        if image.ndim != 3 or image.dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(
                f"images are (H, W, 3) uint8, uint16 or float32, not {image.shape} {image.dtype}"
            )
    arrays = (np.require(image, requirements=["C", "W"]) for image in (image1, image2))
    sources = (torch.from_numpy(array).permute(2, 0, 1)[None] for array in arrays)
    fusion = fuse(model, *sources, tile=tile, progress=progress)
    image, *maps = fusion.fused, fusion.guidance, fusion.boundary
    return FusedArrays(image[0].permute(1, 2, 0).numpy(), *(x[0, 0].numpy() for x in maps))


def fuse(
    model: MMFNet,
    image1: Tensor,
    image2: Tensor,
    tile: int | None = None,
    progress: Progress | None = None,
) -> Fused:
    """Fuse two images, whole or in tiles; both give the same, but for rounding errors.

    Exchanging the images gives the same fused image, and 1 − G.

    Args:
        model: in evaluation mode, see :func:`models.build.load_model`.
        image1, image2: (N, 3, H, W) RGB, aligned, at least 16×16: uint8, uint16, or floating
            point in [0, 1]. They may be on another device than the model; the result is where
            they are.
        tile: side of the tiles in pixels, without their overlap, rounded up to the grid of each
            sub-net; by default 768, which takes about 0.6 GB.
        progress: called with the tiles of a stage and its name, to go through them with a bar
            (like ``lambda tiles, stage: tqdm(tiles, stage)``).

    Raises:
        ValueError: the images differ in shape, are no RGB images or too small.
    """
    if image1.shape != image2.shape or image1.dtype != image2.dtype:
        raise ValueError(f"images differ: {tuple(image1.shape)}, {tuple(image2.shape)}")
    if image1.ndim != 4 or image1.shape[1] != 3 or min(image1.shape[2:]) < SMALLEST:
        raise ValueError(
            f"images are (N, 3, H, W) of at least {SMALLEST}×{SMALLEST}, not {tuple(image1.shape)}"
        )
    progress = progress or (lambda tiles, stage: tiles)
    images, size = (image1, image2), image1.shape[2:]
    # Allocated outside inference mode, so that the caller may write to them and differentiate.
    fused = torch.empty_like(image1)
    guidance = torch.empty_like(image1[:, :1], dtype=torch.float32).contiguous()
    tile = tile or TILE
    with torch.inference_mode():
        _guide(model, images, guidance, tile, progress)
        for part in progress(cut(size, tile, model.boundary), "fusion"):
            _store(fused[part.core], _fuse_tile(model, images, guidance, part))
    return Fused(fused, guidance)


def cut(size: Sequence[int], side: int, net: nn.Module | None) -> list[Tile]:
    """Tiles that cover an image (H, W), on the grid of a sub-net and seeing what it reaches.

    They are about equally large, at most ``side`` rounded up to the grid.
    """
    multiple, reach = (net.multiple, net.reach) if net else (1, 0)
    halo = -(-reach // multiple) * multiple
    rows, columns = (_cut_line(length, side, multiple, halo) for length in size)
    return [
        Tile(*((..., *lines) for lines in zip(row, column, strict=True)))
        for row in rows
        for column in columns
    ]


def _cut_line(length: int, side: int, multiple: int, halo: int) -> list[tuple[slice, slice, slice]]:
    """(core, seen, inside) along one axis."""
    cells = -(-length // multiple)
    count = -(-cells // -(-side // multiple))
    edges = [cells * i // count * multiple for i in range(count)] + [length]
    line = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        first, last = max(start - halo, 0), min(stop + halo, length)
        line.append((slice(start, stop), slice(first, last), slice(start - first, stop - first)))
    return line


def _guide(
    model: MMFNet, images: Sequence[Tensor], guidance: Tensor, tile: int, progress: Progress
) -> None:
    """The first stage: the guidance map (N, 1, H, W), of large images coarse to fine."""
    height, width = guidance.shape[2:]
    large = height * width > scales.WHOLE
    if large:
        small = [_halved(image, model) for image in images]
        coarse = torch.empty_like(small[0][:, :1])
        for part in progress(cut(coarse.shape[2:], tile, model.initial), "overview"):
            logits = model.initial(*(_load(image, part.seen, model) for image in small))
            coarse[part.core] = torch.sigmoid(logits[part.inside])
        guidance[:] = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., :height, :width]
    for part in progress(cut((height, width), tile, model.initial), "guidance"):
        known = guidance[part.core]
        weight = (boundary_map(known) / scales.UNSURE).clamp(max=1) if large else 1
        if large and _is_nothing(weight):
            continue
        logits = model.initial(*(_load(image, part.seen, model) for image in images))
        found = torch.sigmoid(logits[part.inside]).to(known.device)
        guidance[part.core] = torch.lerp(known, found, weight) if large else found


def _halved(image: Tensor, model: nn.Module) -> Tensor:
    """Means of 2×2 pixels, (N, C, ⌈H/2⌉, ⌈W/2⌉) float32 in [0, 1], where the image is."""
    height, width = image.shape[2:]
    half = torch.empty(*image.shape[:2], -(-height // 2), -(-width // 2), device=image.device)
    for top in range(0, height, TILE):  # a part at a time: as floats images are large
        rows = _load(image, (..., slice(top, top + TILE), slice(None)), model)
        means = F.avg_pool2d(rows, 2, ceil_mode=True, count_include_pad=False)
        half[..., top // 2 : top // 2 + means.shape[2], :] = means
    return half


def _fuse_tile(model: MMFNet, images: Sequence[Tensor], guidance: Tensor, tile: Tile) -> Tensor:
    """The second stage: initial fusion, and the residual if any of it can be seen."""
    core1, core2 = (_load(image, tile.core, model) for image in images)
    weight = _load(guidance, tile.core, model)
    initial = select(core1, core2, weight)
    boundary = boundary_map(weight)
    if model.boundary is None or _is_nothing(boundary):
        return initial
    residual = model.boundary(*(_load(x, tile.seen, model) for x in (*images, guidance)))
    return initial + boundary * residual[tile.inside]


def _is_nothing(weight: Tensor) -> bool:
    """Whether what is weighted with this can be seen nowhere."""
    return bool(weight.max() < INVISIBLE)


def _load(image: Tensor, region: Region, model: nn.Module) -> Tensor:
    """A region of an image as the model takes it."""
    part = image[region].to(next(model.parameters()).device)
    part = part.to(torch.float32, memory_format=torch.channels_last)
    return part if image.is_floating_point() else part / torch.iinfo(image.dtype).max


def _store(region: Tensor, image: Tensor) -> None:
    """Write values in [0, 1] to a region of a result in its type."""
    image = image.clamp(0, 1)
    if not region.is_floating_point():
        image = (image * torch.iinfo(region.dtype).max).round()
    region.copy_(image)
