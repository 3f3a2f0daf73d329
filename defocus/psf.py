"""Point spread functions of a defocused lens, and blurring with them.

A point out of focus becomes the image of the aperture: its *circle of confusion*. A disk is the
ideal lens wide open, a polygon one stopped down to a few blades, a Gaussian what the paper and most
of the literature use. Every PSF has unit sum (a lens moves light, it makes none) and an odd side.

Radii are in pixels and may be fractions; a pixel on the aperture's edge gets the share of it that
the edge leaves inside, so the PSF changes smoothly with the radius and tends to the unit impulse
at radius 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor


def gaussian(sigma: float, device: torch.device | str | None = None) -> Tensor:
    """Gaussian PSF cut at 3 σ.

    Args:
        sigma: standard deviation in pixels, ≥ 0.
        device: where the PSF is made.

    Returns:
        (k, k) float32, unit sum, k = 2⌈3σ⌉ + 1.
    """
    _check("sigma", sigma)
    reach = math.ceil(3 * sigma)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32, device=device)
    profile = torch.exp(-0.5 * (x / max(sigma, 1e-6)) ** 2)
    kernel = torch.outer(profile, profile)
    return kernel / kernel.sum()


def disk(radius: float, device: torch.device | str | None = None) -> Tensor:
    """Disk PSF: the circle of confusion of a circular aperture.

    Args:
        radius: of the circle of confusion in pixels, ≥ 0.
        device: where the PSF is made.

    Returns:
        (k, k) float32, unit sum, k = 2⌈radius⌉ + 1.
    """
    _check("radius", radius)
    y, x = _grid(radius, device)
    return _from_distance(torch.hypot(x, y) - radius)


def polygon(
    radius: float, blades: int, rotation: float = 0.0, device: torch.device | str | None = None
) -> Tensor:
    """PSF of an aperture closed by straight blades.

    Args:
        radius: of the circle through the polygon's corners, in pixels, ≥ 0.
        blades: number of blades, ≥ 3.
        rotation: of the aperture in radians.
        device: where the PSF is made.

    Returns:
        (k, k) float32, unit sum, k = 2⌈radius⌉ + 1.
    """
    _check("radius", radius)
    if blades < 3:
        raise ValueError(f"an aperture needs at least 3 blades, got {blades}")
    y, x = _grid(radius, device)
    normals = rotation + 2 * math.pi * torch.arange(blades, device=device) / blades
    along = torch.cos(normals)[:, None, None] * x + torch.sin(normals)[:, None, None] * y
    return _from_distance(along.amax(0) - radius * math.cos(math.pi / blades))


def blur(image: Tensor, psf: Tensor | None, margin: int = 0) -> Tensor:
    """h ⊗ image: convolve every channel with one PSF, the border replicated.

    Computed through the FFT: exact, and its time does not grow with the PSF. Differentiable in
    both arguments.

    Args:
        image: (…, H, W), any number of leading dimensions.
        psf: (k, k) with k odd, or None for a layer in focus (the image is returned as it is).
        margin: pixels to leave out at each border of the result; what lies there still blurs into
            the rest. From k // 2 on nothing is replicated, and the blur is as a camera's.

    Returns:
        (…, H − 2·margin, W − 2·margin): ``crop(blur(image, psf), margin)``, in less time.
    """
    if psf is None or psf.shape[-1] == 1:
        return crop(image, margin)
    reach = psf.shape[-1] // 2
    planes = crop(image, max(margin - reach, 0))
    if missing := max(reach - margin, 0):
        flat = planes.reshape(-1, 1, *planes.shape[-2:])
        flat = F.pad(flat, (missing,) * 4, mode="replicate")
        planes = flat.reshape(*image.shape[:-2], *flat.shape[-2:])
    # Transforms of multiples of 8 are fast. What wraps around falls on the first 2·reach rows and
    # columns, which are left out; the scaling is left to the small PSF.
    size = [8 * next_fast_len(math.ceil(n / 8)) for n in planes.shape[-2:]]
    rows, columns = (slice(2 * reach, n) for n in planes.shape[-2:])
    product = spectrum(planes, size) * spectrum(psf / math.prod(size), size)
    lines = torch.fft.ifft(product, norm="forward")[..., rows]
    return torch.fft.irfft(lines.mT, n=size[1], norm="forward")[..., columns]


def crop(image: Tensor, margin: int) -> Tensor:
    """A view of the image (…, H, W) without ``margin`` pixels at each border."""
    inside = slice(margin, -margin)
    return image[..., inside, inside] if margin else image


def spectrum(image: Tensor, size: list[int]) -> Tensor:
    """Half of the Fourier transform at this size, transposed: (…, width // 2 + 1, height)."""
    return torch.fft.fft(torch.fft.rfft(image, n=size[1]).mT, n=size[0])


def _grid(radius: float, device: torch.device | str | None) -> tuple[Tensor, Tensor]:
    reach = math.ceil(radius)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32, device=device)
    return torch.meshgrid(axis, axis, indexing="ij")


def _from_distance(distance: Tensor) -> Tensor:
    """Coverage of each pixel from the signed distance of its centre to the aperture's edge."""
    coverage = (0.5 - distance).clamp(0, 1)
    return coverage / coverage.sum()


def _check(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more pixels, got {value}")
