"""What the cascade is trained to minimise: the paper's loss and ours."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from data.datasets import Batch
from models.mmfnet import Fusion, boundary_map
from utils.errors import UserError

# 50 dB. The logarithm weighs a sample by the reciprocal of its error: without a floor, scenes that
# are hardly blurred would outweigh all others, and teach the boundary sub-net to do nothing.
FLOOR = 1e-5


@dataclass
class PaperLoss:
    """mean‖F−GT‖₂ + mean(w·‖F−GT‖₂) + 0.2·mean|G−G*|, of the released code, for pairs.

    ‖·‖₂ runs over the channels and w = 5 − 8·|G*−0.5|, divided by its mean.
    """

    guidance: float = 0.2  # weight of the last term

    def __call__(self, fusion: Fusion, samples: Batch) -> dict[str, Tensor]:
        _, truth, guidance = samples
        # The small constant keeps the gradient of the root finite at zero.
        distance = ((fusion.fused - truth).square().sum(1, keepdim=True) + 1e-12).sqrt()
        weight = 1 + 4 * boundary_map(guidance)
        return {
            "fusion": distance.mean(),
            "boundary": (weight / weight.mean() * distance).mean(),
            "guidance": self.guidance * (fusion.guidance - guidance).abs().mean(),
        }


@dataclass
class LogLoss:
    """Logarithm of each sample's mean squared error, of the whole image and of the FDB band.

    It is PSNR up to a factor, so that samples that are easy (little blur, no noise) count as much
    as hard ones. Guidance is learned by cross-entropy on its logits (an L1 loss on G saturates and
    can collapse): of each photograph being right, and of none. There all pixels count alike; the
    selection term counts what a wrong choice costs: it is the error to be expected of one
    photograph drawn at each pixel by its score, much on thin structure, nothing on a plain wall.
    """

    guidance: float = 1.0  # weight of the cross-entropy; with 8, thin things in front were missed
    selection: float = 10.0  # weight of the selection term

    def __call__(self, fusion: Fusion, samples: Batch) -> dict[str, Tensor]:
        """The terms; raises :class:`UserError` if the network gives no logits."""
        if fusion.scores is None:
            ways = "give train.loss=paper, or model.initial.args.sigmoid=true to the paper's"
            raise UserError(f"train.loss=log needs logits, which this network lacks; {ways}")
        photographs, truth, guidance = samples
        error = (fusion.fused.float() - truth).square().mean(1, keepdim=True)
        band = boundary_map(guidance)
        area = band.sum((1, 2, 3))
        in_band = (error * band).sum((1, 2, 3)) / area.clamp_min(1)
        logs = (in_band + FLOOR).log() * (area > 0)
        odds = fusion.scores.log_softmax(1)
        entropy = -(guidance * odds).sum(1).mean()
        if fusion.neither is not None:
            entropy = entropy + F.binary_cross_entropy_with_logits(fusion.neither, band)
        errors = (photographs - truth[:, None]).square().mean(2, keepdim=True)
        expected = (odds.exp() * errors).sum(1)
        return {
            "fusion": 0.5 * (error.mean((1, 2, 3)) + FLOOR).log().mean(),
            "boundary": 0.5 * logs.mean(),
            "selection": self.selection * (expected.mean((1, 2, 3)) + FLOOR).log().mean(),
            "guidance": self.guidance * entropy,
        }
