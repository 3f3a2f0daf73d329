"""One training sample: a scene of two layers photographed twice, and its ground truth.

A scene is a foreground with its matte over a background; image 1 is focused on the foreground and
image 2 on the background, rendered by the α-matte model. The scene is rendered with a margin that
is cropped afterwards, so that light from outside the frame blurs into it as in a camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from defocus import camera, psf
from defocus.color import to_srgb
from defocus.guidance import compare_shares
from defocus.materials import Generator, check_names, to_tensor
from defocus.models import all_in_focus, one_parameter, two_layers, two_parameter

MODELS = ("alpha_matte", "one_parameter", "two_parameter")

PSFS = ("gaussian", "disk", "polygon")


def draw_lens(
    kinds: list[str], rng: np.random.Generator
) -> tuple[Callable[[float], Tensor], dict[str, Any]]:
    """A lens, which gives the PSF of a blur radius in px (2σ of a Gaussian), and what was drawn."""
    kind = str(rng.choice(kinds))
    blades, rotation = int(rng.integers(5, 10)), rng.uniform(0, math.tau)
    if kind == "polygon":
        drawn = {"psf": kind, "blades": blades, "rotation": rotation}
        return lambda radius: psf.polygon(radius, blades, rotation), drawn
    drawn = {"psf": kind, "blades": None, "rotation": None}
    return (psf.disk if kind == "disk" else lambda radius: psf.gaussian(radius / 2)), drawn


@dataclass
class Effect:
    """An effect that happens with ``probability`` and a strength drawn from [low, high]."""

    probability: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def draw(self, rng: np.random.Generator) -> float | None:
        """A strength, or None where the effect does not happen."""
        happens, strength = rng.random() < self.probability, rng.uniform(self.low, self.high)
        return strength if happens else None


@dataclass
class DefocusConfig:
    """Ranges from which samples are drawn. Lengths in pixels, values in [0, 1]."""

    size: int = 256
    model: str = "alpha_matte"  # or another of MODELS: those the paper argues with
    psfs: list[str] = field(default_factory=lambda: list(PSFS))
    sigma: list[float] = field(default_factory=lambda: [0.7, 4.5])  # a disk's radius is 2σ
    sigma_ratio: float = 1.4  # the other layer's σ is up to this factor larger or smaller
    linear_light: float = 0.5  # probability; the paper blurs the stored sRGB values
    procedural: float = 0.5  # probability of a procedural matte instead of a cut-out
    mattes: list[str] | None = None  # kinds of procedural mattes, all by default
    zoom: list[float] = field(default_factory=lambda: [0.6, 1.0])  # of photographs
    swap: float = 0.5  # probability that image 1 is the one focused on the background
    fill_frame: float = 0.0  # probability that one layer fills the frame
    sharp_everywhere: float = 0.0  # probability that one image is sharp everywhere
    residual_blur: Effect = field(default_factory=Effect)  # σ of a layer in focus
    # A layer that neither photograph has in focus, as in a stack: its better σ, of its worse one.
    unfocused: Effect = field(default_factory=Effect)
    noise: Effect = field(default_factory=Effect)  # σ at middle grey
    exposure: Effect = field(default_factory=Effect)  # stops between the shots
    shift: Effect = field(default_factory=Effect)  # pixels between the shots
    breathing: Effect = field(default_factory=Effect)  # relative change of magnification
    jpeg: Effect = field(default_factory=Effect)  # quality


class Sample(NamedTuple):
    """N photographs of one scene and its ground truth, sRGB in 8-bit values.

    Attributes:
        photographs: (N, 3, S, S).
        truth: (3, S, S).
        guidance: (N, 1, S, S), of sum 1 over the photographs: 1 for the one that is right, 0.5
            for each of the two least wrong where none is.
        parameters: everything drawn at random.
    """

    photographs: Tensor
    truth: Tensor
    guidance: Tensor
    parameters: dict[str, Any]


class SampleGenerator(Generator):
    """Draws samples; the sample of an index depends on the seed and the index alone."""

    @staticmethod
    def check(config: DefocusConfig) -> None:
        check_names("defocus model", [config.model], MODELS)
        check_names("PSF", config.psfs, PSFS)
        if config.unfocused.probability and config.model != "alpha_matte":
            raise ValueError(f"unfocused is for the alpha_matte model, not {config.model}")
        for key in ("sigma", "zoom"):
            ends = list(getattr(config, key))
            if len(ends) != 2 or not 0 < ends[0] <= ends[1]:
                raise ValueError(f"{key} is a range [low, high] above 0, got {ends}")

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        config = self.config
        sigma = rng.uniform(*config.sigma)
        ratio = config.sigma_ratio ** rng.uniform(-1, 1)
        sigmas = [sigma, float(np.clip(sigma * ratio, *config.sigma))]
        lens, aperture = draw_lens(config.psfs, rng)
        psfs = [lens(2 * s) for s in sigmas]
        best: list[Tensor | None] = [None, None]
        # Drawn only if asked for: other samples stay as they were.
        unfocused = config.unfocused.draw(rng) if config.unfocused.probability else None
        if unfocused:
            layer = int(rng.integers(2))
            unfocused *= sigmas[layer]
            best[layer] = lens(2 * unfocused)
        margin = max(h.shape[-1] for h in psfs) // 2
        linear = bool(rng.random() < config.linear_light)
        layers, origin = self._layers(config.size + 2 * margin, linear, rng)
        residual = config.residual_blur.draw(rng)
        if residual:
            # No lens resolves every pixel: the best focus there is, in the truth as well.
            layers = psf.blur(torch.cat(layers), psf.gaussian(residual)).split([3, 3, 1])
        sharp_everywhere = bool(rng.random() < config.sharp_everywhere)
        *images, truth, guidance = _photograph(config.model, layers, psfs, best, margin)
        if sharp_everywhere:
            images[0], guidance = truth, torch.ones_like(guidance)
        if linear:
            images, truth = [to_srgb(image) for image in images], to_srgb(truth)

        swapped = bool(rng.random() < config.swap)
        if swapped:
            images, guidance = images[::-1], 1 - guidance
        images, effects = self._camera(images, rng)

        parameters = {
            "index": index,
            **aperture,
            "sigma_foreground": round(sigmas[0], 4),
            "sigma_background": round(sigmas[1], 4),
            "linear_light": linear,
            "swapped": swapped,
            "sharp_everywhere": sharp_everywhere,
            "residual_blur": residual,
            "unfocused": unfocused,
            "unfocused_layer": unfocused and ("foreground", "background")[layer],
            **origin,
            **effects,
        }
        return Sample(
            torch.stack([camera.quantize(image) for image in images]),
            camera.quantize(truth),
            torch.stack([guidance, 1 - guidance]),
            parameters,
        )

    def _layers(
        self, size: int, linear: bool, rng: np.random.Generator
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        """Foreground, background and matte, (3 or 1, size, size), and where they come from."""
        background, far = self.background(size, rng)
        near = self.foreground(size, rng, behind=far)
        matte, fills = near.matte, bool(rng.random() < self.config.fill_frame)
        if fills:
            matte = np.full_like(matte, rng.integers(2))
        origin = {
            "background": self.photographs.photographs[far],
            "foreground": near.photograph,
            "matte": near.kind,
            "fills_frame": fills,
        }
        colors = [to_tensor(color, linear) for color in (near.color, background)]
        return [*colors, torch.from_numpy(matte)[None]], origin

    def _camera(
        self, images: list[Tensor], rng: np.random.Generator
    ) -> tuple[list[Tensor], dict[str, Any]]:
        config = self.config
        shift, breathing = config.shift.draw(rng), config.breathing.draw(rng)
        direction = rng.uniform(0, math.tau)
        exposure = config.exposure.draw(rng)
        noise, shot = config.noise.draw(rng), rng.uniform(0, 1)
        quality = config.jpeg.draw(rng)
        if shift or breathing:
            offset = ((shift or 0) * math.cos(direction), (shift or 0) * math.sin(direction))
            images[1] = camera.misregister(images[1], offset, 1 + (breathing or 0))
        if exposure:
            images[1] = camera.expose(images[1], exposure)
        if noise:
            images = [camera.add_noise(image, noise, shot, rng) for image in images]
        if quality:
            images = [camera.compress_jpeg(image, round(quality)) for image in images]
        effects = {
            "shift": shift,
            "direction": direction if shift else None,
            "breathing": breathing,
            "exposure": exposure,
            "noise": noise,
            "shot_share": shot if noise else None,
            "jpeg": quality and round(quality),
        }
        return images, effects


def _photograph(
    model: str,
    layers: Sequence[Tensor],
    psfs: list[Tensor],
    best: list[Tensor | None],
    margin: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Photographs with the foreground and with the background in focus, truth, guidance map.

    They lack ``margin`` pixels of the layers (foreground, background, matte) at each border. The
    PSFs are of the foreground and the background: in the photograph where that layer is blurred
    more, and at best. The truth has each layer at its best.
    """
    foreground, background, matte = layers
    front, behind = psfs
    if model == "alpha_matte":
        near, covered = two_layers(*layers, (best[0], behind), margin)
        far, spread = two_layers(*layers, (front, best[1]), margin)
        truth, _ = two_layers(*layers, best, margin)
        return near, far, truth, compare_shares(1 - covered, spread)
    scene, mask = all_in_focus(foreground, background, matte), (matte > 0.5).float()
    render = one_parameter if model == "one_parameter" else two_parameter
    planes = render(scene, mask, behind), render(scene, 1 - mask, front), scene, matte
    near, far, truth, covered = (psf.crop(x, margin) for x in planes)
    if model == "one_parameter":  # each photograph is right on its side of the mask
        return near, far, truth, (covered > 0.5).float()
    return near, far, truth, compare_shares(1 - covered, psf.blur(matte, front, margin))
