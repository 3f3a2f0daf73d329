"""The losses against the formulas of the paper, recomputed in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.mmfnet import Fusion
from training.losses import LogLoss, PaperLoss
from training.validation import psnr


def scene(seed: int = 0, size: int = 9) -> tuple[Fusion, torch.Tensor, torch.Tensor]:
    """A fusion, its ground truth, and a guidance map of 0, 0.5 and 1."""
    rng = torch.Generator().manual_seed(seed)
    truth, fused = (torch.rand(2, 3, size, size, generator=rng) for _ in range(2))
    logits = torch.randn(2, 1, size, size, generator=rng)
    guidance = torch.randint(0, 3, (2, 1, size, size), generator=rng) / 2
    g = logits.sigmoid()
    return Fusion(fused, fused, g, 1 - 2 * (g - 0.5).abs(), logits), truth, guidance


def test_paper_loss_is_the_formula_of_the_released_code():
    fusion, truth, guidance = scene()
    f, t, g, s = (x.numpy().astype(np.float64) for x in (*fusion[:1], truth, fusion[2], guidance))
    distances, weights, absolute = [], [], []
    for n in range(f.shape[0]):
        for y in range(f.shape[2]):
            for x in range(f.shape[3]):
                distances.append(
                    math.sqrt(sum((f[n, c, y, x] - t[n, c, y, x]) ** 2 for c in (0, 1, 2)))
                )
                weights.append(5 - 8 * abs(s[n, 0, y, x] - 0.5))
                absolute.append(abs(g[n, 0, y, x] - s[n, 0, y, x]))
    mean = sum(weights) / len(weights)
    weighted = sum(w / mean * d for w, d in zip(weights, distances, strict=True))
    expected = {
        "fusion": sum(distances) / len(distances),
        "boundary": weighted / len(distances),
        "guidance": 0.2 * sum(absolute) / len(absolute),
    }
    losses = PaperLoss()(fusion, truth, guidance)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(expected, rel=1e-5)
    assert set(np.unique(weights)) == {1.0, 5.0}  # the band counts five times


@pytest.mark.parametrize("loss", [PaperLoss(), LogLoss()], ids=["paper", "log"])
def test_gradients_are_finite_where_the_prediction_is_perfect(loss):
    _, truth, guidance = scene()
    fused, logits = truth.clone().requires_grad_(), (guidance * 400 - 200).requires_grad_()
    g = logits.sigmoid()
    fusion = Fusion(fused, fused, g, 1 - 2 * (g - 0.5).abs(), logits)
    total = sum(loss(fusion, truth, guidance).values())
    total.backward()
    assert total.isfinite()
    assert fused.grad.isfinite().all() and logits.grad.isfinite().all()


def test_log_loss_is_psnr_up_to_a_factor():
    _, truth, guidance = scene()
    errors = torch.tensor([8, 24]).reshape(2, 1, 1, 1) / 255
    truth = truth.mul(200).round() / 255
    fused = truth + errors
    logits = torch.zeros_like(guidance)
    losses = LogLoss()(Fusion(fused, fused, logits, logits, logits), truth, guidance)
    decibel = psnr(fused, truth).mean().item()
    assert decibel == pytest.approx(10 * math.log10(255**2 / (8 * 24)), abs=1e-3)
    for name in ("fusion", "boundary"):
        # ½ ln(mse) = −PSNR·ln(10)/20; the floor of 60 dB shows in the third digit
        assert losses[name].item() == pytest.approx(-decibel * math.log(10) / 20, abs=2e-3)
    assert losses["guidance"].item() == pytest.approx(LogLoss().guidance * math.log(2), rel=1e-5)


def test_log_loss_counts_the_band_of_those_samples_that_have_one():
    _, truth, _ = scene()
    guidance = torch.zeros(2, 1, 9, 9)
    guidance[0, :, 3:6] = 0.5
    fused = truth.clone()
    fused[0, :, 3:6] += 0.1
    fused[:, :, :3] += 0.5  # outside the band
    logits = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(2))
    loss = LogLoss(guidance=3)(Fusion(fused, fused, logits, logits, logits), truth, guidance)
    assert loss["boundary"].item() == pytest.approx(0.5 * math.log(0.01 + 1e-6), rel=1e-4)
    p, t = 1 / (1 + np.exp(-logits.double().numpy())), guidance.numpy()
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    assert loss["guidance"].item() == pytest.approx(3 * entropy, rel=1e-5)
    none = LogLoss()(Fusion(fused, fused, logits, logits, logits), truth, torch.zeros(2, 1, 9, 9))
    assert none["boundary"].item() == 0


@pytest.mark.parametrize("loss", [PaperLoss, LogLoss])
def test_the_weight_of_the_guidance_term(loss):
    torch.manual_seed(0)
    guidance, truth = torch.full((1, 1, 8, 8), 0.5), torch.rand(1, 3, 8, 8)
    guidance[..., :3] = 1.0
    logits = torch.randn(1, 1, 8, 8)
    fusion = Fusion(truth, truth, logits.sigmoid(), torch.zeros_like(logits), logits)
    once, thrice = (loss(weight)(fusion, truth, guidance)["guidance"] for weight in (1.0, 3.0))
    assert once > 0
    torch.testing.assert_close(thrice, 3 * once)
