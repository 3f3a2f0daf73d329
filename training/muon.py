"""Muon: momentum made orthogonal, for the weights of convolutions; AdamW for the rest.

The step of a weight matrix has all singular values alike (Jordan et al., Muon, 2024), so that the
rare directions of the gradient are learned as fast as the common ones. PyTorch's own takes
matrices only; a convolution is one of outputs × (inputs · kernel).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

SMALLEST = 16  # outputs; what has fewer, as the last layers have, is left to AdamW
MOMENTUM = 0.95
SIZE = 0.2  # root mean square of a step, as AdamW's usually is (Liu et al., 2025), so is lr


class Muon(torch.optim.AdamW):
    """AdamW in which weights of convolutions move by orthogonal steps of the same size."""

    def __init__(self, params: Iterable[Mapping[str, Any]], **options: Any):
        groups = []
        for group in params:
            kinds: dict[bool, list[Tensor]] = {True: [], False: []}
            for p in group["params"]:
                kinds[p.dim() == 4 and len(p) >= SMALLEST].append(p)
            groups += [{**group, "params": p, "orthogonal": kind} for kind, p in kinds.items() if p]
        super().__init__(groups, **options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        torch.optim.Optimizer.__setstate__(self, state)  # AdamW's looks for moments everywhere

    @torch.no_grad()
    def step(self) -> None:
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        super().step()
        self.param_groups = groups
        for group in (group for group in groups if group["orthogonal"]):
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                direction = orthogonalise(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                size = SIZE * max(direction.shape) ** 0.5
                weight.add_(direction.view_as(weight), alpha=-group["lr"] * size)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1, by five Newton–Schulz steps."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-12)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x
