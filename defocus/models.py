"""The imaging models of figure 3, each a pure function (arXiv:1910.13136, section III).

F is the foreground and B the background, both all-in-focus, α the foreground's matte, M a binary
mask of what is in focus, I the all-in-focus image, h a PSF with unit sum, ⊗ convolution. Images are
(…, 3, H, W), mattes and masks (…, 1, H, W), in [0, 1]; the leading dimensions broadcast. All
functions are differentiable and run on the device of their arguments. A PSF of ``None`` means in
focus; ``margin`` is that of :func:`defocus.psf.blur`.

The models add light, so they are physically right on linear values; on sRGB values they are the
paper's own approximation. :mod:`defocus.color` converts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from defocus.psf import blur, crop


def all_in_focus(foreground: Tensor, background: Tensor, matte: Tensor) -> Tensor:
    """Ground truth: I = αF + (1−α)B."""
    return torch.lerp(background, foreground, matte)


def one_parameter(image: Tensor, mask: Tensor, psf: Tensor | None) -> Tensor:
    """M·I + (1−M)·(h⊗I). Colours of the sharp part leak into the blurred one."""
    return mask * image + (1 - mask) * blur(image, psf)


def two_parameter(image: Tensor, mask: Tensor, psf: Tensor | None) -> Tensor:
    """M·I + h⊗((1−M)·I). Dark rim outside the sharp part, bright rim inside, beyond [0, 1]."""
    return mask * image + blur((1 - mask) * image, psf)


def foreground_in_focus(
    foreground: Tensor, background: Tensor, matte: Tensor, psf: Tensor | None
) -> Tensor:
    """α-matte model, camera on the foreground: αF + (1−α)(h_b⊗B). The boundary stays sharp."""
    return torch.lerp(blur(background, psf), foreground, matte)


def background_in_focus(
    foreground: Tensor, background: Tensor, matte: Tensor, psf: Tensor | None
) -> Tensor:
    """α-matte model, camera on the background: h_f⊗(αF) + (1 − h_f⊗α)B. The foreground spreads
    over the sharp background: the defocus spread effect."""
    return two_layers(foreground, background, matte, (psf, None))[0]


def two_layers(
    foreground: Tensor,
    background: Tensor,
    matte: Tensor,
    psfs: Sequence[Tensor | None],
    margin: int = 0,
) -> tuple[Tensor, Tensor]:
    """α-matte model, camera anywhere: h_f⊗(αF) + (1 − h_f⊗α)(h_b⊗B), and the spread h_f⊗α;
    ``psfs`` are h_f of the foreground and h_b of the background."""
    light, spread = defocus(foreground, matte, psfs[0], margin)
    return torch.addcmul(light, 1 - spread, blur(background, psfs[1], margin)), spread


def layers_in_focus(
    colors: Sequence[Tensor], mattes: Sequence[Tensor], psfs: Sequence[Tensor | None]
) -> Tensor:
    """α-matte model for K depth layers and one focus setting.

    Σₖ h_k⊗(α_k C_k) · Πⱼ₍ⱼ<ₖ₎ (1 − h_j⊗α_j), nearest layer first. There are K images, K PSFs, and K
    mattes, or K−1 when the farthest layer is opaque. With two layers, the far one opaque, and the
    near or the far one in focus, these are the paper's two equations exactly; with all PSFs
    ``None`` it is the all-in-focus image. Raises ValueError if the numbers do not fit.
    """
    if len(mattes) == len(colors) - 1:
        mattes = [*mattes, torch.ones_like(colors[-1][..., :1, :, :])]
    image = torch.zeros_like(colors[-1])
    transmitted = torch.ones_like(mattes[-1])
    for color, matte, psf in zip(colors, mattes, psfs, strict=True):
        light, spread = defocus(color, matte, psf)
        image = image + transmitted * light
        transmitted = transmitted * (1 - spread)
    return image


def defocus(
    color: Tensor, matte: Tensor, psf: Tensor | None, margin: int = 0
) -> tuple[Tensor, Tensor]:
    """Light h⊗(αC) and spread h⊗α of one layer."""
    light = matte * color
    if psf is None:
        return crop(light, margin), crop(matte, margin)
    matte = matte.expand(*light.shape[:-3], *matte.shape[-3:])
    return blur(torch.cat([light, matte], -3), psf, margin).split([light.shape[-3], 1], -3)
