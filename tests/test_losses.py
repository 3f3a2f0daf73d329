"""The losses against the formulas of the paper, recomputed in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from data.datasets import Batch
from models.mmfnet import Fusion, boundary_map
from training.losses import FLOOR, LogLoss, PaperLoss
from training.validation import psnr
from utils.errors import UserError


def samples(truth: torch.Tensor, guidance: torch.Tensor) -> Batch:
    """A batch whose photographs are all right."""
    return Batch(truth[:, None].expand(-1, guidance.shape[1], -1, -1, -1), truth, guidance)


def pair(plane: torch.Tensor) -> torch.Tensor:
    """Guidance (B, 2, 1, H, W) of two photographs, from that of the first."""
    return torch.stack([plane, 1 - plane], 1)


def fusion_of(fused: torch.Tensor, logits: torch.Tensor) -> Fusion:
    """A fusion whose G is the sigmoid of ``logits``."""
    scores = torch.stack([logits, -logits], 1) / 2
    guidance = scores.softmax(1)
    return Fusion(fused, fused, guidance, boundary_map(guidance), scores, None)


def scene(seed: int = 0, size: int = 9) -> tuple[Fusion, torch.Tensor, torch.Tensor]:
    """A fusion, its ground truth, and a guidance map of 0, 0.5 and 1."""
    rng = torch.Generator().manual_seed(seed)
    truth, fused = (torch.rand(2, 3, size, size, generator=rng) for _ in range(2))
    logits = torch.randn(2, 1, size, size, generator=rng)
    guidance = torch.randint(0, 3, (2, 1, size, size), generator=rng) / 2
    return fusion_of(fused, logits), truth, pair(guidance)


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
                weights.append(5 - 8 * abs(s[n, 0, 0, y, x] - 0.5))
                absolute.append(abs(g[n, 0, 0, y, x] - s[n, 0, 0, y, x]))
    mean = sum(weights) / len(weights)
    weighted = sum(w / mean * d for w, d in zip(weights, distances, strict=True))
    expected = {
        "fusion": sum(distances) / len(distances),
        "boundary": weighted / len(distances),
        "guidance": 0.2 * sum(absolute) / len(absolute),
    }
    losses = PaperLoss()(fusion, samples(truth, guidance))
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(expected, rel=1e-5)
    assert set(np.unique(weights)) == {1.0, 5.0}  # the band counts five times


@pytest.mark.parametrize("loss", [PaperLoss(), LogLoss()], ids=["paper", "log"])
def test_gradients_are_finite_where_the_prediction_is_perfect(loss):
    _, truth, guidance = scene()
    fused, logits = truth.clone().requires_grad_(), (guidance[:, 0] * 400 - 200).requires_grad_()
    fusion = fusion_of(fused, logits)
    total = sum(loss(fusion, samples(truth, guidance)).values())
    total.backward()
    assert total.isfinite()
    assert fused.grad.isfinite().all() and logits.grad.isfinite().all()


def test_log_loss_is_psnr_up_to_a_factor():
    _, truth, guidance = scene()
    errors = torch.tensor([32, 96]).reshape(2, 1, 1, 1) / 255
    truth = truth.mul(150).round() / 255
    fused = truth + errors
    losses = LogLoss()(fusion_of(fused, torch.zeros(2, 1, 9, 9)), samples(truth, guidance))
    decibel = psnr(fused, truth).mean().item()
    assert decibel == pytest.approx(10 * math.log10(255**2 / (32 * 96)), abs=1e-3)
    for name in ("fusion", "boundary"):
        # ½ ln(mse) = −PSNR·ln(10)/20; the floor shows in the third digit
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
    loss = LogLoss(guidance=3)(fusion_of(fused, logits), samples(truth, pair(guidance)))
    # A mean over samples: over processes with equally many, the mean of theirs.
    assert loss["boundary"].item() == pytest.approx(0.25 * math.log(0.01 + FLOOR), rel=1e-4)
    p, t = 1 / (1 + np.exp(-logits.double().numpy())), guidance.numpy()
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    assert loss["guidance"].item() == pytest.approx(3 * entropy, rel=1e-5)
    none = LogLoss()(fusion_of(fused, logits), samples(truth, pair(torch.zeros(2, 1, 9, 9))))
    assert none["boundary"].item() == 0


def test_log_loss_learns_which_is_right_and_whether_any_is():
    """Cross-entropy of three photographs, and of none being right, written out."""
    torch.manual_seed(0)
    truth, scores, neither = (
        torch.rand(1, 3, 8, 8),
        torch.randn(1, 3, 1, 8, 8),
        torch.randn(1, 1, 8, 8),
    )
    guidance = torch.zeros(1, 3, 1, 8, 8)
    guidance[:, 0, :, :4] = 1
    guidance[:, 1:, :, 4:] = 0.5
    fusion = Fusion(truth, truth, scores.softmax(1), neither, scores, neither)
    p = np.exp(scores.double().numpy())
    p /= p.sum(1, keepdims=True)
    q = 1 / (1 + np.exp(-neither.double().numpy()))
    which = -(guidance.numpy() * np.log(p)).sum(1).mean()
    whether = -(np.log(1 - q[:, :, :4]).sum() + np.log(q[:, :, 4:]).sum()) / 64
    found = LogLoss(2.0)(fusion, samples(truth, guidance))["guidance"].item()
    assert found == pytest.approx(2 * (which + whether), rel=1e-5)


def test_log_loss_counts_what_a_wrong_choice_costs():
    """The expected error of drawing one photograph at each pixel, written out."""
    fusion, truth, guidance = scene()
    photographs = torch.rand(2, 2, 3, 9, 9, generator=torch.Generator().manual_seed(5))
    batch = Batch(photographs, truth, guidance)
    first = 1 / (1 + np.exp(-(fusion.scores[:, 0] - fusion.scores[:, 1]).double().numpy()))
    error = np.square((photographs - truth[:, None]).double().numpy()).mean(2, keepdims=True)
    expected = (first * error[:, 0] + (1 - first) * error[:, 1]).mean((1, 2, 3))
    found = LogLoss(selection=2.0)(fusion, batch)["selection"].item()
    assert found == pytest.approx(2 * np.log(expected + FLOOR).mean(), rel=1e-5)


def test_log_loss_needs_logits():
    fusion, truth, guidance = scene()
    with pytest.raises(UserError, match="train.loss=paper"):
        LogLoss()(fusion._replace(scores=None), samples(truth, guidance))


@pytest.mark.parametrize("loss", [PaperLoss, LogLoss])
def test_the_weight_of_the_guidance_term(loss):
    torch.manual_seed(0)
    guidance, truth = torch.full((1, 1, 8, 8), 0.5), torch.rand(1, 3, 8, 8)
    guidance[..., :3] = 1.0
    logits = torch.randn(1, 1, 8, 8)
    fusion = fusion_of(truth, logits)
    once, thrice = (
        loss(weight)(fusion, samples(truth, pair(guidance)))["guidance"] for weight in (1.0, 3.0)
    )
    assert once > 0
    torch.testing.assert_close(thrice, 3 * once)
