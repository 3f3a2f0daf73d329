"""Initial fusion sub-net: which photograph is right where. Photographs in, guidance map out."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import ResNet, SetUNet, amplify, each, maximum, mean

# Scores are multiplied by this before the softmax, so that it selects. As they are trained it would
# mix photographs that are nearly as good, and a mix of many is blurred. With 9, generated stacks
# lose 0.4 dB, and 2 dB in the FDB: between two that are equally sharp, the boundary map opens where
# nothing is to be repaired.
SHARPNESS = 64.0
# The same of the logit of "none is right": it says 0.1 where one is right, which would mix two.
# While training less: a network that begins from nothing would diverge.
DECIDED, DECIDED_IN_TRAINING = 10.0, 4.0
# How far G prefers the less wrong where none is right: enough for `leads` to read.
PREFERENCE = 0.02
TIE = 1e-2  # scores nearer than a tenth of this are equal; rounding does not tell equals apart


class Guidance(NamedTuple):
    """What the initial fusion sub-net says of N photographs; a net may have no logits."""

    # (B, N, 1, H, W), sums to 1 over N: 1 for the photograph that is right, halves for the two
    # least wrong where none is (0.51 and 0.49, the better first). For two, guidance[:, 0] is the
    # paper's G.
    guidance: Tensor
    scores: Tensor | None = None  # (B, N, 1, H, W), logits of being right
    neither: Tensor | None = None  # (B, 1, H, W), logit of none being right


class InitialFusion(ResNet):
    """Figure 5: conv 64, 4 ResBlocks of 64, conv 64→64, conv to one channel; two photographs.

    With ``sigmoid``, G is the sigmoid of the last layer; the authors' G is that layer itself.
    """

    largest = 2  # number of photographs that it takes at once; None for any

    def __init__(self, channels: int = 64, blocks: int = 4, sigmoid: bool = False):
        super().__init__(6, 1, channels, blocks)
        self.sigmoid = sigmoid

    def forward(self, photographs: Tensor) -> Guidance:
        """Guidance of two photographs (…, 2, 3, H, W)."""
        if photographs.shape[-4] != 2:
            raise ValueError(f"this network takes 2 photographs, not {photographs.shape[-4]}")
        logits = super().forward(photographs.flatten(-4, -3))
        if not self.sigmoid:
            return Guidance(torch.stack([logits, 1 - logits], -4))
        scores = torch.stack([logits, -logits], -4) / 2
        return Guidance(scores.softmax(-4), scores)

    @staticmethod
    def select(guidance: Tensor) -> Tensor:
        """Weights of the photographs in the initial fusion: the guidance itself, as in the paper,
        so halves on the FDB."""
        return guidance


class SetInitialFusion(nn.Module):
    """A U-Net on all photographs alike, from half resolution down.

    Where the scene has no texture all photographs look the same, and only what surrounds the
    place tells which is right: hence the coarse levels, and with them a view of the whole picture.
    ``widths`` and ``refine`` are those of :class:`models.layers.SetUNet`; level i works at
    1/2^(i+1) of the resolution.
    """

    largest = None

    def __init__(self, widths: Sequence[int] = (16, 32, 48, 64, 64), refine: int = 0):
        super().__init__()
        self.net = SetUNet(3, widths, [1] * len(widths), refine=refine)
        self.score = nn.Conv2d(widths[0], 4, 3, padding=1, bias=False)
        self.neither = nn.Conv2d(2 * widths[0], 4, 3, padding=1)

    def forward(self, photographs: Tensor) -> Guidance:
        """Guidance of photographs (B, N, 3, H, W), or of (N, 3, H, W) alone; N ≥ 2."""
        height, width = photographs.shape[-2:]
        # Differences are taken before half precision, which would round them away.
        x = self.net(amplify(photographs))
        common = mean(x)
        scores = each(lambda y: F.pixel_shuffle(self.score(y), 2), x - common)
        shared = torch.cat([common, maximum(x) - common], -3)
        neither = each(lambda y: F.pixel_shuffle(self.neither(y), 2), shared).select(-4, 0)
        scores = scores[..., :height, :width].float()  # in full precision: the softmax needs it
        neither = neither[..., :height, :width].float()
        decided = DECIDED_IN_TRAINING if self.training else DECIDED
        return Guidance(decide(scores, neither, decided), scores, neither)

    @staticmethod
    def select(guidance: Tensor) -> Tensor:
        """Weights of the photographs in the initial fusion, (…, N, 1, H, W): all for the one that
        leads, on the FDB too, where halves would be farther from the truth."""
        leading = leads(guidance)
        return leading / leading.sum(-4, keepdim=True)


def decide(scores: Tensor, neither: Tensor, decided: float = DECIDED) -> Tensor:
    """Guidance (…, N, 1, H, W): a clear choice, or halves of the two best where none is right; from
    logits (…, N, 1, H, W) and (…, 1, H, W) as in :class:`Guidance`."""
    # The softmax, which runtimes are slow at over this axis.
    chosen = (SHARPNESS * (scores - maximum(scores).detach())).exp()
    chosen = chosen / chosen.sum(-4, keepdim=True)
    second = scores.topk(2, -4).values.narrow(-4, 1, 1)
    # A ramp, not a step: rounding must not decide whether a third that is hardly behind counts.
    best = (1.1 + (scores - second).detach() / TIE).clamp(0, 1)
    halves = best / best.sum(-4, keepdim=True)
    halves = halves + PREFERENCE * (chosen - halves)
    return chosen + (decided * neither).sigmoid().unsqueeze(-4) * (halves - chosen)


def leads(guidance: Tensor) -> Tensor:
    """Which photograph has the largest G, however little: 1 there, 0 for those behind it by half
    of ``PREFERENCE`` or more, (…, N, 1, H, W). It is to be read, not to be learned through."""
    guidance = guidance.detach()
    # A little more than 1, so that rounding does not tell equals apart.
    return (1.02 - 2 / PREFERENCE * (maximum(guidance) - guidance)).clamp(0, 1)
