"""Photographs of layers whose depth is a surface: the α-matte model with a blur for each pixel.

A layer's premultiplied colour and its matte are blurred at a few radii that all photographs share,
and interpolated between them at each pixel; a flat layer is blurred at its exact radii. With flat
layers this is :func:`defocus.models.layers_in_focus`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from defocus.psf import spectrum
from defocus.surfaces import Surface

SMALLEST = 0.5  # pixels: no smaller radius but 0 is seen
RATIO = 1.3  # between neighbouring radii at which a layer is blurred

Lens = Callable[[float], Tensor]  # PSF (k, k) of a blur radius in pixels


class Scene(NamedTuple):
    """What is photographed, where each photograph is focused, the lens; see :func:`photograph`."""

    layers: Sequence[Tensor]
    depths: Sequence[Surface]
    focus: Sequence[float]
    lens: Lens


@dataclass
class Rendering:
    """Photographs of a scene, and what each pixel of them is made of.

    Attributes:
        photographs: (N, 3, S, S), not clipped.
        truth: (3, S, S), each layer as sharp as the best photograph has it.
        shares: (N, K, S, S), of the light that comes from each layer.
        radii: (N, K, S, S), by which the layers are blurred, pixels.
    """

    photographs: Tensor
    truth: Tensor
    shares: Tensor
    radii: Tensor


def frame(size: int, reach: int) -> int:
    """Side of the layers of photographs of ``size`` pixels, into which light from ``reach`` pixels
    outside blurs: the next that the Fourier transform is fast at."""
    return 8 * next_fast_len(math.ceil((size + 2 * reach) / 8))


def largest_radius(depths: Sequence[Surface], focus: Sequence[float]) -> float:
    """By which any layer is blurred in any photograph, pixels."""
    ends = [float(end) for depth in depths for end in torch.as_tensor(depth).aminmax()]
    return max(abs(end - f) for end in ends for f in focus)


def depth_map(scene: Scene, size: int) -> Tensor:
    """Depth of the nearest layer that covers half of a pixel or more, (size, size)."""
    margin = (scene.layers[-1].shape[-1] - size) // 2
    inside = slice(margin, margin + size)
    depth = torch.as_tensor(scene.depths[-1]).expand(size, size)
    for layer, surface in list(zip(scene.layers, scene.depths, strict=True))[-2::-1]:
        covers = layer[3, inside, inside] >= 0.5
        depth = torch.where(covers, torch.as_tensor(surface, dtype=depth.dtype), depth)
    return depth


def photograph(
    layers: Sequence[Tensor],
    depths: Sequence[Surface],
    focus: Sequence[float],
    lens: Lens,
    size: int,
) -> Rendering:
    """Photographs of a scene of K layers at N focus settings.

    Args:
        layers: nearest first; (4, P, P) light α·C and matte α, the farthest (3, P, P) and opaque.
            P is that of :func:`frame`, and the photographs are the middle of it.
        depths: of the layers, see :mod:`defocus.surfaces`.
        focus: depth at which each photograph is focused.
        lens: its PSFs.
        size: S of the photographs.
    """
    psfs = _Spectra(lens, layers[0].shape[-1])
    levels = _levels(largest_radius(depths, focus))
    blurred = [_Blurred(layer, psfs, levels, size) for layer in layers]
    settings = [[abs(depth - f) for depth in depths] for f in focus]
    best = [_least(radii) for radii in zip(*settings, strict=True)]
    *images, truth = [_composite(blurred, radii) for radii in (*settings, best)]
    flat = torch.stack([torch.as_tensor(r).expand(size, size) for s in settings for r in s])
    return Rendering(
        torch.stack([image for image, _ in images]),
        truth[0],
        torch.stack([shares for _, shares in images]),
        flat.view(len(focus), len(layers), size, size),
    )


def _composite(layers: list[_Blurred], radii: list[Surface]) -> tuple[Tensor, Tensor]:
    """The image (3, S, S) and the layers' shares of its light (K, S, S)."""
    image, transmitted, shares = None, None, []
    for layer, radius in zip(layers, radii, strict=True):
        planes = layer.at(radius)
        light, spread = planes[:3], planes[3:]
        if not len(spread):
            spread = torch.ones_like(planes[:1])
        if image is None:
            image, share, transmitted = light, spread, 1 - spread
        else:
            image = torch.addcmul(image, transmitted, light)
            share = transmitted * spread
            transmitted = transmitted - share
        shares.append(share)
    return image, torch.cat(shares)


