"""Metrics after models of human vision: Q_CB (Chen–Blum) and Q_CV (Chen–Varshney)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from utils.metrics.core import LIU, Metric, shared, stretched
from utils.metrics.filters import smooth
from utils.metrics.gradient import edges


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


def _blocks(image: np.ndarray, size: int = 16) -> np.ndarray:
    """(h, w, size, size) blocks of an image, padded with zeros to whole blocks."""
    rows, columns = (-length % size for length in image.shape)
    image = np.pad(image, ((0, rows), (0, columns)))
    h, w = (length // size for length in image.shape)
    return image.reshape(h, size, w, size).swapaxes(1, 2)


def q_cv(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_CV = Σ_k Σ_w λ_k·D_k / Σ_k Σ_w λ_k over 16×16 blocks w; nan if no source has an edge.

    λ_k is the block's sum of Sobel magnitudes to the fifth power, D_k the mean square of S_k − F
    after the Mannos–Sakrison contrast sensitivity. 0 is best.
    """
    r = _radius(fused.shape, 8)
    sensitivity = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    difference = total = 0.0
    for source in sources:
        saliency = (_blocks(edges(stretched(source))[0]) ** 5).sum(axis=(2, 3))
        seen = _filtered(stretched(source) - stretched(fused), sensitivity)
        difference += (saliency * (_blocks(seen) ** 2).mean(axis=(2, 3))).sum()
        total += saliency.sum()
    return difference / total if total > 0 else np.nan


BLUM = "Y. Chen, R. S. Blum, Image Vis. Comput. 27 (2009)"
VARSHNEY = "H. Chen, P. K. Varshney, Inf. Fusion 8 (2007)"
CB, CV = LIU + "metricChenBlum.m", LIU + "metricChen.m"
CV_NAME = "human perception, Chen–Varshney"
METRICS = (
    Metric("human perception, Chen–Blum", "Q_CB", (0, 1), "sources", BLUM, CB, q_cb),
    Metric(CV_NAME, "Q_CV", (0, np.inf), "sources", VARSHNEY, CV, q_cv, higher_is_better=False),
)
