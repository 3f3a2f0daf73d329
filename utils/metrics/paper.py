"""The four metrics of the MMF-Net paper's Table I: AG, LIF, MSD and GLD.

The paper names them without formulas; these were recovered from the authors' published images and
give back the printed row 2.9791, 0.4056, 0.1120, 14.7451. All take the luma g (0.299, 0.587,
0.114, rounded) and reward sharpness and contrast, whether or not it is true to the scene.
"""

from __future__ import annotations

import numpy as np

from utils.metrics.core import Metric, paper_luma, shared

CITATION = (
    "H. Ma, Q. Liao, J. Zhang, S. Liu, J.-H. Xue, An α-Matte Boundary Defocus Model-Based "
    "Cascaded Network for Multi-focus Image Fusion, IEEE TIP 29 (2020), Table I"
)
REFERENCE = "Table I, MMF-Net row, on the images that the authors published"


@shared
def forward_differences(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Δx and Δy, each (M, N): next pixel minus this one, 0 in the last column or row."""
    return (
        np.diff(grey, axis=1, append=grey[:, -1:]),
        np.diff(grey, axis=0, append=grey[-1:]),
    )


def average_gradient(grey: np.ndarray) -> float:
    """AG = Σ√(Δx²+Δy²) / (4(M−1)(N−1))."""
    rows, columns = grey.shape
    return np.hypot(*forward_differences(grey)).sum() / (4 * (rows - 1) * (columns - 1))


def linear_index_of_fuzziness(grey: np.ndarray) -> float:
    """LIF = (2/MN) Σ min(p, 1−p), p = sin(π/2·(1 − g/max g)); nan for an all-black image."""
    if grey.max() == 0:
        return np.nan
    p = np.sin(np.pi / 2 * (1 - grey / grey.max()))
    return 2 * np.minimum(p, 1 - p).mean()


def mean_square_deviation(grey: np.ndarray) -> float:
    """MSD = ½·std of the means of g/255 in disjoint 2×2 blocks; an odd last line is left out."""
    rows, columns = (length - length % 2 for length in grey.shape)
    blocks = grey[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2)
    return (blocks.mean(axis=(1, 3)) / 255).std() / 2


def grey_level_difference(grey: np.ndarray) -> float:
    """GLD = Σ(|Δx|+|Δy|) / ((M−1)(N−1))."""
    rows, columns = grey.shape
    dx, dy = forward_differences(grey)
    return (np.abs(dx).sum() + np.abs(dy).sum()) / ((rows - 1) * (columns - 1))


def _metric(name, symbol, higher_is_better, largest, function) -> Metric:
    return Metric(
        name, symbol, (0.0, largest), "fused", CITATION, REFERENCE, function,
        convert=paper_luma, higher_is_better=higher_is_better,
    )  # fmt: skip


METRICS = (
    _metric("average gradient", "AG", True, np.inf, average_gradient),
    _metric("linear index of fuzziness", "LIF", False, 1.0, linear_index_of_fuzziness),
    _metric("mean square deviation", "MSD", True, 0.25, mean_square_deviation),
    _metric("grey level difference", "GLD", True, np.inf, grey_level_difference),
)
