"""Point spread functions of a defocused lens, and blurring with them.

A point out of focus becomes the image of the aperture: its *circle of confusion*. A disk is the
ideal lens wide open, a polygon one stopped down to a few blades, a Gaussian what the paper and most
of the literature use. Every PSF is (k, k) float32 with k odd and unit sum: a lens makes no light.

Radii are in pixels and may be fractions. The edges are anti-aliased, so the PSF changes smoothly
with the radius and tends to the unit impulse at radius 0.
"""

import math

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor


def gaussian(sigma: float) -> Tensor:
    """Gaussian PSF of standard deviation ``sigma`` ≥ 0 px, cut at 3 σ: k = 2⌈3σ⌉ + 1."""
    x = _axis("sigma", sigma, 3 * sigma)
    profile = torch.exp(-0.5 * (x / max(sigma, 1e-6)) ** 2)
    kernel = torch.outer(profile, profile)
    return kernel / kernel.sum()


def disk(radius: float) -> Tensor:
    """Disk PSF: the image of a circular aperture, of ``radius`` ≥ 0 px: k = 2⌈radius⌉ + 1."""
    x = _axis("radius", radius, radius)
    return _cover(torch.hypot(x, x[:, None]) - radius)


def polygon(radius: float, blades: int, rotation: float = 0.0) -> Tensor:
    """PSF of an aperture of 3 or more straight blades: k = 2⌈radius⌉ + 1; ``radius`` ≥ 0 px is that
    of the circle through the corners, ``rotation`` is in rad."""
    x = _axis("radius", radius, radius)
    if blades < 3:
        raise ValueError(f"an aperture needs at least 3 blades, got {blades}")
    normals = rotation + 2 * math.pi * torch.arange(blades) / blades
    along = torch.cos(normals)[:, None, None] * x + torch.sin(normals)[:, None, None] * x[:, None]
    return _cover(along.amax(0) - radius * math.cos(math.pi / blades))


def blur(image: Tensor, psf: Tensor | None, margin: int = 0) -> Tensor:
    """h ⊗ image: convolve every channel (…, H, W) with one PSF, the border replicated.

    Computed by the FFT: exact, differentiable, and no slower for a larger PSF, which is (k, k)
    with k odd, or None for a layer in focus. The result lacks ``margin`` pixels at each border,
    which still blur into the rest: with k // 2 or more nothing is replicated, as in a camera.
    """
    if psf is None or psf.shape[-1] == 1:
        return crop(image, margin)
    reach = psf.shape[-1] // 2
    planes = crop(image, max(margin - reach, 0))
    if missing := max(reach - margin, 0):
        flat = planes.reshape(-1, 1, *planes.shape[-2:])
        flat = F.pad(flat, (missing,) * 4, mode="replicate")
        planes = flat.reshape(*image.shape[:-2], *flat.shape[-2:])
    # What wraps around falls on the first 2·reach rows and columns, which are left out; the scaling
    # is left to the small PSF.
    size = [fast_length(n) for n in planes.shape[-2:]]
    rows, columns = (slice(2 * reach, n) for n in planes.shape[-2:])
    product = spectrum(planes, size) * spectrum(psf / math.prod(size), size)
    lines = torch.fft.ifft(product, norm="forward")[..., rows]
    return torch.fft.irfft(lines.mT, n=size[1], norm="forward")[..., columns]


def crop(image: Tensor, margin: int) -> Tensor:
    """A view of the image (…, H, W) without ``margin`` pixels at each border."""
    inside = slice(margin, -margin)
    return image[..., inside, inside] if margin else image


def fast_length(n: int) -> int:
    """The next multiple of 8 from n on at which the Fourier transform is fast."""
    return 8 * next_fast_len(math.ceil(n / 8))


def spectrum(image: Tensor, size: list[int]) -> Tensor:
    """Half of the Fourier transform at this size, transposed: (…, width // 2 + 1, height)."""
    return torch.fft.fft(torch.fft.rfft(image, n=size[1]).mT, n=size[0])


def _axis(name: str, value: float, reach: float) -> Tensor:
    """Coordinates of a PSF's columns, or rows, about its centre."""
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more pixels, got {value}")
    side = math.ceil(reach)
    return torch.arange(-side, side + 1, dtype=torch.float32)


def _cover(distance: Tensor) -> Tensor:
    """PSF from the signed distance of each pixel's centre to the aperture's edge."""
    coverage = (0.5 - distance).clamp(0, 1)
    return coverage / coverage.sum()
