"""MMF-Net: the cascade of figure 5."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from defocus.guidance import boundary_map


class Fusion(NamedTuple):
    """What the cascade makes of two sources; images (N, 3, H, W), maps (N, 1, H, W), in [0, 1]."""

    fused: Tensor  # final fusion; may overshoot [0, 1] while training
    initial: Tensor  # initial fusion: a selection of source pixels by the guidance map
    guidance: Tensor  # G: 1 where image 1 is right, 0 where image 2 is, 0.5 where neither
    boundary: Tensor  # 1 − 2·|G − 0.5|
    logits: Tensor  # of the guidance map


def select(image1: Tensor, image2: Tensor, guidance: Tensor) -> Tensor:
    """Initial fusion: G·image1 + (1 − G)·image2, so that equal pixels stay exactly as they are."""
    return image2 + guidance * (image1 - image2)


def sharpen(logits: Tensor, sharpness: float | Tensor) -> Tensor:
    """Make clear decisions clearer: l·max(1, s·|l|).

    Where many frames are fused one after another, a pixel that each of them mixes by 3 % does not
    stay sharp. In the band, where |l| < 1/s since no frame is right, nothing changes.
    """
    return logits * (sharpness * logits.abs()).clamp(min=1)


class MMFNet(nn.Module):
    """Initial fusion gives a guidance map, boundary fusion repairs the band around the FDB.

    The residual acts through the boundary map only, so pixels far from the FDB are copies of a
    source.

    Args:
        initial: two images to guidance logits, see :mod:`models.initial_fusion`.
        boundary: two images and a guidance map to a residual, see
            :mod:`models.boundary_fusion`; None for initial fusion alone.
    """

    def __init__(self, initial: nn.Module, boundary: nn.Module | None):
        super().__init__()
        self.initial = initial
        self.boundary = boundary

    def forward(self, image1: Tensor, image2: Tensor) -> Fusion:
        """Fuse images (N, 3, H, W), RGB in [0, 1], of at least 16×16 pixels."""
        logits = self.initial(image1, image2)
        guidance = torch.sigmoid(logits)
        initial = select(image1, image2, guidance)
        boundary = boundary_map(guidance)
        if self.boundary is None:
            return Fusion(initial, initial, guidance, boundary, logits)
        fused = initial + boundary * self.boundary(image1, image2, guidance)
        return Fusion(fused, initial, guidance, boundary, logits)
