"""What a real camera adds to a rendered photograph: noise, JPEG, misalignment, exposure.

Images are (3, H, W), sRGB in [0, 1]; randomness comes from the generator passed.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

MIDDLE = ((0.5 + 0.055) / 1.055) ** 2.4  # light of the sRGB value 0.5
SLOPE = 1.055 / 2.4 * MIDDLE ** (1 / 2.4 - 1)  # of the sRGB curve there


def add_noise(image: Tensor, sigma: float, shot: float, rng: np.random.Generator) -> Tensor:
    """Add noise to sRGB (3, H, W): of standard deviation ``sigma`` at value 0.5, where the share
    ``shot`` of its variance is shot noise, which grows with the signal, and the rest read noise."""
    return _add_normal(image, image.mul(2 * shot * sigma**2).add_((1 - shot) * sigma**2), rng)


def add_light_noise(light: Tensor, sigma: float, shot: float, rng: np.random.Generator) -> Tensor:
    """Add the noise of a sensor to linear light (…, 3, H, W): before the sRGB curve.

    The curve is steep in the dark: at the value 0.05 read noise is 10 times as visible as at
    middle grey, shot noise 1.4 times. ``sigma`` is the standard deviation in sRGB units at the
    sRGB value 0.5, ``shot`` the share of the variance there that is shot noise.
    """
    variance = (sigma / SLOPE) ** 2
    growing = light.clamp_min(0).mul_(shot * variance / MIDDLE)
    return _add_normal(light, growing.add_((1 - shot) * variance), rng)


def _add_normal(image: Tensor, variance: Tensor, rng: np.random.Generator) -> Tensor:
    # PyTorch's normal numbers are vectorised, NumPy's are not.
    source = torch.Generator().manual_seed(int(rng.integers(2**63)))
    noise = torch.randn(image.shape, generator=source)
    return noise.mul_(variance.clamp_min_(0).sqrt_()).add_(image)


def compress_jpeg(image: Tensor, quality: int) -> Tensor:
    """Encode as baseline JPEG with 4:2:0 chroma at ``quality`` 1–100 and decode again."""
    pixels = to_pixels(image.clamp(0, 1))
    coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.split(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return torch.from_numpy(np.stack(decoded[::-1])) / 255


def to_pixels(image: Tensor) -> np.ndarray:
    """(C, H, W) in [0, 1] as uint8 (H, W, C) in OpenCV's order BGR, or (H, W) of one channel."""
    return cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in image.numpy()[::-1]])


def misregister(image: Tensor, shift: tuple[float, float], magnification: float) -> Tensor:
    """Shift by (x, y) pixels and magnify about the centre (focus breathing), bicubic."""
    height, width = image.shape[-2:]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, magnification)
    matrix[:, 2] += shift
    warped = cv2.warpAffine(
        image.permute(1, 2, 0).numpy(),
        matrix,
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return torch.from_numpy(warped).permute(2, 0, 1)


def quantize(image: Tensor) -> Tensor:
    """Clip to [0, 1] and round to the 256 values of an 8-bit file."""
    return image.clamp(0, 1).mul_(255).round_().div_(255)
