"""Image fusion metrics: one registry, :data:`METRICS`, from symbol to :class:`Metric`.

>>> from utils.metrics import METRICS
>>> METRICS["AG"](fused), METRICS["Q_G"]([a, b], fused), METRICS["PSNR"](truth, fused, mask)

``metrics.csv`` lists them. The function of ``Q_G`` is ``q_g`` in the module of its family.
``docs/metrics.md`` has the formulas, what each rewards and how it was verified.
"""

import csv
from importlib import import_module
from pathlib import Path

from utils.metrics import core
from utils.metrics.core import Metric, evaluate, forget, luma

__all__ = ["METRICS", "Metric", "evaluate", "forget", "luma"]


def _metric(row: dict[str, str]) -> Metric:
    """The metric of a row of the table."""
    family = import_module(f"{__name__}.{row.pop('family')}")
    return Metric(
        function=getattr(family, row["symbol"].lower().replace("-", "_")),
        convert=getattr(core, row.pop("convert")),
        range=(float(row.pop("low")), float(row.pop("high"))),
        higher_is_better=row.pop("better") == "higher",
        smallest=int(row.pop("smallest")),
        **row,
    )


with Path(__file__).with_name("metrics.csv").open(encoding="utf-8", newline="") as table:
    METRICS = {row["symbol"]: _metric(row) for row in csv.DictReader(table)}
