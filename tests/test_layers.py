"""Layers on both sources alike, against the plain ones and against double precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models.layers import pair_relu, to_pair


def make_pair(scale: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum, difference), the sum about ``scale`` times as large."""
    random = torch.Generator().manual_seed(3)
    total, difference = (torch.randn(2, 5, 9, 7, generator=random) for _ in range(2))
    return (scale * total).to(dtype), difference.to(dtype)


def test_pair_relu_is_the_relu_of_each_source():
    pair = [plane.requires_grad_() for plane in make_pair(1, torch.double)]
    sources = pair[0] + pair[1], pair[0] - pair[1]
    expected = to_pair(*(F.relu(source) for source in sources))
    result = pair_relu(pair)
    torch.testing.assert_close(result, expected)
    weights = make_pair(2, torch.double)
    gradients = [
        torch.autograd.grad(sum((x * w).sum() for x, w in zip(output, weights, strict=True)), pair)
        for output in (result, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_pair_relu_keeps_a_difference_much_smaller_than_the_sum():
    """Trained sums reach 1e4 times the differences, where (sum + d) − (sum − d) keeps few bits."""
    pair = make_pair(1e5, torch.float32)
    exact = pair_relu([plane.double() for plane in pair])[1]
    torch.testing.assert_close(pair_relu(pair)[1], exact.float(), rtol=1e-6, atol=0)
