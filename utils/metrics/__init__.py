"""Image fusion metrics: one registry, :data:`METRICS`, from symbol to :class:`Metric`.

>>> from utils.metrics import METRICS
>>> METRICS["AG"](fused), METRICS["Q_G"]([a, b], fused), METRICS["PSNR"](truth, fused, mask)

``docs/metrics.md`` has the formulas, what each rewards and how it was verified.
"""

from __future__ import annotations

from utils.metrics import (
    fmi,
    gradient,
    information,
    no_reference,
    paper,
    perception,
    phase,
    reference,
    scd,
    similarity,
    viff,
)
from utils.metrics.core import Metric, forget, luma

__all__ = ["METRICS", "Metric", "forget", "luma"]

METRICS: dict[str, Metric] = {
    metric.symbol: metric
    for module in (
        paper,
        no_reference,
        information,
        fmi,
        scd,
        gradient,
        phase,
        similarity,
        perception,
        viff,
        reference,
    )
    for metric in module.METRICS
}