class _Spectra:
    """Spectra of a lens's PSFs at one size, by radius."""

    def __init__(self, lens: Lens, side: int):
        self.lens, self.side, self.known = lens, side, {}

    def __call__(self, radius: float) -> tuple[Tensor, int]:
        """The spectrum and the PSF's reach."""
        if radius not in self.known:
            psf = self.lens(radius)
            scaled = psf / self.side**2  # see psf.blur
            self.known[radius] = spectrum(scaled, [self.side] * 2), len(psf) // 2
        return self.known[radius]


class _Blurred:
    """A layer (C, P, P), blurred by any radius: its middle, (C, S, S)."""

    def __init__(self, planes: Tensor, psfs: _Spectra, levels: list[float], size: int):
        self.planes, self.psfs, self.levels, self.size = planes, psfs, levels, size
        self.margin = (planes.shape[-1] - size) // 2
        self.spectrum: Tensor | None = None
        self.known: dict[float, Tensor] = {}

    def at(self, radius: Surface) -> Tensor:
        if not isinstance(radius, Tensor):
            return self._flat(radius)
        low, high = (float(end) for end in radius.aminmax())
        first, last = bisect_right(self.levels, low) - 1, bisect_left(self.levels, high)
        used = self.levels[first : min(last, len(self.levels) - 1) + 1]
        # The variance of a PSF grows with the square of the radius; so does the interpolation.
        squares, remaining, result = radius.square(), torch.ones_like(radius), None
        for lower, upper in pairwise(used):
            passed = ((squares - lower**2) / (upper**2 - lower**2)).clamp_(0, 1)
            weight, planes = remaining - passed, self._flat(lower)
            result = planes * weight if result is None else result.addcmul_(planes, weight)
            remaining = passed
        last = self._flat(used[-1])
        return last * remaining if result is None else result.addcmul_(last, remaining)

    def _flat(self, radius: float) -> Tensor:
        if radius not in self.known:
            self.known[radius] = self._blur(radius)
        return self.known[radius]

    def _blur(self, radius: float) -> Tensor:
        inside = slice(self.margin, self.margin + self.size)
        if radius < SMALLEST:
            return self.planes[..., inside, inside]
        psf, reach = self.psfs(radius)
        if self.spectrum is None:
            self.spectrum = spectrum(self.planes, [self.planes.shape[-1]] * 2)
        # The PSF begins at the corner, which moves the result by its reach.
        inside = slice(inside.start + reach, inside.stop + reach)
        lines = torch.fft.ifft(self.spectrum * psf, norm="forward")[..., inside]
        return torch.fft.irfft(lines.mT, n=self.planes.shape[-1], norm="forward")[..., inside]


def _levels(largest: float) -> list[float]:
    """Radii at which layers are blurred, for all from 0 to the largest."""
    steps = max(1, math.ceil(math.log(max(largest / SMALLEST, 1)) / math.log(RATIO)))
    if largest <= SMALLEST:
        return [0.0, SMALLEST]
    return [0.0, *(float(r) for r in np.geomspace(SMALLEST, largest, steps + 1))]


def _least(radii: Sequence[Surface]) -> Surface:
    if isinstance(radii[0], Tensor):
        return torch.stack(list(radii)).amin(0)
    return min(radii)
