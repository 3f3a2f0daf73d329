"""What of the sources the fused image keeps: Q_SCD, differences; Q_G (Q_AB/F), Sobel edges."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import sobel

from utils.metrics.core import shared, two

TINY = 1e-5  # stands for a gradient of 0 where the formulas divide by it


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two images; nan if one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    power = (a**2).sum() * (b**2).sum()
    return (a * b).sum() / np.sqrt(power) if power > 0 else np.nan


def q_scd(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_SCD = r(F−B, A) + r(F−A, B), two sources only; nan if the fused image equals one."""
    a, b = two("Q_SCD", sources)
    return correlation(fused - b, a) + correlation(fused - a, b)


@shared
def edges(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel gradient magnitude and angle in (−π/2, π/2], zeros beyond the border."""
    y, x = (sobel(grey, axis, mode="constant") for axis in (0, 1))
    return np.hypot(x, y), np.arctan(y / np.where(x == 0, TINY, x))


def q_g(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_G = Σ_k Σ Q_k·g_k / Σ_k Σ g_k, g the gradient magnitude of source k.

    Q_k = 0.9994/(1+e^{−15(G−0.5)}) · 0.9879/(1+e^{−22(A−0.8)}), G the smaller of the two gradient
    magnitudes over the larger, A = 1 − 2|α_k − α_F|/π. At most 0.9748.
    """
    strength_f, angle_f = edges(fused)
    strength_f = np.where(strength_f == 0, TINY, strength_f)
    kept = total = 0.0
    for source in sources:
        strength, angle = edges(source)
        strength = np.where(strength == 0, TINY, strength)
        ratio = np.minimum(strength, strength_f) / np.maximum(strength, strength_f)
        alignment = 1 - np.abs(angle - angle_f) * (2 / np.pi)
        quality = (0.9994 * 0.9879) / (
            (1 + np.exp(-15 * (ratio - 0.5))) * (1 + np.exp(-22 * (alignment - 0.8)))
        )
        kept += (quality * strength).sum()
        total += strength.sum()
    return kept / total
