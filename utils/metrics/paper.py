"""The four metrics of the MMF-Net paper's Table I: AG, LIF, MSD and GLD.

The paper gives no formulas; these were recovered from the authors' published images and reproduce
the printed row 2.9791, 0.4056, 0.1120, 14.7451. All take the luma g (0.299, 0.587, 0.114, rounded)
and reward sharpness and contrast, true to the scene or not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from utils.metrics.core import Metric, luma, shared

CITATION = (
    "H. Ma, Q. Liao, J. Zhang, S. Liu, J.-H. Xue, An α-Matte Boundary Defocus Model-Based "
    "Cascaded Network for Multi-focus Image Fusion, IEEE TIP 29 (2020), Table I"
)
REFERENCE = "Table I, MMF-Net row, on the images that the authors published"
BT601 = (0.299, 0.587, 0.114)


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
    blocks = grey[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2)
    return (blocks.mean(axis=(1, 3)) / 255).std() / 2


def gld(grey: np.ndarray) -> float:
    """GLD = Σ(|Δx|+|Δy|) / ((M−1)(N−1))."""
    rows, columns = grey.shape
    dx, dy = forward_differences(grey)
    return (np.abs(dx).sum() + np.abs(dy).sum()) / ((rows - 1) * (columns - 1))


def _metric(
    name: str, symbol: str, largest: float, function: Callable[[np.ndarray], float]
) -> Metric:
    return Metric(
        *(name, symbol, (0.0, largest), "fused", CITATION, REFERENCE, function),
        higher_is_better=symbol != "LIF",
        convert=lambda image: luma(image, BT601),
    )


METRICS = (
    _metric("average gradient", "AG", np.inf, ag),
    _metric("linear index of fuzziness", "LIF", 1.0, lif),
    _metric("mean square deviation", "MSD", 0.25, msd),
    _metric("grey level difference", "GLD", np.inf, gld),
)
