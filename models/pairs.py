"""Sub-nets for two photographs: of every layer's features their sum and their difference.

For two photographs this is every linear layer that commutes with exchanging them. It is the network
of weights trained before :class:`models.initial_fusion.SetInitialFusion` took any number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.boundary_fusion import SetBoundaryFusion
from models.initial_fusion import Guidance
from models.layers import halve

SHARPNESS = 1.2  # of decisions

# Features of two photographs as (sum, difference): exchanging them turns the difference's sign.
Pair = tuple[Tensor, Tensor]


class PairConv(nn.Module):
    """A convolution of sum and difference, each by itself; no bias is added to the difference."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        padding = (kernel - 1) // 2
        self.sum = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.difference = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)

    def forward(self, pair: Pair) -> Pair:
        return self.sum(pair[0]), self.difference(pair[1])


def pair_relu(pair: Pair) -> Pair:
    """ReLU on the features of each photograph (of twice them: the scale is left to the weights)."""
    total, difference = pair
    first = F.relu_(total + difference)
    second = (difference - total).clamp_max_(0)  # less than zero: −ReLU(total − difference)
    # first + second, but where both pass it is 2·difference to the last bit: a total much larger
    # than the difference would round it away.
    return first - second, (2 * difference).clamp(second, first)


class PairResBlock(nn.Module):
    """The residual block of figure 5 with :class:`PairConv`."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = PairConv(channels, channels)
        self.conv2 = PairConv(channels, channels)

    def forward(self, pair: Pair) -> Pair:
        total, difference = self.conv2(pair_relu(self.conv1(pair)))
        return pair[0] + total, pair[1] + difference


class PairInitialFusion(nn.Module):
    """A U-Net from half resolution down; see :class:`models.initial_fusion.SetInitialFusion`."""

    largest = 2

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

    def forward(self, photographs: Tensor) -> Guidance:
        """Guidance of two photographs (B, 2, 3, H, W)."""
        height, width = photographs.shape[-2:]
        pair = self.encode[0](self.head(to_pair(halve(photographs, self.multiple))))
        skips: list[Pair] = []
        for down, encode in zip(self.down, self.encode[1:], strict=True):
            skips.append(pair)
            pair = encode(down(pair))
        for up, decode, skip in list(zip(self.up, self.decode, skips, strict=True))[::-1]:
            pair = decode(upsample_onto(skip, up(pair)))
        logits = F.pixel_shuffle(self.tail(pair[1]), 2)[..., :height, :width].float()
        first = (logits if self.training else sharpen(logits)).sigmoid()
        return Guidance(torch.stack([first, 1 - first], 1), torch.stack([logits, -logits], 1) / 2)


class PairBoundaryFusion(nn.Module):
    """Residual blocks at half and quarter resolution, and the physical head of
    :class:`models.boundary_fusion.SetBoundaryFusion`."""

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
        # Offset and gain of the sum, then of the difference, of 2×2 pixels each.
        self.tail_even = nn.Conv2d(half, 16, 3, padding=1, bias=False)
        self.tail_odd = nn.Conv2d(half, 4, 3, padding=1, bias=False)

    def forward(self, photographs: Tensor, guidance: Tensor) -> Tensor:
        """Coefficients (B, 6, H, W), see :class:`models.boundary_fusion.SetBoundaryFusion`."""
        height, width = photographs.shape[-2:]
        inputs = halve(torch.cat([photographs, guidance], 2), self.multiple)
        skip = self.before(self.head(to_pair(inputs)))
        pair = self.after(upsample_onto(skip, self.up(self.middle(self.down(skip)))))
        limit = pair[1].abs()
        even = F.pixel_shuffle(self.tail_even(pair[0].clamp(-limit, limit)), 2)
        odd = F.pixel_shuffle(self.tail_odd(pair[1]), 2)
        offset, gain = even.split([3, 1], 1)  # the sum is twice the mean
        return torch.cat([offset, 2 * gain, odd, -odd], 1)[..., :height, :width]

    residual = staticmethod(SetBoundaryFusion.residual)


def sharpen(logits: Tensor) -> Tensor:
    """Make clear decisions clearer: l·max(1, 1.2·|l|).

    Where a stack is folded pair by pair, a pixel that each merge mixes by 3 % does not stay sharp.
    In the band, where |l| < 1/1.2 since neither photograph is right, nothing changes.
    """
    return logits * (SHARPNESS * logits.abs()).clamp(min=1)


def to_pair(x: Tensor) -> Pair:
    """(sum, difference) of two photographs' features (B, 2, C, H, W)."""
    first, second = x.unbind(1)
    return first + second, first - second


def upsample_onto(fine: Pair, coarse: Pair) -> Pair:
    """Coarse features at twice their resolution, added to fine ones."""
    doubled = (F.interpolate(x, scale_factor=2, mode="nearest") for x in coarse)
    return tuple(x + y for x, y in zip(fine, doubled, strict=True))
