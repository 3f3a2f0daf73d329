"""From a photograph and a segment to a soft matte with its foreground colours.

A human segmentation is binary and a few pixels off. Inside a band around its edge the matte is
estimated by closed-form matting (Levin et al., TPAMI 2008) and the foreground colours by the
multi-level method (Germer et al., ICPR 2020), both from pymatting. Like the matting literature
this works on the stored values, not in linear light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

# Alpha below which an estimated foreground colour is noise: colours there are extended instead.
_COLORED = 0.1
# The closed form leaves a haze of a few percent over regions that are plainly outside or inside.
_HAZE = 0.04


class Unusable(Exception):
    """A source that is skipped; the message is ``kind: detail`` (``tiny: 90×60 px``)."""


@dataclass(frozen=True)
class Foreground:
    """An object cut out of a photograph. Arrays may be shared with a cache: do not write to them.

    Attributes:
        color: (H, W, 3) uint8 sRGB, not premultiplied: valid where alpha is soft, and continued
            outside the matte by the nearest foreground colours, so that h⊗(αF) draws on nothing
            of the old background.
        alpha: (H, W) float32 in [0, 1].
        photograph: stem of the source photograph, the key of train and validation splits.
        estimator: who made the matte: ``given`` or the name of the pymatting estimator.
    """

    color: np.ndarray
    alpha: np.ndarray
    photograph: str
    estimator: str = "given"


def extend_colors(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Replace the colours where there is no matte to speak of by the nearest that belong to it.

    Args:
        color: (H, W, 3), any type.
        alpha: (H, W) in [0, 1], above 0.1 somewhere.
    """
    outside = alpha < _COLORED
    if outside.all():
        raise Unusable("empty: the matte has no opaque pixel")
    rows, columns = ndimage.distance_transform_edt(
        outside, return_distances=False, return_indices=True
    )
    return color[rows, columns]


def estimate_colors(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Foreground colours of a photograph under its matte.

    Args:
        image: (H, W, 3) uint8 sRGB, the photograph α·F + (1−α)·B.
        alpha: (H, W) in [0, 1].

    Returns:
        F, (H, W, 3) uint8, extended beyond the matte.
    """
    from pymatting import estimate_foreground_ml  # compiles and loads numba: only when needed

    color = estimate_foreground_ml(image / 255.0, alpha)
    # Opaque pixels show the foreground itself; the estimate smooths them slightly.
    color = np.where(alpha[..., None] >= 1, image, np.rint(color * 255).astype(np.uint8))
    return extend_colors(color, alpha)


def band_of(mask: np.ndarray) -> float:
    """Half-width in pixels of the unknown band for a segment: 4 % of √area, within 4 to 16."""
    return float(np.clip(0.04 * np.sqrt(np.count_nonzero(mask)), 4, 16))


def trimap_of(mask: np.ndarray, band: float) -> np.ndarray:
    """1 deeper than ``band`` pixels inside the segment, 0 farther out, 0.5 between; (H, W)."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.where(inside > band, 1.0, np.where(outside > band, 0.0, 0.5))


def estimate_alpha(image: np.ndarray, trimap: np.ndarray) -> tuple[np.ndarray, str]:
    """Alpha (H, W) float64 and the name of the estimator that gave it.

    Closed-form matting with an incomplete-Cholesky solver; where that fails, large-kernel matting
    (He et al., CVPR 2010), the same energy without a matrix to factorise.

    Args:
        image: (H, W, 3) uint8 sRGB.
        trimap: (H, W) float64 of 0, 0.5 and 1.
    """
    from pymatting import estimate_alpha_cf, estimate_alpha_lkm

    for estimator in (estimate_alpha_cf, estimate_alpha_lkm):
        try:
            alpha = estimator(image / 255.0, trimap, cg_kwargs={"rtol": 1e-5, "maxiter": 2000})
        except ValueError:  # pymatting: no factorisation, or no convergence
            continue
        if np.isfinite(alpha).all():
            return alpha, estimator.__name__.removeprefix("estimate_alpha_")
    raise Unusable("unsolved: no matting estimator converged")


def matte_from_segment(
    image: np.ndarray,
    mask: np.ndarray,
    band: float | None = None,
    photograph: str = "",
    margin: int = 8,
) -> Foreground:
    """Cut a segment out of a photograph with a soft matte.

    Args:
        image: (H, W, 3) uint8 sRGB.
        mask: (H, W) bool, the segment.
        band: half-width in pixels of the band in which alpha is unknown; default :func:`band_of`.
        photograph: split key of the result.
        margin: transparent pixels around the object in the result.

    Returns:
        The object, cropped to the extent of its matte plus ``margin`` on every side.

    Raises:
        Unusable: no estimator converged, or the matte fails :func:`check_matte`.
    """
    if not mask.any():
        raise Unusable("empty: the segment has no pixel")
    band = band_of(mask) if band is None else band
    window = _extent(mask, round(3 * band) + 8)
    image, mask = image[window], mask[window]
    trimap = trimap_of(mask, band)
    if not (trimap == 1).any():
        raise Unusable(f"thin: nothing of the segment is {band:.0f} px from its edge")
    alpha, estimator = estimate_alpha(image, trimap)
    alpha = np.clip((alpha - _HAZE) / (1 - 2 * _HAZE), 0, 1)
    alpha = _connected(alpha, trimap == 1).astype(np.float32)
    check_matte(alpha, mask, band)
    color = estimate_colors(image, alpha)

    window = _extent(alpha > 0, 0)
    color, alpha = color[window], alpha[window]
    # Padded rather than cropped wider: where the photograph ends at the object, so does the matte.
    color = np.pad(color, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return Foreground(color, np.pad(alpha, margin), photograph, estimator)


def check_matte(alpha: np.ndarray, mask: np.ndarray, band: float) -> None:
    """Refuse a matte that does not agree with its segment.

    Raises:
        Unusable: the mean of alpha over the segment eroded by half the band is below 0.9
            (``collapsed``), or more than half of the band outside the segment is covered or
            half-covered (``leaking``): foreground and background were too alike to separate.
    """
    size = 2 * max(round(band / 2), 1) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    binary = mask.astype(np.uint8)
    core = cv2.erode(binary, kernel).astype(bool)
    if not core.any() or alpha[core].mean() < 0.9:
        mean = alpha[core].mean() if core.any() else 0.0
        raise Unusable(f"collapsed: mean alpha {mean:.2f} inside the segment")
    size = 2 * round(band) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    ring = (cv2.dilate(binary, kernel) > 0) & (cv2.dilate(binary, np.ones((5, 5))) == 0)
    if ring.any() and alpha[ring].mean() > 0.25:
        raise Unusable(f"leaking: mean alpha {alpha[ring].mean():.2f} outside the segment")


def _extent(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Bounding box of the true pixels, widened by ``margin`` within the frame."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return tuple(slice(max(i[0] - margin, 0), i[-1] + 1 + margin) for i in (rows, columns))


def _connected(alpha: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Clear the islands of alpha that do not touch the known foreground."""
    labels, _ = ndimage.label(alpha > 0.02, structure=np.ones((3, 3)))
    return np.where(np.isin(labels, np.unique(labels[core & (labels > 0)])), alpha, 0)
