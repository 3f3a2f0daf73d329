"""Choosing metrics: the registry's symbols, and those restricted to the FDB band."""

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
    no_truth = "" if truth else "ground truth; give it with --truth DIR"
    no_band = no_truth or ("" if band else "masks of the FDB; give them with --band DIR")
    with_truth = [symbol for symbol, metric in METRICS.items() if metric.needs == "truth"]
    lacks = dict.fromkeys(METRICS, "") | dict.fromkeys(with_truth, no_truth)
    lacks |= dict.fromkeys((symbol + FDB for symbol in with_truth), no_band)
    if text == "all":
        return [symbol for symbol, missing in lacks.items() if not missing]
    symbols = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not symbols:
        raise UserError("--metrics names no metric; use all, or symbols such as AG,Q_G")
    for symbol in symbols:
        if symbol not in lacks:
            near = nearest(symbol, lacks)
            raise UserError(f"--metrics: there is no {symbol!r}; did you mean {near}?")
        if lacks[symbol]:
            raise UserError(f"--metrics: {symbol} needs {lacks[symbol]}")
    return symbols
