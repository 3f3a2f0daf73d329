"""``python -m utils.metrics``: list and time the metrics, and show how they are fooled."""

import json
import time

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut

from utils.errors import cli, option_parser
from utils.markdown import table
from utils.metrics import METRICS, evaluate, forget


def sample(size: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """A multi-focus pair made from scikit-image's astronaut photograph (NASA, public domain).

    Args:
        size: height and width in pixels, 16 to 1024.
    Returns:
        Two uint8 RGB sources, each blurred (Gaussian, σ 3) on one side of a disc; a fused image
        with too wide a seam and noise of one grey level (no window is a plain copy, which is the
        slow case of Q_FMI); and the ground truth.
    """
    truth = np.pad(astronaut(), ((0, 512), (0, 512), (0, 0)), mode="reflect")[:size, :size] / 255.0
    y, x = np.mgrid[:size, :size] / size - 0.5
    disc = (np.hypot(x, y) < 0.3).astype(float)[..., None]
    blurred = gaussian_filter(truth, (3, 3, 0))
    a = disc * truth + (1 - disc) * blurred
    b = disc * blurred + (1 - disc) * truth
    matte = gaussian_filter(disc, (3, 3, 0))
    noise = np.random.default_rng(0).normal(0, 1 / 255, truth.shape)
    images = np.stack([a, b, matte * a + (1 - matte) * b + noise, truth])
    *sources, fused, truth = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return sources, fused, truth


def profile(size: int) -> str:
    """Time of each metric, best of three runs from nothing; what is shared counts for the first."""
    images = sample(size)
    best = dict.fromkeys(METRICS, np.inf)
    for _ in range(3):
        forget()
        for symbol, metric in METRICS.items():
            start = time.process_time()
            evaluate(metric, *images)
            best[symbol] = min(best[symbol], time.process_time() - start)
    lines = []
    for title, truth in (("fusion metrics", False), ("with ground truth", True)):
        times = {s: best[s] for s in METRICS if (METRICS[s].needs == "truth") == truth}
        total, slowest = sum(times.values()), sorted(times, key=times.get, reverse=True)
        lines.append(f"{title}, {size}×{size}, CPU seconds: {total:.2f}, slowest {slowest[0]}")
        lines += [f"  {s:<10} {times[s]:7.3f} s {times[s] / total:6.1%}" for s in slowest]
    return "\n".join(lines)


def unsharp_table(size: int) -> list[tuple[float, dict[str, float]]]:
    """The paper's four metrics, PSNR and SSIM of the sample's truth under an unsharp mask.

    Returns:
        (amount, {symbol: value}) for truth + amount·(truth − Gaussian of σ 1.5), amount 0 to 2.
    """
    _, _, truth = sample(size)
    detail = truth - gaussian_filter(truth.astype(float), (1.5, 1.5, 0))
    symbols, rows = ("AG", "LIF", "MSD", "GLD", "PSNR", "SSIM"), []
    for amount in (0.0, 0.25, 0.5, 1.0, 2.0):
        sharp = np.round(np.clip(truth + amount * detail, 0, 255)).astype(np.uint8)
        rows.append((amount, {s: evaluate(METRICS[s], [], sharp, truth) for s in symbols}))
    return rows


@cli
def main(arguments: list[str] | None = None) -> None:
    parser = option_parser("Image fusion metrics. Without an option, list them.")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--profile", action="store_true", help="print each metric's share of time")
    add("--unsharp", action="store_true", help="print what an unsharp mask does to the metrics")
    add("--values", action="store_true", help="print all values on the bundled sample as JSON")
    about = "of the sample in pixels, 176 to 1024; default: 520, of --unsharp 512"
    parser.add_argument("--size", type=int, help=about)
    options = parser.parse_args(arguments)
    size = options.size
    if size is None:
        size = 512 if options.unsharp else 520
    if not 176 <= size <= 1024:
        parser.error("--size must be 176 to 1024")
    if options.profile:
        print(profile(size))
    elif options.unsharp:
        rows = unsharp_table(size)
        head = ["amount", *(f"{symbol} {METRICS[symbol].arrow}" for symbol in rows[0][1])]
        body = ([f"{amount:g}", *(f"{v:.4f}" for v in values.values())] for amount, values in rows)
        print(table(head, body), end="")
    elif options.values:
        images = sample(size)
        values = {symbol: evaluate(metric, *images) for symbol, metric in METRICS.items()}
        print(json.dumps({"size": size, "values": values}, indent=1))
    else:
        for m in METRICS.values():
            line = f"{m.symbol:<10} {m.arrow} {m.needs:<8} [{m.range[0]:g}, {m.range[1]:g}]"
            print(f"{line:<40} {m.name}")


if __name__ == "__main__":
    raise SystemExit(main())
