"""Photographs of layers whose depth is a surface: the α-matte model with a blur for each pixel.

A layer's premultiplied colour and its matte are blurred at a few radii that all photographs share,
and interpolated between them at each pixel; a flat layer is blurred at its exact radii. With flat
layers this is :func:`defocus.models.layers_in_focus`.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from defocus.psf import fast_length, spectrum
from defocus.surfaces import Surface

SMALLEST = 0.5  # pixels: a smaller radius looks like 0
RATIO = 1.3  # between neighbouring radii at which a layer is blurred


class Scene(NamedTuple):
    """What is photographed: K layers at N focus settings.

    The layers, nearest first, are (4, P, P) light α·C and matte α, the farthest (3, P, P) and
    opaque; P is that of :func:`padded_side`, and the photographs are the middle of it.
    """

    layers: Sequence[Tensor]
    depths: Sequence[Surface]  # of the layers
    focus: Sequence[float]  # depth at which each photograph is focused
    lens: Callable[[float], Tensor]  # its PSF (k, k) of a blur radius in pixels
    restored: float = 0.0  # radius of the blur, pixels, that the truth lacks


class Rendering(NamedTuple):
    """Photographs of a scene, and what each pixel of them is made of."""

    photographs: Tensor  # (N, 3, S, S), not clipped
    sharpest: Tensor  # (3, S, S), each layer as sharp as the best photograph has it
    truth: Tensor  # (3, S, S), less the blur that is restored, see :func:`photograph`
    true_shares: Tensor  # (K, S, S), of the truth's light that comes from each layer
    true_radii: Tensor  # (K, S, S), by which the layers are blurred in it, pixels
    shares: Tensor  # (N, K, S, S), of a photograph's light
    radii: Tensor  # (N, K, S, S), in a photograph


def padded_side(size: int, reach: int) -> int:
    """Side of the layers of photographs of ``size`` pixels, into which light from ``reach`` pixels
    outside blurs: the next at which the Fourier transform is fast."""
    return fast_length(size + 2 * reach)


def largest_radius(depths: Sequence[Surface], focus: Sequence[float]) -> float:
    """The largest radius, in pixels, by which a photograph blurs a layer."""
    ends = [float(end) for depth in depths for end in torch.as_tensor(depth).aminmax()]
    return max(abs(end - f) for end in ends for f in focus)


def depth_map(scene: Scene, size: int) -> Tensor:
    """Depth of the nearest layer that covers half of a pixel or more, (size, size)."""
    inside = _middle(scene.layers[-1].shape[-1], size)
    depth = torch.as_tensor(scene.depths[-1]).expand(size, size)
    for layer, surface in list(zip(scene.layers, scene.depths, strict=True))[-2::-1]:
        covers = layer[3, inside, inside] >= 0.5
        depth = torch.where(covers, torch.as_tensor(surface, dtype=depth.dtype), depth)
    return depth


def photograph(scene: Scene, size: int) -> Rendering:
    """Photographs of a scene, of ``size`` pixels, and the truth.

    In the truth each layer is as sharp as the best photograph has it, less the blur that is to be
    restored: its radius is √(r² − restored²), as variances of PSFs add, and 0 for any smaller r.
    """
    layers, depths, focus, lens, restored = scene
    side = layers[0].shape[-1]

    @cache
    def transfer(radius: float) -> tuple[Tensor, int]:
        psf = lens(radius)
        return spectrum(psf / side**2, [side] * 2), len(psf) // 2  # scaled as in psf.blur

    levels = _levels(largest_radius(depths, focus))
    blurs = [_blur(layer, transfer, size) for layer in layers]
    settings = [[abs(depth - f) for depth in depths] for f in focus]
    best, true_radii = (
        [_restore(radii, blur) for radii in zip(*settings, strict=True)] for blur in (0, restored)
    )
    *images, truth = [_composite(blurs, radii, levels) for radii in (*settings, true_radii)]
    photographs, shares = map(torch.stack, zip(*images, strict=True))
    sharpest = _composite(blurs, best, levels)[0] if restored else truth[0]
    of_truth, *of_photographs = [
        torch.stack([torch.as_tensor(radius).expand(size, size) for radius in radii])
        for radii in (true_radii, *settings)
    ]
    return Rendering(photographs, sharpest, *truth, of_truth, shares, torch.stack(of_photographs))


def _restore(radii: Sequence[Surface], restored: float) -> Surface:
    """Radius by which the truth blurs a layer that photographs blur by ``radii``."""
    if isinstance(radii[0], Tensor):
        return (torch.stack(radii).amin(0).square() - restored**2).clamp_(0).sqrt()
    return math.sqrt(max(0.0, min(radii) ** 2 - restored**2))


def _composite(
    blurs: list[Callable[[float], Tensor]], radii: list[Surface], levels: list[float]
) -> tuple[Tensor, Tensor]:
    """The image (3, S, S) and the layers' shares of its light (K, S, S)."""
    image, transmitted, shares = None, torch.ones(()), []
    for blurred, radius in zip(blurs, radii, strict=True):
        uneven = isinstance(radius, Tensor)
        planes = _interpolate(blurred, radius, levels) if uneven else blurred(radius)
        spread = planes[3:] if len(planes) > 3 else torch.ones_like(planes[:1])
        light = planes[:3]
        image = light if image is None else torch.addcmul(image, transmitted, light)
        shares.append(transmitted * spread)
        transmitted = transmitted - shares[-1]
    return image, torch.cat(shares)


def _interpolate(blurred: Callable[[float], Tensor], radius: Tensor, levels: list[float]) -> Tensor:
    """A layer (C, S, S) blurred by a radius for each pixel, (S, S)."""
    low, high = (float(end) for end in radius.aminmax())
    used = levels[bisect_right(levels, low) - 1 : bisect_left(levels, high) + 1]
    # The variance of a PSF grows with the square of the radius; so does the interpolation.
    squares, passed = radius.square(), [torch.ones_like(radius)]
    for lower, upper in pairwise(used):
        passed.append(((squares - lower**2) / (upper**2 - lower**2)).clamp_(0, 1))
    weights = [*(a - b for a, b in pairwise(passed)), passed[-1]]
    result = blurred(used[0]) * weights[0]
    for level, weight in zip(used[1:], weights[1:], strict=True):
        result.addcmul_(blurred(level), weight)
    return result


def _blur(
    planes: Tensor, transfer: Callable[[float], tuple[Tensor, int]], size: int
) -> Callable[[float], Tensor]:
    """A function that blurs a layer (C, P, P) by a radius: its middle, (C, S, S)."""
    side = planes.shape[-1]
    transformed = spectrum(planes, [side] * 2)

    @cache
    def blurred(radius: float) -> Tensor:
        inside = _middle(side, size)
        if radius < SMALLEST:
            return planes[..., inside, inside]
        psf, reach = transfer(radius)
        # The PSF begins at the corner, which moves the result by its reach.
        inside = slice(inside.start + reach, inside.stop + reach)
        lines = torch.fft.ifft(transformed * psf, norm="forward")[..., inside]
        return torch.fft.irfft(lines.mT, n=side, norm="forward")[..., inside]

    return blurred


def _middle(side: int, size: int) -> slice:
    begin = (side - size) // 2
    return slice(begin, begin + size)


def _levels(largest: float) -> list[float]:
    """Radii at which layers are blurred; those between, up to the largest, are interpolated."""
    largest = max(largest, SMALLEST)
    steps = math.ceil(math.log(largest / SMALLEST) / math.log(RATIO))
    return [0.0, *np.geomspace(SMALLEST, largest, steps + 1).tolist()]
