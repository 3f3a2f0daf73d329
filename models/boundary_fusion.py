"""Boundary fusion sub-net: the residual that repairs the initial fusion on the FDB."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.initial_fusion import leads
from models.layers import ResNet, SetUNet, amplify, each, maximum, mean


class BoundaryFusion(ResNet):
    """Figure 5: conv, ResBlocks, conv, conv to a three-channel residual; two photographs.

    The paper's figure has 9 blocks of 64 channels; its released code 16 of 128, from the fifth on
    scaled by 0.1 (``scaled_from=4``).
    """

    def __init__(self, channels: int = 64, blocks: int = 9, scaled_from: int | None = None):
        super().__init__(7, 3, channels, blocks, scaled_from)

    def forward(self, photographs: Tensor, guidance: Tensor) -> Tensor:
        """Coefficients (…, 3, H, W), here the residual itself, from two photographs
        (…, 2, 3, H, W) and their guidance (…, 2, 1, H, W)."""
        inputs = torch.cat([photographs.flatten(-4, -3), guidance.select(-4, 0)], -3)
        return super().forward(inputs)

    @staticmethod
    def residual(coefficients: Tensor, *_: Tensor) -> Tensor:
        return coefficients


class SetBoundaryFusion(nn.Module):
    """A U-Net from half resolution down on all photographs alike, and a physical head.

    Where a defocused foreground spreads over a sharp background, the α-matte model says
    image = h⊗(αF) + (1 − h⊗α)·B. Solved for B, that is the image times a gain, less an offset,
    and both change slowly, as the blurred matte does. So the net predicts gains and offsets, and
    fine texture of the photographs passes through the product at full resolution:

        residual = offset + gain₀·mean + Σᵢ gainᵢ·(photographᵢ − mean)
                   + mix·Σᵢ (Gᵢ − Sᵢ)·photographᵢ

    where S are the weights of the initial fusion, a selection: with a mix of 1 the halves of the
    guidance map replace it, pixel by pixel.

    Two things hold by construction. Reordering the photographs (and their guidance) leaves the
    residual as it is. Where they agree as far as the net sees, it is zero, since all of it comes
    from features limited by the photographs' deviations: equal inputs come back unchanged.

    ``widths``, ``blocks`` and ``refine`` are those of :class:`models.layers.SetUNet`.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 48, 64),
        blocks: Sequence[int] = (1, 3, 1),
        refine: int = 0,
    ):
        super().__init__()
        self.net = SetUNet(5, widths, blocks, common=3, normalised=False, refine=refine)
        # Offset, gain₀ and mix, then gainᵢ, of 2×2 pixels each.
        self.common = nn.Conv2d(widths[0], 20, 3, padding=1, bias=False)
        self.own = nn.Conv2d(widths[0], 4, 3, padding=1, bias=False)

    def forward(self, photographs: Tensor, guidance: Tensor) -> Tensor:
        """Coefficients (…, 5 + N, H, W) from photographs (…, N, 3, H, W) and guidance (…, N, 1, H,
        W): offset of R, G and B, gain₀, mix, gain₁ … gain_N. They are smooth, so they can be
        enlarged from smaller photographs."""
        height, width = photographs.shape[-2:]
        inputs = torch.cat([amplify(photographs), guidance, leads(guidance)], -3)
        x = self.net(inputs)
        common = mean(x)
        deviations = x - common
        limit = maximum(deviations.abs())
        common = each(lambda y: F.pixel_shuffle(self.common(y), 2), common.clamp(-limit, limit))
        own = each(lambda y: F.pixel_shuffle(self.own(y), 2), deviations)
        found = torch.cat([common.select(-4, 0), own.select(-3, 0)], -3)
        return found[..., :height, :width]

    @staticmethod
    def residual(
        coefficients: Tensor, photographs: Tensor, guidance: Tensor, selection: Tensor
    ) -> Tensor:
        """Residual (…, 3, H, W) from coefficients, photographs, guidance and the weights of the
        initial fusion (…, N, 1, H, W)."""
        count = photographs.shape[-4]
        offset, gain, mix, gains = coefficients.split([3, 1, 1, count], -3)
        gains = gains.unsqueeze(-3) + mix.unsqueeze(-4) * (guidance - selection)
        common = mean(photographs)
        deviations = gains * (photographs - common)
        return offset + gain * common.select(-4, 0) + deviations.sum(-4)
