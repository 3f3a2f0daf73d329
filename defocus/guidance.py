"""Guidance map: where each source is right, and where neither is."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from defocus.psf import blur

# Half an 8-bit step: what contributes less to a pixel cannot be seen in it. (In linear light it can
# still move the darkest sRGB values by a few steps, where the curve is steep.)
INVISIBLE = 1 / 512

VEIL = 1 / 300  # share of the light that may be blurrier where a photograph of a scene is right
BLURRIER = 0.5  # pixels: a larger difference of blur radii is noticeable
SOFT = 2 / 255  # difference from the truth, in sRGB values, that is noticeable
TIE = 1e-3  # pixels: photographs whose expected blur differs less are equally right


def defocused_share(mattes: Sequence[Tensor], psfs: Sequence[Tensor | None]) -> Tensor:
    """The share of each pixel's light that comes from layers out of focus, (…, 1, H, W).

    The K−1 mattes (…, 1, H, W) are given nearest layer first, the farthest layer is opaque; the K
    PSFs are ``None`` for layers in focus. Where the share is 0 the image is the all-in-focus one.
    """
    share = torch.zeros_like(mattes[0])
    transmitted = torch.ones_like(mattes[0])
    for matte, psf in zip(mattes, psfs[:-1], strict=True):
        spread = blur(matte, psf)
        if psf is not None:
            share = share + transmitted * spread
        transmitted = transmitted * (1 - spread)
    return share if psfs[-1] is None else share + transmitted


def guidance_map(share1: Tensor, share2: Tensor) -> Tensor:
    """Guidance map G* of two photographs of the same layers, from the :func:`defocused_share` of
    each.

    It is 1 where only photograph 1 is right, 0 where only photograph 2 is, else 0.5. A photograph
    is right where no layer contributes that it shows out of focus. With two layers, and photograph
    1 focused on the foreground, 1 is right where the foreground is opaque (α = 1), 2 where its
    spread does not reach (h_f⊗α = 0). Elsewhere neither is: that is the focused/defocused boundary,
    as wide as the PSF reaches.
    """
    first_right, second_right = ((share <= INVISIBLE).float() for share in (share1, share2))
    return (1 + first_right - second_right) / 2


def rightness(true_shares: Tensor, true_radii: Tensor, shares: Tensor, radii: Tensor) -> Tensor:
    """Guidance map G* (N, 1, H, W), of sum 1, of N photographs of K layers blurred by known radii.

    ``shares`` (N, K, H, W) are those of a photograph's light that come from each layer, ``radii``
    (N, K, H, W) px what it blurs them by; ``true_shares`` and ``true_radii`` (K, H, W) those of the
    truth. A photograph is right where at most :data:`VEIL` of the light, its own or the truth's,
    comes from layers more than :data:`BLURRIER` blurrier than the truth has them. (The truth's
    counts since a thin wire out of focus leaves hardly any light of its own.)
    Among those that are right the one of the least expected blur cᵢ = Σₖ share·radius wins; equals
    share. Where none is, the two with the least such light get half each, those of equal light by
    their expected blur (a pixel of which counts as much as 0.1 % of the light). For the paper's
    pairs it is :func:`guidance_map` with a threshold of :data:`VEIL`.
    """
    shares = shares.maximum(true_shares)
    expected = (shares * radii).sum(1)
    veil = (shares * (radii > true_radii + BLURRIER)).sum(1)
    right = veil <= VEIL
    blur_of_right = torch.where(right, expected, torch.inf)
    winners = (blur_of_right <= blur_of_right.amin(0) + TIE) & right
    least = (veil + expected / 1000).topk(2, dim=0, largest=False).indices
    guidance = torch.zeros_like(veil).scatter_(0, least, 0.5)
    count = winners.sum(0)
    guidance = torch.where(count > 0, winners / count.clamp(min=1), guidance)
    return guidance[:, None]


def restorable(image: Tensor, truth: Tensor) -> Tensor:
    """(H, W) bool: where a sharper truth (3, H, W) can be told from the best photograph, an image
    (3, H, W), and learned from it.

    It can be told where they differ by more than :data:`SOFT` in any channel within two pixels: a
    plain wall looks the same in and out of focus. It cannot be learned within three pixels of white
    in either: by how much light above white was blurred is lost where it is clipped.
    """
    difference = (image - truth).abs().amax(0)
    white = (image.maximum(truth).amax(0) >= 1 - INVISIBLE).float()
    return (_spread(difference, 2) > SOFT) & (_spread(white, 3) == 0)


def _spread(plane: Tensor, reach: int) -> Tensor:
    """The largest value (H, W) within ``reach`` pixels."""
    return F.max_pool2d(plane[None], 2 * reach + 1, stride=1, padding=reach)[0]
