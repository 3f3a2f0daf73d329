"""Validation on generated samples: is the fused image nearer to the truth than any selection?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from data.datasets import Batch
from defocus.guidance import boundary_map
from models.mmfnet import Fusion, MMFNet

ROWS = ("initial", "fused", "oracle")


def oracle_selection(image1: Tensor, image2: Tensor, truth: Tensor) -> Tensor:
    """For each pixel whichever source is nearer the truth: no selection method can beat it."""
    error1, error2 = ((image - truth).square().sum(1, keepdim=True) for image in (image1, image2))
    return torch.where(error1 <= error2, image1, image2)


def psnr(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """PSNR in dB of each image (N, 3, H, W) as stored in 8 bits, in ``mask`` (N, 1, H, W) if given.

    Returns:
        (N,); at most 100 dB, NaN where the mask is empty.
    """
    stored = (image.clamp(0, 1) * 255).round() / 255
    error = (stored - truth).square().mean(1, keepdim=True)
    mask = torch.ones_like(error) if mask is None else mask
    mse = (error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
    return -10 * mse.clamp_min(1e-10).log10()


def guidance_accuracy(guidance: Tensor, truth: Tensor) -> Tensor:
    """Share of the pixels outside the FDB band where G prefers the right source, (N,)."""
    outside = (truth != 0.5).float()
    right = ((guidance > 0.5) == (truth > 0.5)).float() * outside
    return right.sum((1, 2, 3)) / outside.sum((1, 2, 3))


@torch.no_grad()
def validate(
    model: Callable[[Tensor, Tensor], Fusion] | MMFNet,
    batches: Iterable[Batch],
    device: torch.device,
) -> dict[str, float]:
    """Means over all samples: ``{initial,fused,oracle}_{whole,band}`` in dB, ``guidance``."""
    figures: dict[str, list[Tensor]] = {}
    for batch in batches:
        batch = Batch(*(plane.to(device) for plane in batch))
        fusion = model(batch.image1, batch.image2)
        band = boundary_map(batch.guidance)
        oracle = oracle_selection(batch.image1, batch.image2, batch.truth)
        for row, image in zip(ROWS, (fusion.initial, fusion.fused, oracle), strict=True):
            figures.setdefault(f"{row}_whole", []).append(psnr(image, batch.truth))
            figures.setdefault(f"{row}_band", []).append(psnr(image, batch.truth, band))
        accuracy = guidance_accuracy(fusion.guidance, batch.guidance)
        figures.setdefault("guidance", []).append(accuracy)
    return {name: torch.cat(values).nanmean().item() for name, values in figures.items()}


def table(figures: dict[str, float], samples: int) -> str:
    """The figures of :func:`validate` as a Markdown table."""
    lines = [
        f"Mean PSNR in dB over {samples} generated samples",
        "",
        "| | whole image | FDB band |",
        "|---|---|---|",
    ]
    names = {"initial": "initial fusion", "fused": "final fusion", "oracle": "oracle selection"}
    for row in ROWS:
        whole, band = figures[f"{row}_whole"], figures[f"{row}_band"]
        lines.append(f"| {names[row]} | {whole:.2f} | {band:.2f} |")
    whole, band = (
        figures[f"fused_{part}"] - figures[f"oracle_{part}"] for part in ("whole", "band")
    )
    lines += [
        f"| final fusion − oracle | {whole:+.2f} | {band:+.2f} |",
        "",
        f"The guidance map is right on {figures['guidance']:.2%} of the pixels outside the band.",
    ]
    return "\n".join(lines)
