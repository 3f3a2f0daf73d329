"""Metrics of the fused image alone: EN, SD, SF, AG_common and EI."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import sobel

from utils.metrics.core import Metric
from utils.metrics.paper import forward_differences


def entropy(grey: np.ndarray) -> float:
    """EN = −Σ p log₂ p over the 256 grey levels, in bits."""
    p = np.bincount(grey.astype(np.intp).ravel(), minlength=256) / grey.size
    p = p[p > 0]
    return np.abs((p * np.log2(p)).sum())  # abs: −0.0 for a constant image reads as 0.0


def standard_deviation(grey: np.ndarray) -> float:
    """SD as the reference computes it: the mean over columns of each column's std (divisor M−1)."""
    return grey.std(axis=0, ddof=1).mean()


def spatial_frequency(grey: np.ndarray) -> float:
    """SF = √(ΣΔx²/MN + ΣΔy²/MN)."""
    dx, dy = forward_differences(grey)
    return np.sqrt((dx**2).mean() + (dy**2).mean())


def common_average_gradient(grey: np.ndarray) -> float:
    """AG_common = mean of √((Δx²+Δy²)/2), the form used outside the MMF-Net paper."""
    return np.hypot(*forward_differences(grey)).mean() / np.sqrt(2)


def edge_intensity(grey: np.ndarray) -> float:
    """EI = mean Sobel gradient magnitude, border replicated."""
    return np.hypot(*(sobel(grey, axis, mode="nearest") for axis in (0, 1))).mean()


REFERENCE = "yuliu316316/MFIF-Metrics fusion-metrics/{}.m"

METRICS = (
    Metric(
        name="entropy",
        symbol="EN",
        range=(0.0, 8.0),
        needs="fused",
        citation="J. W. Roberts, J. A. van Aardt, F. B. Ahmed, J. Appl. Remote Sens. 2 (2008)",
        reference=REFERENCE.format("EN"),
        function=entropy,
    ),
    Metric(
        name="standard deviation",
        symbol="SD",
        range=(0.0, 180.32),
        needs="fused",
        citation="Y.-J. Rao, Meas. Sci. Technol. 8 (1997)",
        reference=REFERENCE.format("SD"),
        function=standard_deviation,
    ),
    Metric(
        name="spatial frequency",
        symbol="SF",
        range=(0.0, 360.63),
        needs="fused",
        citation="A. M. Eskicioglu, P. S. Fisher, IEEE Trans. Commun. 43 (1995)",
        reference=REFERENCE.format("SF"),
        function=spatial_frequency,
    ),
    Metric(
        name="average gradient, common form",
        symbol="AG_common",
        range=(0.0, 255.0),
        needs="fused",
        citation="G. Cui, H. Feng, Z. Xu, Q. Li, Y. Chen, Opt. Commun. 341 (2015)",
        reference=REFERENCE.format("AG"),
        function=common_average_gradient,
    ),
    Metric(
        name="edge intensity",
        symbol="EI",
        range=(0.0, 1442.5),
        needs="fused",
        citation="B. Rajalingam, R. Priya, Int. J. Eng. Sci. Invention (2018)",
        reference=REFERENCE.format("metricsEdge_intensity"),
        function=edge_intensity,
    ),
)
