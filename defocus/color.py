"""sRGB transfer functions (IEC 61966-2-1): light adds up in linear values only."""

import torch
from torch import Tensor


def to_linear(srgb: Tensor) -> Tensor:
    """sRGB values in [0, 1] to linear light in [0, 1], any shape."""
    # The clamp keeps the gradient of the branch that `where` discards finite.
    curve = ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= 0.04045, srgb / 12.92, curve)


def to_srgb(linear: Tensor) -> Tensor:
    """Linear light to sRGB values in [0, 1], any shape; what lies outside [0, 1] is clipped."""
    # Faster than pow.
    curve = linear.clamp(0.0031308, 1).log2_().mul_(1 / 2.4).exp2_().mul(1.055).sub_(0.055)
    # The line is the lower of the two up to where they meet, the curve from there on.
    return torch.minimum(linear.clamp_min(0).mul_(12.92), curve)
