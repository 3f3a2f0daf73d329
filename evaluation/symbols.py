"""Choosing metrics: the registry's symbols, and those restricted to the FDB band."""

from __future__ import annotations

from utils.errors import UserError, nearest
from utils.metrics import METRICS, Metric

FDB = "_FDB"
"""Ending of the symbol of a ground-truth metric restricted to the FDB band."""


def metric_of(symbol: str) -> Metric:
    """The registry's entry for a symbol, with or without :data:`FDB`."""
    return METRICS[symbol.removesuffix(FDB)]


def choose_metrics(text: str, truth: bool = False, band: bool = False) -> list[str]:
    """Symbols of a ``--metrics`` option.

    Args:
        text: "all" (whatever the given images allow), or symbols with commas between; ``PSNR_FDB``
            is PSNR inside the FDB band.
        truth, band: whether ground truth and FDB masks are given.
    Raises:
        UserError: an unknown symbol (the nearest is named), or one that needs what is not given.
    """
    with_truth = [symbol for symbol, metric in METRICS.items() if metric.needs == "truth"]
    in_band = [symbol + FDB for symbol in with_truth]
    known = [*METRICS, *in_band]
    if text == "all":
        without = (with_truth if not truth else []) + (in_band if not band else [])
        return [symbol for symbol in known if symbol not in without]
    symbols = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not symbols:
        raise UserError("--metrics names no metric; use all, or symbols such as AG,Q_G")
    for symbol in symbols:
        problem = None
        if symbol not in known:
            problem = f"there is no {symbol!r}; did you mean {nearest(symbol, known)}?"
        elif metric_of(symbol).needs == "truth" and not truth:
            problem = f"{symbol} needs ground truth; give it with --truth DIR"
        elif symbol in in_band and not band:
            problem = f"{symbol} needs masks of the FDB; give them with --band DIR"
        if problem:
            raise UserError(f"--metrics: {problem}")
    return symbols
