"""From a photograph and a segment to a soft matte with its foreground colours.

A human segmentation is binary and a few pixels off. Inside a band around its edge the matte is
estimated by closed-form matting (Levin et al., TPAMI 2008) and the foreground colours by the
multi-level method (Germer et al., ICPR 2020), both from pymatting. Like the matting literature
this works on the stored values, not in linear light.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

COLORED = 0.1  # alpha below which an estimated foreground colour is noise
MARGIN = 8  # transparent pixels on every side of a cut-out
HAZE = 0.04  # that the closed form leaves where alpha is plainly 0, and takes where it is 1


class Unusable(Exception):
    """A source that is skipped; the message is ``kind: detail`` (``tiny: 90×60 px``)."""


@dataclass(frozen=True)
class Foreground:
    """An object cut out of a photograph. Outside the matte the colours are the nearest ones of the
    foreground, so that h⊗(αF) has nothing of the old background. Arrays may be shared with a cache:
    do not write to them."""

    color: np.ndarray  # (H, W, 3) uint8 sRGB, not premultiplied
    alpha: np.ndarray  # (H, W) float32 in [0, 1]
    photograph: str  # stem of the source photograph, the key of train and validation splits
    kind: str = "given"  # of the matte: given, a pymatting estimator, or how a sample came by it

    @property
    def nbytes(self) -> int:
        return self.color.nbytes + self.alpha.nbytes


def extend_colors(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Replace colours (H, W, 3) where alpha (H, W) is below 0.1 by the nearest where it is not;
    raises :class:`Unusable` where it is everywhere."""
    outside = alpha < COLORED
    if outside.all():
        raise Unusable("empty: the matte has no opaque pixel")
    nearest = ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True)
    return color[tuple(nearest)]


def estimate_colors(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """F of a photograph α·F + (1−α)·B, extended beyond the matte; both (H, W, 3) uint8 sRGB."""
    from pymatting import estimate_foreground_ml  # compiles and loads numba: only when needed

    color = estimate_foreground_ml(image / 255.0, alpha)
    # Opaque pixels show the foreground itself; the estimate smooths them slightly.
    color = np.where(alpha[..., None] >= 1, image, np.rint(color * 255).astype(np.uint8))
    return extend_colors(color, alpha)


def trimap_of(mask: np.ndarray, band: float) -> np.ndarray:
    """1 deeper than ``band`` pixels inside the segment, 0 farther out, 0.5 between; (H, W)."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.where(inside > band, 1.0, np.where(outside > band, 0.0, 0.5))


def estimate_alpha(image: np.ndarray, trimap: np.ndarray) -> tuple[np.ndarray, str]:
    """Alpha (H, W) float64 of an image (H, W, 3) uint8, and the name of its estimator: where
    closed-form matting fails, large-kernel matting (He et al., CVPR 2010), the same energy without
    a matrix to factorise. Raises :class:`Unusable` if neither converged."""
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
    image: np.ndarray, mask: np.ndarray, band: float | None = None, photograph: str = ""
) -> Foreground:
    """Cut a segment, (H, W) bool, out of a photograph, (H, W, 3) uint8 sRGB, with a soft matte.

    ``band`` is the half-width in pixels of the band in which alpha is unknown; by default 4 % of
    the square root of the segment's area, within 4 to 16. ``photograph`` is the split key of the
    result. Raises :class:`Unusable` if no estimator converged or the matte is no good.
    """
    if not mask.any():
        raise Unusable("empty: the segment has no pixel")
    if band is None:
        band = float(np.clip(0.04 * np.sqrt(np.count_nonzero(mask)), 4, 16))
    window = _extent(mask, round(3 * band) + 8)
    image, mask = image[window], mask[window]
    trimap = trimap_of(mask, band)
    if not (trimap == 1).any():
        raise Unusable(f"thin: nothing of the segment is {band:.0f} px from its edge")
    alpha, estimator = estimate_alpha(image, trimap)
    alpha = np.clip((alpha - HAZE) / (1 - 2 * HAZE), 0, 1)
    # Islands that do not touch the known foreground are cleared.
    seen = alpha > 0.02
    connected = ndimage.binary_propagation((trimap == 1) & seen, np.ones((3, 3)), seen)
    alpha = np.where(connected, alpha, 0).astype(np.float32)
    _check_matte(alpha, mask, band)
    color = estimate_colors(image, alpha)

    window = _extent(alpha > 0, 0)
    color, alpha = color[window], alpha[window]
    # Padded rather than cropped wider: where the photograph ends at the object, so does the matte.
    color = np.pad(color, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
    return Foreground(color, np.pad(alpha, MARGIN), photograph, estimator)


def _check_matte(alpha: np.ndarray, mask: np.ndarray, band: float) -> None:
    """Raise :class:`Unusable` if foreground and background were too alike to separate."""
    binary = mask.astype(np.uint8)
    core = cv2.erode(binary, _ellipse(max(round(band / 2), 1))).astype(bool)
    mean = alpha[core].mean() if core.any() else 0.0
    if mean < 0.9:
        raise Unusable(f"collapsed: mean alpha {mean:.2f} inside the segment")
    ring = cv2.dilate(binary, _ellipse(round(band))) > cv2.dilate(binary, np.ones((5, 5)))
    if ring.any() and alpha[ring].mean() > 0.25:
        raise Unusable(f"leaking: mean alpha {alpha[ring].mean():.2f} outside the segment")


def _ellipse(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _extent(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Bounding box of the true pixels, widened by ``margin`` within the frame."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return tuple(slice(max(i[0] - margin, 0), i[-1] + 1 + margin) for i in (rows, columns))
