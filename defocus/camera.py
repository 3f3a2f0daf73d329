"""What a real camera adds to a rendered photograph: noise, JPEG, misalignment, exposure.

Each effect is a pure function of an image (3, H, W), sRGB in [0, 1]; randomness comes from the
passed generator.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

MIDDLE = ((0.5 + 0.055) / 1.055) ** 2.4  # light of the sRGB value 0.5
SLOPE = 1.055 / 2.4 * MIDDLE ** (1 / 2.4 - 1)  # of the sRGB curve there


def add_noise(image: Tensor, sigma: float, shot: float, rng: np.random.Generator) -> Tensor:
    """Shot and read noise whose standard deviation at middle grey is ``sigma``.

    Args:
        image: (3, H, W) in [0, 1].
        sigma: standard deviation at value 0.5, in units of the full range.
        shot: share of the variance that grows with the signal, 0 (all read noise) to 1.
        rng: source of the noise.
    """
    variance = image.mul(2 * shot * sigma**2).add_((1 - shot) * sigma**2)
    # PyTorch's normal numbers are vectorised, NumPy's are not.
    source = torch.Generator().manual_seed(int(rng.integers(2**63)))
    noise = torch.randn(image.shape, generator=source)
    return noise.mul_(variance.clamp_min_(0).sqrt_()).add_(image)


def add_light_noise(light: Tensor, sigma: float, shot: float, rng: np.random.Generator) -> Tensor:
    """Noise of a sensor: the variance of its shot noise grows with the light, its read noise not.

    The sRGB curve is steep in the dark: at the value 0.05 read noise is 10 times as visible as at
    middle grey, shot noise 1.4 times.

    Args:
        light: (…, 3, H, W) linear.
        sigma: standard deviation at the sRGB value 0.5, in sRGB units of the full range.
        shot: share of the variance there that is shot noise, 0 to 1.
        rng: source of the noise.
    """
    variance = (sigma / SLOPE) ** 2
    deviation = light.clamp_min(0).mul_(shot * variance / MIDDLE).add_((1 - shot) * variance)
    source = torch.Generator().manual_seed(int(rng.integers(2**63)))
    return torch.randn(light.shape, generator=source).mul_(deviation.sqrt_()).add_(light)


def compress_jpeg(image: Tensor, quality: int) -> Tensor:
    """Encode as baseline JPEG with 4:2:0 chroma at ``quality`` 1–100 and decode again."""
    planes = image.flip(0).clamp_(0, 1).numpy()
    pixels = cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in planes])
    coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    decoded = cv2.split(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return torch.from_numpy(np.stack(decoded[::-1])) / 255


def misregister(image: Tensor, shift: tuple[float, float], magnification: float) -> Tensor:
    """Shift by (x, y) pixels and magnify about the centre (focus breathing), bicubic.

    A frame that is photographed again is never in quite the same place, and a lens that is
    refocused changes its focal length a little.
    """
    height, width = image.shape[-2:]
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, 0, magnification)
    matrix[:, 2] += shift
    warped = cv2.warpAffine(
        image.permute(1, 2, 0).numpy(),
        matrix,
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return torch.from_numpy(warped).permute(2, 0, 1)


def expose(image: Tensor, stops: float) -> Tensor:
    """Multiply by 2^stops: a change of exposure between the shots, small enough to ignore gamma."""
    return image * 2.0**stops


def quantize(image: Tensor) -> Tensor:
    """Clip to [0, 1] and round to the 256 values that an 8-bit file holds."""
    return image.clamp(0, 1).mul_(255).round_().div_(255)
