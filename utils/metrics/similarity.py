"""Structural similarity between sources and fused image: Q_W, Q_C, Q_Y and SSIM_F.

They differ in window (Q_W, Q_C 8×8 box; Q_Y 7×7, SSIM_F 11×11 Gaussian of σ 1.5), in the constants
of SSIM (none but a guard in Q_W, Q_C and Q_Y) and in how the sources' maps are weighted.
"""

from collections.abc import Sequence

import numpy as np

from utils.metrics.core import BOX_8, GAUSSIAN_7, GAUSSIAN_11, shared, two, windowed

# Variance below which a window of whole grey levels can only be constant: rounding errors reach
# 1e-11, and one pixel that differs by one level in the 11×11 Gaussian's corner gives 1e-6.
FLAT = 1e-7


@shared
def moments(image: np.ndarray, taps: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance in every window inside the image; a flat window's is exactly 0."""
    mean = windowed(image, taps)
    variance = windowed(image**2, taps) - mean**2
    return mean, np.where(variance < FLAT, 0, variance)


def joint_moments(a: np.ndarray, b: np.ndarray, taps: tuple[float, ...]) -> list[np.ndarray]:
    """The :func:`moments` of two images, and their covariance in every window."""
    (mean_a, variance_a), (mean_b, variance_b) = moments(a, taps), moments(b, taps)
    covariance = windowed(a * b, taps) - mean_a * mean_b
    covariance[(variance_a == 0) | (variance_b == 0)] = 0
    return [mean_a, variance_a, mean_b, variance_b, covariance]


@shared
def similarity(
    a: np.ndarray, b: np.ndarray, taps: tuple[float, ...], c1: float, c2: float
) -> tuple[np.ndarray, np.ndarray]:
    """SSIM map of two images and their covariance map (Wang et al., IEEE TIP 13, 2004)."""
    mean_a, variance_a, mean_b, variance_b, covariance = joint_moments(a, b, taps)
    product = mean_a * mean_b
    alike = (2 * product + c1) * (2 * covariance + c2)
    most = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return alike / most, covariance


def weights(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each part over the sum of all; equal shares where that is 0."""
    total = sum(parts)
    flat = total == 0
    return [np.where(flat, 1 / len(parts), part / np.where(flat, 1, total)) for part in parts]


def q_w(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_W = Σ c Σ_k λ_k·UIQI(S_k, F), λ_k = σ_k²/Σσ², c = max_k σ_k² with unit sum.

    As in the reference, a window that is flat in all sources has σ² = 0.5.
    """
    guard = (1e-6 * 255) ** 2
    variances = [moments(source, BOX_8)[1] for source in sources]
    flat = sum(variances) == 0
    variances = [np.where(flat, 0.5, variance) for variance in variances]
    quality = sum(
        weight * similarity(source, fused, BOX_8, guard, guard)[0]
        for weight, source in zip(weights(variances), sources, strict=True)
    )
    saliency = np.maximum.reduce(variances)
    return (saliency * quality).sum() / saliency.sum()


def q_c(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_C = mean of s·UIQI(A, F) + (1−s)·UIQI(B, F), s = σ_AF/(σ_AF+σ_BF) clipped to [0, 1]."""
    (map_a, covariance_a), (map_b, covariance_b) = (
        similarity(source, fused, BOX_8, 2e-16, 2e-16) for source in two("Q_C", sources)
    )
    total = covariance_a + covariance_b
    opposed = total == 0
    share = np.clip(covariance_a / np.where(opposed, 1, total), 0, 1)
    share[opposed] = (1 + np.sign(covariance_a[opposed])) / 2  # the limit: whichever F resembles
    return (share * map_a + (1 - share) * map_b).mean()


def q_y(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_Y = mean of λ·SSIM(A, F) + (1−λ)·SSIM(B, F) where SSIM(A, B) ≥ 0.75, else of the larger."""
    a, b = two("Q_Y", sources)
    agreement, _ = similarity(a, b, GAUSSIAN_7, 2e-16, 2e-16)
    map_a, map_b = (similarity(s, fused, GAUSSIAN_7, 2e-16, 2e-16)[0] for s in (a, b))
    weight_a, weight_b = weights([moments(s, GAUSSIAN_7)[1] for s in (a, b)])
    blend = weight_a * map_a + weight_b * map_b
    return np.where(agreement >= 0.75, blend, np.maximum(map_a, map_b)).mean()


def ssim_f(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """SSIM_F = mean over the sources of SSIM(S_k, F), K = (0.01, 0.03), L = 255."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    maps = [similarity(source, fused, GAUSSIAN_11, c1, c2)[0] for source in sources]
    return np.mean([m.mean() for m in maps])
