"""Image fusion metrics: one registry, :data:`METRICS`, from symbol to :class:`Metric`.

>>> from utils.metrics import METRICS
>>> METRICS["AG"](fused), METRICS["Q_G"]([a, b], fused), METRICS["PSNR"](truth, fused, mask)

``docs/metrics.md`` has the formulas, what each rewards and how it was verified.
"""

from utils.metrics import (
    gradient,
    information,
    no_reference,
    perception,
    phase,
    reference,
    similarity,
)
from utils.metrics.core import Metric, evaluate, forget, luma

__all__ = ["METRICS", "Metric", "evaluate", "forget", "luma"]

FAMILIES = (no_reference, information, gradient, phase, similarity, perception, reference)
METRICS: dict[str, Metric] = {m.symbol: m for family in FAMILIES for m in family.METRICS}
