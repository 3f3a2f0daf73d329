"""Metrics of the fused image alone: AG, LIF, MSD and GLD of the paper's Table I, and five others.

The paper gives no formulas for its four; these were recovered from the authors' published images
and reproduce the printed row 2.9791, 0.4056, 0.1120, 14.7451. They take the luma g of weights
0.299, 0.587, 0.114, rounded. All reward sharpness and contrast, true to the scene or not.
"""

import numpy as np
from scipy.ndimage import sobel
from skimage.measure import block_reduce

from utils.metrics.core import shared
from utils.metrics.information import entropy


@shared
def forward_differences(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Δx and Δy, each (M, N): next pixel minus this one, 0 in the last column or row."""
    return np.diff(grey, axis=1, append=grey[:, -1:]), np.diff(grey, axis=0, append=grey[-1:])


def ag(grey: np.ndarray) -> float:
    """AG = Σ√(Δx²+Δy²) / (4(M−1)(N−1))."""
    rows, columns = grey.shape
    return np.hypot(*forward_differences(grey)).sum() / (4 * (rows - 1) * (columns - 1))


def lif(grey: np.ndarray) -> float:
    """LIF = (2/MN) Σ min(p, 1−p), p = sin(π/2·(1 − g/max g)); nan for an all-black image."""
    if grey.max() == 0:
        return np.nan
    p = np.sin(np.pi / 2 * (1 - grey / grey.max()))
    return 2 * np.minimum(p, 1 - p).mean()


def msd(grey: np.ndarray) -> float:
    """MSD = ½·std of the means of g/255 in disjoint 2×2 blocks; an odd last line is left out."""
    rows, columns = (length - length % 2 for length in grey.shape)
    return (block_reduce(grey[:rows, :columns], 2, np.mean) / 255).std() / 2


def gld(grey: np.ndarray) -> float:
    """GLD = Σ(|Δx|+|Δy|) / ((M−1)(N−1))."""
    rows, columns = grey.shape
    dx, dy = forward_differences(grey)
    return (np.abs(dx).sum() + np.abs(dy).sum()) / ((rows - 1) * (columns - 1))


def en(grey: np.ndarray) -> float:
    """EN = −Σ p log₂ p over the 256 grey levels, in bits."""
    return entropy(np.bincount(grey.astype(np.intp).ravel()) / grey.size)


def sd(grey: np.ndarray) -> float:
    """SD as the reference computes it: the mean over columns of each column's std (divisor M−1)."""
    return grey.std(axis=0, ddof=1).mean()


def sf(grey: np.ndarray) -> float:
    """SF = √(ΣΔx²/MN + ΣΔy²/MN)."""
    dx, dy = forward_differences(grey)
    return np.sqrt((dx**2).mean() + (dy**2).mean())


def ag_common(grey: np.ndarray) -> float:
    """AG_common = mean of √((Δx²+Δy²)/2), the form used outside the MMF-Net paper."""
    return np.hypot(*forward_differences(grey)).mean() / np.sqrt(2)


def ei(grey: np.ndarray) -> float:
    """EI = mean Sobel gradient magnitude, border replicated."""
    return np.hypot(*(sobel(grey, axis, mode="nearest") for axis in (0, 1))).mean()
