"""VIFF, visual information fidelity for fusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.metrics.core import Metric, shared
from utils.metrics.filters import gaussian, windowed
from utils.metrics.similarity import moments

NOISE = 0.005 * 255**2
"""Variance of the visual noise."""

SIZES = (17, 9, 5, 3)
WEIGHTS = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)


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
    (mean_s, variance_s), (mean_f, variance_f) = moments(source, taps), moments(fused, taps)
    covariance = windowed(source * fused, taps) - mean_s * mean_f
    variance_s, variance_f = np.maximum(variance_s, 0), np.maximum(variance_f, 0)
    gain = covariance / (variance_s + 1e-10)
    residual = variance_f - gain * covariance
    flat_s, flat_f = variance_s < 1e-10, variance_f < 1e-10
    gain[flat_s | flat_f] = 0
    residual = np.where(flat_f, 0, np.where(flat_s | (gain < 0), variance_f, residual))
    variance_s = np.where(flat_s, 0, variance_s)
    gain = np.maximum(gain, 0)
    residual = np.maximum(residual, 1e-10)
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
        gains = np.stack([gain for *_, gain in maps])
        chosen = gains == gains.min(axis=0)
        chosen = chosen / chosen.sum(axis=0)
        distorted, clean = ((chosen * [m[kind] for m in maps]).sum(axis=0) for kind in (0, 1))
        total += weight * (distorted + 1e-7).sum() / (clean + 1e-7).sum()
    return total


CITATION = "Y. Han, Y. Cai, Y. Cao, X. Xu, Inf. Fusion 14 (2013)"
CODE = "Y. Han's VIFF_Public.m"
NAME = "visual information fidelity for fusion"
METRICS = (Metric(NAME, "VIFF", (0, np.inf), "sources", CITATION, CODE, viff, 41),)
