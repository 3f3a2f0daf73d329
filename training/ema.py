"""Exponential moving average of the weights: steadier than the last step's, and what is shipped."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """Averaged copy of a model.

    Args:
        model: the model in training.
        decay: of the average; in the first steps it is lower, so that the start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_(averages, [w.detach() for w in weights], 1 - decay)
