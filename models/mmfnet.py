"""MMF-Net: the cascade of figure 5, for any number of photographs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from defocus.guidance import boundary_map


class Fusion(NamedTuple):
    """What the cascade makes of N photographs; images (B, 3, H, W), in [0, 1]."""

    fused: Tensor  # final fusion; may overshoot [0, 1] while training
    initial: Tensor  # initial fusion: a selection of pixels by the guidance map
    guidance: Tensor  # (B, N, 1, H, W), see models.initial_fusion.Guidance
    boundary: Tensor  # (B, 1, H, W): 1 where no photograph is right
    scores: Tensor | None  # see models.initial_fusion.Guidance
    neither: Tensor | None


def select(photographs: Tensor, guidance: Tensor) -> Tensor:
    """Initial fusion Σᵢ Gᵢ·Iᵢ, from the first on, so that equal pixels stay exactly as they are."""
    first = photographs[:, 0]
    return first + (guidance[:, 1:] * (photographs[:, 1:] - first[:, None])).sum(1)


class MMFNet(nn.Module):
    """Initial fusion gives a guidance map, boundary fusion repairs the band around the FDB.

    The residual acts through the boundary map only, so that pixels far from the FDB are those of a
    photograph.

    Args:
        initial: photographs to :class:`models.initial_fusion.Guidance`.
        boundary: photographs and guidance to coefficients of a residual, see
            :mod:`models.boundary_fusion`; None for initial fusion alone.
    """

    def __init__(self, initial: nn.Module, boundary: nn.Module | None):
        super().__init__()
        self.initial = initial
        self.boundary = boundary

    def forward(self, photographs: Tensor, guidance: Tensor | None = None) -> Fusion:
        """Fuse photographs (B, N, 3, H, W), RGB in [0, 1], N ≥ 2, of at least 16×16 pixels.

        Args:
            guidance: (B, N, 1, H, W) to fuse by, instead of what the initial fusion sub-net says.
        """
        found = self.initial(photographs)
        if guidance is not None:
            found = found._replace(guidance=guidance)
        initial = fused = select(photographs, found.guidance)
        boundary = boundary_map(found.guidance)
        if self.boundary is not None:
            coefficients = self.boundary(photographs, found.guidance)
            fused = initial + boundary * self.boundary.residual(coefficients, photographs)
        return Fusion(fused, initial, found.guidance, boundary, found.scores, found.neither)
