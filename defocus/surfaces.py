"""Depth of scenes: where photographs are focused, and the surfaces of layers.

Depth is measured in pixels of blur radius, larger is nearer: what lies at depth d is blurred by
the radius |d − f| in a photograph focused at f. (Through a thin lens the circle of confusion grows
with the difference of the reciprocal distances, so depth here is a reciprocal distance.)
"""

import math

import numpy as np
import torch
from torch import Tensor

from defocus.outlines import smooth_noise

Surface = float | Tensor  # depth of a flat layer; of any other at each pixel, (S, S)

JITTER = 1.4  # steps between photographs differ from their mean by up to this factor


def focus_positions(
    count: int, step: tuple[float, float], largest: float, rng: np.random.Generator
) -> list[float]:
    """Depths at which ``count`` photographs are focused, the nearest first, ``largest`` from the
    last at most; the mean step between neighbours is log-uniform in the range ``step``."""
    steps = math.exp(rng.uniform(*map(math.log, step))) * JITTER ** rng.uniform(-1, 1, count - 1)
    steps *= min(1, largest / steps.sum())
    return [float(steps.sum() - s) for s in np.cumsum([0, *steps])]


def mean_depths(
    count: int,
    focus: list[float],
    ends: bool,
    beyond: float,
    rng: np.random.Generator,
    close: bool = False,
) -> list[float]:
    """Depths of ``count`` layers spread over the depths of focus, the nearest first. With ``ends``
    the outermost photographs are focused on the outermost layers; the scene is deeper by ``beyond``
    pixels, at one end or both. ``close`` layers are half a step of focus apart, or anything up to
    an even spread."""
    high, low = max(focus), min(focus)
    side = int(rng.integers(3))
    high, low = high + beyond * (side != 0), low - beyond * (side != 1)
    if count == 1:
        return [float(rng.uniform(low, high))]
    if close:
        least = min(1, 0.5 * (count - 1) / (len(focus) - 1))
        gaps = np.exp(rng.uniform(math.log(least), 0, count - 1)) * (high - low) / (count - 1)
        nearest = high - rng.uniform(0, max(0, high - low - gaps.sum()))
        return [float(nearest - gap) for gap in np.cumsum([0, *gaps])]
    places = np.linspace(high, low, count)
    inward = rng.uniform(-0.35, 0.35, count) * (high - low) / (count - 1)
    inward[0], inward[-1] = (0, 0) if ends else (-abs(inward[0]), abs(inward[-1]))
    return [float(depth) for depth in places + inward]


def relief(size: int, slant: float, curve: float, rng: np.random.Generator) -> Tensor:
    """Deviation of a surface from its mean depth, (size, size) px of blur radius: ``slant`` is the
    difference across the frame, ``curve`` the amplitude of a smooth unevenness."""
    angle = rng.uniform(0, math.tau)
    direction = np.array([math.cos(angle), math.sin(angle)])
    direction *= slant / np.abs(direction).sum()
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    depth = np.float32(direction[0]) * axis + np.float32(direction[1]) * axis[:, None]
    if curve:
        depth += np.float32(curve) * smooth_noise((size, size), rng, cells=int(rng.integers(2, 4)))
    return torch.from_numpy(depth)


def stack_up(surfaces: list[Surface], focus: list[float], largest: float) -> list[Surface]:
    """Surfaces blurred by at most ``largest`` pixels that do not interpenetrate: a layer that would
    go behind the next touches it there."""
    low, high = max(focus) - largest, min(focus) + largest
    behind: Surface = low
    stacked: list[Surface] = []
    for surface in reversed(surfaces):
        if isinstance(surface, Tensor) or isinstance(behind, Tensor):
            surface = torch.as_tensor(surface).clamp(low, high)
            behind = torch.maximum(surface, torch.as_tensor(behind))
        else:
            behind = max(min(surface, high), behind)
        stacked.append(behind)
    return stacked[::-1]
