"""Metrics after models of human vision: Q_CB (Chen–Blum), Q_CV (Chen–Varshney) and VIFF."""

from collections.abc import Sequence

import numpy as np
from scipy import fft
from skimage.measure import block_reduce

from utils.metrics.core import gaussian, shared, smooth, stretched, windowed
from utils.metrics.gradient import edges
from utils.metrics.similarity import joint_moments

NOISE = 0.005 * 255**2  # variance of the visual noise of VIFF
SIZES, WEIGHTS = (17, 9, 5, 3), (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)  # of its scales


def _radius(shape: tuple[int, int], divisor: float) -> np.ndarray:
    """Radial frequency in cycles per (image size / ``divisor``) for ``rfft2``, both axes −1..1."""
    rows, columns = shape
    v = 2 * fft.fftfreq(rows)[:, None] * rows / divisor
    u = 2 * fft.rfftfreq(columns) * columns / divisor
    return np.hypot(u, v)


def _filtered(image: np.ndarray, response: np.ndarray) -> np.ndarray:
    return fft.irfft2(fft.rfft2(image) * response, image.shape)


def _gaussian_mean(image: np.ndarray, sigma: float) -> np.ndarray:
    """31×31 Gaussian with the norm of the infinite one, zeros beyond the border."""
    taps = np.exp(-(np.arange(-15, 16) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    return smooth(image, taps)


@shared
def perceived_contrast(grey: np.ndarray) -> np.ndarray:
    """Masked local contrast C' = C³/(C²+10⁻⁴), C = |G₂∗g/G₄∗g − 1| after contrast sensitivity."""
    r = _radius(grey.shape, 30)
    sensitivity = np.exp(-((r / 15.3870) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    seen = _filtered(stretched(grey), sensitivity)
    with np.errstate(divide="ignore", invalid="ignore"):
        contrast = np.abs(_gaussian_mean(seen, 2) / _gaussian_mean(seen, 4) - 1)
        return contrast**3 / (contrast**2 + 1e-4)


def q_cb(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_CB = mean of Σ_k λ_k·min(C'_k, C'_F)/max(C'_k, C'_F), λ_k = C'_k²/ΣC'²; nan if all flat."""
    contrast_f = perceived_contrast(fused)
    contrasts = [perceived_contrast(source) for source in sources]
    power = sum(contrast**2 for contrast in contrasts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return sum(
            c**2 / power * np.minimum(c, contrast_f) / np.maximum(c, contrast_f) for c in contrasts
        ).mean()


def q_cv(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_CV = Σ_k Σ_w λ_k·D_k / Σ_k Σ_w λ_k over 16×16 blocks w; nan if no source has an edge.

    λ_k is the block's sum of Sobel magnitudes to the fifth power, D_k the mean square of S_k − F
    after the Mannos–Sakrison contrast sensitivity. 0 is best.
    """
    r = _radius(fused.shape, 8)
    sensitivity = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    difference = total = 0.0
    for source in sources:
        saliency = block_reduce(edges(stretched(source))[0] ** 5, 16, np.sum)
        seen = _filtered(stretched(source) - stretched(fused), sensitivity)
        difference += (saliency * block_reduce(seen**2, 16, np.mean)).sum()
        total += saliency.sum()
    return difference / total if total > 0 else np.nan


@shared
def pyramid(image: np.ndarray) -> tuple[np.ndarray, ...]:
    """The image at four scales, each smoothed by its window and halved."""
    levels = [image]
    for size in SIZES[1:]:
        levels.append(windowed(levels[-1], gaussian(size, size / 5))[::2, ::2])
    return tuple(levels)


def information(
    source: np.ndarray, fused: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Visual information with distortion, without, and the gain g of fused = g·source + noise."""
    taps = gaussian(size, size / 5)
    _, variance_s, _, variance_f, covariance = joint_moments(source, fused, taps)
    gain = np.maximum(covariance / (variance_s + 1e-10), 0)
    residual = np.maximum(variance_f - gain * covariance, 1e-10)
    distorted = np.log10(1 + gain**2 * variance_s / (residual + NOISE))
    return distorted, np.log10(1 + variance_s / NOISE), gain


def viff(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """VIFF = Σ_s w_s Σ VID / Σ VIND over four scales s.

    At each pixel VID and VIND are those of the source with the least gain (their mean if several
    have it; the reference takes the last, which would not be symmetric).
    """
    total = 0.0
    fused_levels = pyramid(fused)
    source_levels = [pyramid(source) for source in sources]
    for scale, (size, weight) in enumerate(zip(SIZES, WEIGHTS, strict=True)):
        if weight == 0:
            continue
        maps = [information(levels[scale], fused_levels[scale], size) for levels in source_levels]
        distorted, clean, gain = map(np.stack, zip(*maps, strict=True))
        chosen = gain == gain.min(axis=0)
        chosen = chosen / chosen.sum(axis=0)
        distorted, clean = (chosen * distorted).sum(axis=0), (chosen * clean).sum(axis=0)
        total += weight * (distorted + 1e-7).sum() / (clean + 1e-7).sum()
    return total
