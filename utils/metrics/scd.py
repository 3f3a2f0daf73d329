"""Q_SCD, the sum of the correlations of differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.errors import UserError
from utils.metrics.core import Metric


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two images; nan if one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    power = (a**2).sum() * (b**2).sum()
    return (a * b).sum() / np.sqrt(power) if power > 0 else np.nan


def sum_of_correlations(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_SCD = r(F−B, A) + r(F−A, B); nan if the fused image equals a source.

    Raises:
        UserError: for more than two sources, to which the definition does not extend.
    """
    if len(sources) != 2:
        raise UserError(f"Q_SCD is defined for two sources, not {len(sources)}")
    a, b = sources
    return correlation(fused - b, a) + correlation(fused - a, b)


METRICS = (
    Metric(
        name="sum of the correlations of differences",
        symbol="Q_SCD",
        range=(-2.0, 2.0),
        needs="sources",
        citation="V. Aslantas, E. Bendes, AEÜ Int. J. Electron. Commun. 69 (2015)",
        reference="yuliu316316/MFIF-Metrics fusion-metrics/analysis_SCD.m",
        function=sum_of_correlations,
    ),
)
