"""What the cascade is trained to minimise: the paper's loss and ours."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from defocus.guidance import boundary_map
from models.mmfnet import Fusion


class PaperLoss(nn.Module):
    """mean‖F−GT‖₂ + mean(w·‖F−GT‖₂) + 0.2·mean|G−G*|, of the released code.

    ‖·‖₂ runs over the channels and w = 5 − 8·|G*−0.5|, divided by its mean.

    Args:
        guidance: weight of the last term.
    """

    def __init__(self, guidance: float = 0.2):
        super().__init__()
        self.guidance = guidance

    def forward(self, fusion: Fusion, truth: Tensor, guidance: Tensor) -> dict[str, Tensor]:
        # The small constant keeps the gradient of the root finite at zero.
        distance = ((fusion.fused - truth).square().sum(1, keepdim=True) + 1e-12).sqrt()
        weight = 5 - 8 * (guidance - 0.5).abs()
        return {
            "fusion": distance.mean(),
            "boundary": (weight / weight.mean() * distance).mean(),
            "guidance": self.guidance * (fusion.guidance - guidance).abs().mean(),
        }


class LogLoss(nn.Module):
    """Logarithm of each sample's mean squared error, of the whole image and of the FDB band.

    It is PSNR up to a factor, so that samples that are easy (little blur, no noise) count as much
    as hard ones. The guidance map is learned by binary cross-entropy on its logits: an L1 loss on
    the sigmoid saturates and can collapse.

    Args:
        guidance: weight of the cross-entropy.
    """

    def __init__(self, guidance: float = 8.0):
        super().__init__()
        self.guidance = guidance

    def forward(self, fusion: Fusion, truth: Tensor, guidance: Tensor) -> dict[str, Tensor]:
        error = (fusion.fused.float() - truth).square().mean(1, keepdim=True)
        band = boundary_map(guidance)
        area = band.sum((1, 2, 3))
        in_band = (error * band).sum((1, 2, 3)) / area.clamp_min(1)
        present = (area > 0).float()
        floor = 1e-6  # 60 dB: below it an error is of no account
        return {
            "fusion": 0.5 * (error.mean((1, 2, 3)) + floor).log().mean(),
            "boundary": 0.5
            * ((in_band + floor).log() * present).sum()
            / present.sum().clamp_min(1),
            "guidance": self.guidance
            * F.binary_cross_entropy_with_logits(fusion.logits.float(), guidance),
        }
