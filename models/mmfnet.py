"""MMF-Net: the cascade of figure 5, for any number of photographs."""

from typing import NamedTuple

from torch import Tensor, nn


class Fusion(NamedTuple):
    """What the cascade makes of N photographs; images (B, 3, H, W), in [0, 1]."""

    fused: Tensor  # final fusion; may overshoot [0, 1] while training
    initial: Tensor  # initial fusion: a selection of pixels by the guidance map
    guidance: Tensor  # (B, N, 1, H, W), see models.initial_fusion.Guidance
    boundary: Tensor  # (B, 1, H, W): 1 where no photograph is right
    scores: Tensor | None  # see models.initial_fusion.Guidance
    neither: Tensor | None


def boundary_map(guidance: Tensor) -> Tensor:
    """min(1, 2·(1 − maxᵢ Gᵢ)): 1 on the focused/defocused boundary, 0 where one source is right.

    From (…, N, 1, H, W), which sums to 1 over N, to (…, 1, H, W). For two photographs it is the
    paper's 1 − 2·|G − 0.5|.
    """
    return (2 * (1 - guidance.amax(-4))).clamp_max(1)


class MMFNet(nn.Module):
    """Initial fusion gives a guidance map, boundary fusion repairs the band around the FDB.

    The residual acts through the boundary map only, so that pixels far from the FDB are those of a
    photograph. The sub-nets are of :mod:`models.initial_fusion` and :mod:`models.boundary_fusion`,
    or None for initial fusion alone.
    """

    def __init__(self, initial: nn.Module, boundary: nn.Module | None):
        super().__init__()
        self.initial = initial
        self.boundary = boundary

    def forward(self, photographs: Tensor) -> Fusion:
        """Fuse photographs (B, N, 3, H, W), RGB in [0, 1], N ≥ 2, of at least 16×16 pixels; raises
        ValueError for a tensor of another kind."""
        shape, dtype = tuple(photographs.shape), photographs.dtype
        if len(shape) != 5 or shape[1] < 2 or not dtype.is_floating_point:
            what = "photographs are (B, N, 3, H, W), N ≥ 2, floating point in [0, 1]"
            raise ValueError(f"{what}; these are {shape}, {dtype}")
        found = self.initial(photographs)
        coefficients = self.boundary(photographs, found.guidance) if self.boundary else None
        initial, fused = self.blend(photographs, found.guidance, coefficients)
        boundary = boundary_map(found.guidance)
        return Fusion(fused, initial, found.guidance, boundary, found.scores, found.neither)

    def blend(
        self, photographs: Tensor, guidance: Tensor, coefficients: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Initial and final fusion (…, 3, H, W) as the sub-nets decided; the same without
        coefficients. All with a first axis of scenes or all without.

        The initial fusion is taken from the first photograph on, so that equal pixels stay exactly
        as they are.
        """
        first = photographs.narrow(-4, 0, 1)
        selection = self.initial.select(guidance)
        initial = photographs.select(-4, 0) + (selection * (photographs - first)).sum(-4)
        if coefficients is None:
            return initial, initial
        residual = self.boundary.residual(coefficients, photographs, guidance, selection)
        return initial, initial + boundary_map(guidance) * residual
