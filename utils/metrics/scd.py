"""Q_SCD, the sum of the correlations of differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.metrics.core import MFIF, Metric, two


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two images; nan if one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    power = (a**2).sum() * (b**2).sum()
    return (a * b).sum() / np.sqrt(power) if power > 0 else np.nan


def q_scd(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_SCD = r(F−B, A) + r(F−A, B), two sources only; nan if the fused image equals one."""
    a, b = two("Q_SCD", sources)
    return correlation(fused - b, a) + correlation(fused - a, b)


CITATION = "V. Aslantas, E. Bendes, AEÜ Int. J. Electron. Commun. 69 (2015)"
CODE = MFIF + "analysis_SCD.m"
NAME = "sum of the correlations of differences"
METRICS = (Metric(NAME, "Q_SCD", (-2, 2), "sources", CITATION, CODE, q_scd),)
