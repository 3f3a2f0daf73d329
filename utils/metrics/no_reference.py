"""Metrics of the fused image alone: EN, SD, SF, AG_common and EI."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import sobel

from utils.metrics.core import MFIF, Metric
from utils.metrics.information import entropy
from utils.metrics.paper import forward_differences


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


ROBERTS = "J. W. Roberts, J. A. van Aardt, F. B. Ahmed, J. Appl. Remote Sens. 2 (2008)"
RAO = "Y.-J. Rao, Meas. Sci. Technol. 8 (1997)"
ESKICIOGLU = "A. M. Eskicioglu, P. S. Fisher, IEEE Trans. Commun. 43 (1995)"
CUI = "G. Cui, H. Feng, Z. Xu, Q. Li, Y. Chen, Opt. Commun. 341 (2015)"
RAJALINGAM = "B. Rajalingam, R. Priya, Int. J. Eng. Sci. Invention (2018)"
AVERAGE, EDGE = "average gradient, common form", MFIF + "metricsEdge_intensity.m"
METRICS = (
    Metric("entropy", "EN", (0, 8), "fused", ROBERTS, MFIF + "EN.m", en),
    Metric("standard deviation", "SD", (0, 180.32), "fused", RAO, MFIF + "SD.m", sd),
    Metric("spatial frequency", "SF", (0, 360.63), "fused", ESKICIOGLU, MFIF + "SF.m", sf),
    Metric(AVERAGE, "AG_common", (0, 255), "fused", CUI, MFIF + "AG.m", ag_common),
    Metric("edge intensity", "EI", (0, 1442.5), "fused", RAJALINGAM, EDGE, ei),
)
