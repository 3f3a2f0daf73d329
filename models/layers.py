"""Building blocks: the paper's residual block, and layers that treat both sources alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Features of two sources as (sum, difference): exchanging the sources keeps the sum and turns the
# sign of the difference.
Pair = tuple[Tensor, Tensor]


class ResBlock(nn.Module):
    """conv3×3 – ReLU – conv3×3, scaled and added to its input; no batch norm (figure 5)."""

    def __init__(self, channels: int, scale: float = 1.0):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.conv2(F.relu(self.conv1(x)))


class PairConv(nn.Module):
    """Convolution of a pair that is equivariant to exchanging the two sources.

    Every linear map of (a, b) that commutes with the exchange acts on a+b and a−b separately, and
    adds no bias to the difference. So it costs half of a plain convolution of the same width.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        padding = (kernel - 1) // 2
        self.sum = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.difference = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)

    def forward(self, pair: Pair) -> Pair:
        return self.sum(pair[0]), self.difference(pair[1])


def to_pair(a: Tensor, b: Tensor) -> Pair:
    """(sum, difference) of the two sources' features."""
    return a + b, a - b


def pair_relu(pair: Pair) -> Pair:
    """ReLU on the features of each source (of twice them: the scale is left to the weights)."""
    total, difference = pair
    first = F.relu_(total + difference)
    second = (difference - total).clamp_max_(0)  # less than zero: −ReLU(total − difference)
    # first + second, but where both sources pass it is 2·difference to the last bit: a total much
    # larger than the difference would round it away.
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


def upsample_onto(fine: Pair, coarse: Pair) -> Pair:
    """Coarse features at twice their resolution, added to fine ones."""
    doubled = (F.interpolate(x, scale_factor=2, mode="nearest") for x in coarse)
    return tuple(x + y for x, y in zip(fine, doubled, strict=True))
