"""Metrics against the ground truth, on the whole image or inside a mask (the FDB band)."""

import numpy as np
from scipy.ndimage import prewitt
from skimage.measure import block_reduce
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
BORDER = 5  # pixels: SSIM map values nearer to the border are left out, as in the reference


def psnr(truth: np.ndarray, fused: np.ndarray, mask: np.ndarray | None = None) -> float:
    """PSNR in dB over all channels, peak 255; infinite for equal images."""
    if mask is not None:
        truth, fused = truth[mask], fused[mask]
    with np.errstate(divide="ignore"):
        return peak_signal_noise_ratio(truth, fused, data_range=255)


def _mean(values: np.ndarray, mask: np.ndarray | None) -> float:
    """Mean inside the border and the mask; nan if nothing is left."""
    inside = (slice(BORDER, -BORDER),) * 2
    values = values[inside] if mask is None else values[inside][mask[inside]]
    return values.mean() if values.size else np.nan


def _ssim_map(truth: np.ndarray, fused: np.ndarray, k1: float = 0.01) -> np.ndarray:
    """SSIM map with the 11×11 Gaussian window of σ 1.5 of Wang et al."""
    return structural_similarity(truth, fused, data_range=255, K1=k1, full=True, **GAUSSIAN)[1]


def ssim(truth: np.ndarray, fused: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean SSIM of the luma."""
    return _mean(_ssim_map(truth, fused), mask)


def _halve(image: np.ndarray) -> np.ndarray:
    """Means of 2×2 blocks; an odd last row or column is repeated."""
    padding = [(0, length % 2) for length in image.shape]
    return block_reduce(np.pad(image, padding, mode="edge"), 2, np.mean)


def ms_ssim(truth: np.ndarray, fused: np.ndarray, mask: np.ndarray | None = None) -> float:
    """MS-SSIM of the luma over five scales; a mean below 0 counts as 0.

    A mask is carried to a coarser scale by taking every pixel of which it covers a part.
    """
    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        last = scale == len(SCALE_WEIGHTS) - 1
        # an enormous K1 makes the luminance term 1 and leaves contrast and structure
        mean = _mean(_ssim_map(truth, fused, k1=0.01 if last else 1e6), mask)
        product *= max(mean, 0.0) ** weight if np.isfinite(mean) else np.nan
        truth, fused = _halve(truth), _halve(fused)
        mask = None if mask is None else _halve(mask.astype(float)) > 0
    return product


def gmsd(truth: np.ndarray, fused: np.ndarray, mask: np.ndarray | None = None) -> float:
    """GMSD: standard deviation of the gradient magnitude similarity at half size, T = 170."""
    strength_t, strength_f = (
        np.hypot(*(prewitt(_halve(image), axis, mode="constant") / 3 for axis in (0, 1)))
        for image in (truth, fused)
    )
    similarity = (2 * strength_t * strength_f + 170) / (strength_t**2 + strength_f**2 + 170)
    return (similarity if mask is None else similarity[_halve(mask.astype(float)) > 0]).std()
