"""Muon against its definition: steps whose singular values are alike, AdamW for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.muon import SIZE, Muon, orthogonalise


@pytest.mark.parametrize("shape", [(16, 144), (64, 40), (48, 48)])
def test_singular_values_are_brought_near_one(shape):
    generator = torch.Generator().manual_seed(3)
    gradient = torch.randn(shape, generator=generator)
    left, values, right = torch.linalg.svd(gradient, full_matrices=False)
    values = torch.logspace(0, -1.5, len(values))  # unlike each other, as gradients' are
    made = orthogonalise(left @ values.diag() @ right)
    # No singular vector turns, and their values are alike.
    turned = left.mT @ made @ right.mT
    torch.testing.assert_close(turned, turned.diagonal().diag(), atol=1e-4, rtol=0)
    assert 0.6 < turned.diagonal().min() and turned.diagonal().max() < 1.3


def nets() -> tuple[nn.Sequential, nn.Sequential]:
    """Two equal networks: a wide convolution and a narrow last layer."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)))
    return tuple(made)


def learn(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    """Loss after some steps towards blurring the first three channels."""
    x = torch.randn(4, 8, 12, 12, generator=torch.Generator().manual_seed(1))
    truth = nn.functional.avg_pool2d(x[:, :3], 3, 1, 1)
    for _ in range(steps):
        loss = (net(x) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def groups(net: nn.Module) -> list[dict]:
    return [{"params": list(net.parameters()), "weight_decay": 0.02}]


def test_biases_and_narrow_layers_move_as_adamw_moves_them():
    ours, theirs = nets()
    before = ours[0].weight.detach().clone()
    learn(ours, Muon(groups(ours), lr=1e-2), 1)
    learn(theirs, torch.optim.AdamW(groups(theirs), lr=1e-2), 1)
    for name in ("0.bias", "1.weight", "1.bias"):
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name))
    step = ours[0].weight.detach() - before * (1 - 1e-2 * 0.02)
    scale = 1e-2 * SIZE * max(32, 8 * 9) ** 0.5
    values = torch.linalg.svdvals(step.flatten(1))[: 3 * 9] / scale  # the gradient's rank
    assert ((values > 0.6) & (values < 1.3)).all()


def test_the_loss_falls():
    net, same = nets()
    assert learn(net, Muon(groups(net), lr=3e-3), 60) < learn(same, Muon(groups(same)), 1) / 20


def test_a_gradient_of_zero_moves_nothing_but_by_decay():
    net, _ = nets()
    before = net[0].weight.detach().clone()
    optimizer = Muon(groups(net), lr=1e-2)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(net[0].weight.detach(), before * (1 - 1e-2 * 0.02))
