"""Initial fusion sub-net: which source is right where. Both sources in, guidance logits out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import Pair, PairConv, PairResBlock, ResBlock, to_pair, upsample_onto


class InitialFusion(nn.Module):
    """Figure 5: conv 64, 4 ResBlocks of 64, conv to one channel, at full resolution.

    Attributes:
        multiple, reach: see :mod:`models.fuse`.
    """

    def __init__(self, channels: int = 64, blocks: int = 4):
        super().__init__()
        self.multiple, self.reach = 1, 2 + 2 * blocks
        self.head = nn.Conv2d(6, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResBlock(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, image1: Tensor, image2: Tensor) -> Tensor:
        """Logits (N, 1, H, W) of the guidance map from two images (N, 3, H, W)."""
        return self.tail(self.body(self.head(torch.cat([image1, image2], 1))))


class PairInitialFusion(nn.Module):
    """A U-Net on both sources alike, from half resolution down.

    Where the scene has no texture both sources look the same, and only what surrounds the place
    tells which is right: hence the coarse levels, and with them a view of the whole picture.
    Exchanging the sources turns the sign of the logits, by construction.

    Args:
        widths: channels of each level; level i works at 1/2^(i+1) of the resolution.

    Attributes:
        multiple, reach: see :mod:`models.fuse`.
    """

    def __init__(self, widths: Sequence[int] = (16, 24, 32, 48, 64)):
        super().__init__()
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.multiple, self.reach = 2 ** len(widths), 1  # the tail's
        for _ in steps:  # decode, then the coarser grid
            self.reach = (self.reach + 2 + 1) // 2
        for _ in steps:  # encode, then down from the finer grid
            self.reach = 2 * (self.reach + 2) + 1
        self.reach = 2 * (self.reach + 2 + 1)  # encode and head, in pixels
        self.head = PairConv(12, widths[0])
        self.encode = nn.ModuleList(PairResBlock(width) for width in widths)
        self.down = nn.ModuleList(PairConv(fine, coarse, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(PairConv(coarse, fine, kernel=1) for fine, coarse in steps)
        self.decode = nn.ModuleList(PairResBlock(fine) for fine, _ in steps)
        self.tail = nn.Conv2d(widths[0], 4, 3, padding=1, bias=False)

    def forward(self, image1: Tensor, image2: Tensor) -> Tensor:
        """Logits (N, 1, H, W) of the guidance map from two images (N, 3, H, W)."""
        height, width = image1.shape[-2:]
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        pair = to_pair(*(F.pad(image, padding, mode="replicate") for image in (image1, image2)))
        pair = self.encode[0](self.head(tuple(F.pixel_unshuffle(x, 2) for x in pair)))
        skips: list[Pair] = []
        for down, encode in zip(self.down, self.encode[1:], strict=True):
            skips.append(pair)
            pair = encode(down(pair))
        for up, decode, skip in list(zip(self.up, self.decode, skips, strict=True))[::-1]:
            pair = decode(upsample_onto(skip, up(pair)))
        return F.pixel_shuffle(self.tail(pair[1]), 2)[..., :height, :width]
