"""Boundary fusion sub-net: the residual that repairs the initial fusion on the FDB."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import PairConv, PairResBlock, ResBlock, to_pair, upsample_onto


class BoundaryFusion(nn.Module):
    """Figure 5: conv, ResBlocks, conv to a three-channel residual, at full resolution.

    The paper's figure has 9 blocks of 64 channels; its released code 16 of 128, from the fifth on
    scaled by 0.1 (``scaled_from=4``).

    Attributes:
        multiple, reach: see :mod:`models.fuse`.
    """

    def __init__(self, channels: int = 64, blocks: int = 9, scaled_from: int | None = None):
        super().__init__()
        scaled_from = blocks if scaled_from is None else scaled_from
        self.multiple, self.reach = 1, 2 + 2 * blocks
        self.head = nn.Conv2d(7, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(ResBlock(channels, 0.1 if i >= scaled_from else 1.0) for i in range(blocks))
        )
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, image1: Tensor, image2: Tensor, guidance: Tensor) -> Tensor:
        """Residual (N, 3, H, W) from two images (N, 3, H, W) and the guidance map (N, 1, H, W)."""
        return self.coefficients(image1, image2, guidance)

    def coefficients(self, image1: Tensor, image2: Tensor, guidance: Tensor) -> Tensor:
        """What :meth:`residual` needs: here the residual itself."""
        return self.tail(self.body(self.head(torch.cat([image1, image2, guidance], 1))))

    @staticmethod
    def residual(coefficients: Tensor, image1: Tensor, image2: Tensor) -> Tensor:
        return coefficients


class PairBoundaryFusion(nn.Module):
    """Residual blocks at half and quarter resolution on both sources alike, and a physical head.

    Where a defocused foreground spreads over a sharp background, the α-matte model says
    image = h⊗(αF) + (1 − h⊗α)·B. Solved for B, that is the image times a gain, less an offset,
    and both change slowly, as the blurred matte does. So the net predicts gains and offsets, and
    fine texture of the sources passes through the product at full resolution:

        residual = offset + gain₊·(image1 + image2) + gain₋·(image1 − image2)

    Two things hold by construction. Exchanging the sources (and G with 1 − G) leaves the residual
    as it is. Where the sources agree as far as the net sees, it is zero, since all of it comes from
    features limited by the sources' difference: equal inputs come back unchanged.

    Args:
        half: channels at half resolution.
        quarter: channels at quarter resolution.
        blocks: residual blocks before, at and after quarter resolution.

    Attributes:
        multiple, reach: see :mod:`models.fuse`.
    """

    def __init__(self, half: int = 16, quarter: int = 40, blocks: Sequence[int] = (1, 3, 1)):
        super().__init__()
        before, middle, after = blocks
        quarter_reach = (1 + 2 * after + 1) // 2 + 2 * middle
        self.multiple, self.reach = 4, 2 * (2 * quarter_reach + 1 + 2 * before + 1)
        self.head = PairConv(16, half)
        self.before = nn.Sequential(*(PairResBlock(half) for _ in range(before)))
        self.down = PairConv(half, quarter, stride=2)
        self.middle = nn.Sequential(*(PairResBlock(quarter) for _ in range(middle)))
        self.up = PairConv(quarter, half, kernel=1)
        self.after = nn.Sequential(*(PairResBlock(half) for _ in range(after)))
        # Offset and gain₊, then gain₋, of 2×2 pixels each.
        self.tail_even = nn.Conv2d(half, 16, 3, padding=1, bias=False)
        self.tail_odd = nn.Conv2d(half, 4, 3, padding=1, bias=False)

    def forward(self, image1: Tensor, image2: Tensor, guidance: Tensor) -> Tensor:
        """Residual (N, 3, H, W) from two images (N, 3, H, W) and the guidance map (N, 1, H, W)."""
        return self.residual(self.coefficients(image1, image2, guidance), image1, image2)

    def coefficients(self, image1: Tensor, image2: Tensor, guidance: Tensor) -> Tensor:
        """Offset, gain₊ and gain₋, (N, 5, H, W): smooth, so they can be enlarged from a smaller
        version of the images."""
        height, width = image1.shape[-2:]
        padding = (0, -width % 4, 0, -height % 4)
        sources = (torch.cat([image1, guidance], 1), torch.cat([image2, 1 - guidance], 1))
        total, difference = to_pair(*(F.pad(x, padding, mode="replicate") for x in sources))
        pair = self.head((F.pixel_unshuffle(total, 2), F.pixel_unshuffle(difference, 2)))
        skip = self.before(pair)
        pair = self.after(upsample_onto(skip, self.up(self.middle(self.down(skip)))))
        limit = pair[1].abs()
        even = F.pixel_shuffle(self.tail_even(pair[0].clamp(-limit, limit)), 2)
        odd = F.pixel_shuffle(self.tail_odd(pair[1]), 2)
        return torch.cat([even, odd], 1)[..., :height, :width]

    @staticmethod
    def residual(coefficients: Tensor, image1: Tensor, image2: Tensor) -> Tensor:
        """Residual (N, 3, H, W) from the coefficients and the images."""
        offset, plus, minus = coefficients.split([3, 1, 1], 1)
        total, difference = to_pair(image1, image2)
        return offset + plus * total + minus * difference
