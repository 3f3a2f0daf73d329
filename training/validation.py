"""Validation on generated samples: is the fused image nearer to the truth than any selection?"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from data.datasets import in_order
from defocus.materials import SampleConfig
from models.mmfnet import Fusion, MMFNet, boundary_map
from utils import markdown

ROWS = {
    "initial": "initial fusion",
    "choice": "the photograph with the largest G alone",
    "fused": "final fusion",
    "oracle": "oracle selection",
    "regions": "oracle selection of 3×3 pixels",
}
PARTS = {"whole": "whole image", "band": "FDB band", "away": "away from it"}
SURE = 0.95  # a guidance map above it has decided
SMALLEST = 1 / 500  # of a sample: a smaller FDB band is a few pixels, and its PSNR a matter of luck


def oracle_selection(photographs: Tensor, truth: Tensor, side: int = 1) -> Tensor:
    """For each pixel the photograph (B, N, 3, H, W) nearest to the truth (B, 3, H, W): no selection
    method can beat it. With an odd ``side`` above 1 the nearest in a square around the pixel: that
    knows which photograph is right, but not which has the luckiest noise."""
    error = (photographs - truth[:, None]).square().sum(2)
    error = F.avg_pool2d(error, side, 1, side // 2, count_include_pad=False)
    return choose(photographs, -error.unsqueeze(2))


def choose(photographs: Tensor, score: Tensor) -> Tensor:
    """For each pixel the photograph (B, N, 3, H, W) of the largest score (B, N, 1, H, W)."""
    best = score.argmax(1, keepdim=True).expand(-1, -1, 3, -1, -1)
    return photographs.gather(1, best)[:, 0]


def psnr(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """PSNR in dB of each image (B, 3, H, W) as stored in 8 bits, in ``mask`` (B, 1, H, W) if given:
    (B,), at most 100, NaN where the mask is empty."""
    stored = (image.clamp(0, 1) * 255).round() / 255
    error = (stored - truth).square().mean(1, keepdim=True)
    mask = torch.ones_like(error) if mask is None else mask
    mse = (error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
    return -10 * mse.clamp_min(1e-10).log10()


def guidance_accuracy(guidance: Tensor, truth: Tensor) -> Tensor:
    """Share of the pixels outside the FDB band where G prefers a right photograph, (B,)."""
    outside = (boundary_map(truth) == 0).float()
    preferred = truth.gather(1, guidance.argmax(1, keepdim=True))[:, 0]
    right = (preferred == truth.amax(1)).float() * outside
    return right.sum((1, 2, 3)) / outside.sum((1, 2, 3))


@torch.no_grad()
def validate(
    model: Callable[[Tensor], Fusion], samples: Dataset, device: torch.device, workers: int = 0
) -> dict[str, float]:
    """Means over all samples of a set: ``ROW_PART`` in dB for each of ``ROWS`` and ``PARTS``, of
    the FDB band over samples in which it is at least ``SMALLEST``; ``guidance``, see
    :func:`guidance_accuracy`; and the shares of the pixels away from the FDB that are ``sure``, the
    largest G being above 0.95, and ``copied``, within 1/255 of a photograph."""
    found: list[dict[str, Tensor]] = []
    for batch in in_order(samples, 1, workers):
        photographs, truth, guidance = (plane.to(device) for plane in batch)
        fusion = model(photographs)
        images = {
            "initial": fusion.initial,
            "choice": choose(photographs, fusion.guidance),
            "fused": fusion.fused,
            "oracle": oracle_selection(photographs, truth),
            "regions": oracle_selection(photographs, truth, side=3),
        }
        band = boundary_map(guidance)
        away = (band == 0).float()
        fdb = band * ((band > 0).float().mean((1, 2, 3), keepdim=True) >= SMALLEST)
        figures = {
            f"{row}_{part}": psnr(image, truth, mask)
            for row, image in images.items()
            for part, mask in zip(PARTS, (None, fdb, away), strict=True)
        }
        figures["guidance"] = guidance_accuracy(fusion.guidance, guidance)
        difference = (fusion.fused.clamp(0, 1)[:, None] - photographs).abs().amax(2, keepdim=True)
        sure, copied = fusion.guidance.amax(1) > SURE, difference.amin(1) <= 1 / 255
        for name, where in (("sure", sure), ("copied", copied)):
            figures[name] = (where * away).sum((1, 2, 3)) / away.sum((1, 2, 3))
        found.append(figures)
    return {name: torch.cat([x[name] for x in found]).nanmean().item() for name in found[0]}


def takes(model: MMFNet, ranges: SampleConfig) -> bool:
    """Whether the network takes as many photographs at once as samples of these ranges have."""
    most = max(getattr(ranges, "photographs", [2]))  # pairs do not say how many
    return not model.initial.largest or most <= model.initial.largest


def for_json(figures: dict[str, float]) -> dict[str, float | None]:
    """The figures for JSON, which has no NaN: a set may have no FDB."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def summary(figures: dict[str, float]) -> str:
    """The figures of :func:`validate` in a line: final fusion, and its gain over oracle."""
    parts = (
        f"{part} {figures[f'fused_{part}']:.2f} dB ({gain:+.2f} to oracle)"
        for part, gain in _gains(figures).items()
    )
    return f"{', '.join(parts)}, guidance {figures['guidance']:.2%}"


def table(figures: dict[str, float], name: str, samples: int) -> str:
    """The figures of :func:`validate` as a Markdown table."""
    rows = [
        [title, *(f"{figures[f'{row}_{part}']:.2f}" for part in PARTS)]
        for row, title in ROWS.items()
    ]
    rows.append(["final fusion − oracle", *(f"{gain:+.2f}" for gain in _gains(figures).values())])
    return (
        f"Mean PSNR in dB over {samples} generated samples, set {name}\n\n"
        f"{markdown.table(['', *PARTS.values()], rows)}\n"
        f"The guidance map is right on {figures['guidance']:.2%} of the pixels outside the band; "
        f"its largest value is above {SURE} on {figures['sure']:.2%} of them, and "
        f"the result is within 1/255 of a photograph on {figures['copied']:.2%}."
    )


def _gains(figures: dict[str, float]) -> dict[str, float]:
    return {part: figures[f"fused_{part}"] - figures[f"oracle_{part}"] for part in PARTS}
