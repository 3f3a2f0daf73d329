"""Muon: momentum made orthogonal, for the weights of convolutions; AdamW for the rest.

The step of a weight matrix has all singular values alike (Jordan et al., Muon, 2024), so that the
rare directions of the gradient are learned as fast as the common ones. PyTorch's own Muon takes
matrices only; here the weights of a convolution are one, of outputs × (inputs · kernel).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

SMALLEST = 16  # outputs; what has fewer, as most last layers have, is left to AdamW
MOMENTUM = 0.95
SIZE = 0.2  # root mean square of a step: about AdamW's, so one lr suits both (Liu et al., 2025)


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
            alike: dict[torch.Size, list[Tensor]] = {}  # one product of many matrices is quicker
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for weights in alike.values():
                self._move(weights, **group)

    def _move(self, weights: list[Tensor], lr: float, weight_decay: float, **_: Any) -> None:
        """Move weights of one shape."""
        momenta = [self.state[w].setdefault("momentum", torch.zeros_like(w)) for w in weights]
        gradients = [weight.grad for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch.stack(torch._foreach_lerp(gradients, momenta, MOMENTUM))
        directions = orthogonalise(ahead.flatten(2))
        size = SIZE * max(directions.shape[1:]) ** 0.5
        torch._foreach_mul_(weights, 1 - lr * weight_decay)
        steps = [step.view_as(weight) for step, weight in zip(directions, weights, strict=True)]
        torch._foreach_add_(weights, steps, alpha=-lr * size)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Matrices (…, rows, columns), singular values brought near 1 by five Newton–Schulz steps."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-12)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x
