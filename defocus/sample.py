"""One training sample: a scene of two layers photographed twice, and its ground truth.

Image 1 is focused on the foreground and image 2 on the background, rendered by the α-matte model
with a margin that is cropped, so that light from outside the frame blurs into it as in a camera.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from defocus import camera, psf
from defocus.color import to_linear, to_srgb
from defocus.guidance import guidance_map
from defocus.materials import Effect, Generator, SampleConfig, check_names, draw_lens, to_tensor
from defocus.models import all_in_focus, one_parameter, two_layers, two_parameter

MODELS = ("alpha_matte", "one_parameter", "two_parameter")


@dataclass
class DefocusConfig(SampleConfig):
    """Ranges from which pairs are drawn. Lengths in pixels, values in [0, 1]."""

    model: str = "alpha_matte"  # or another of MODELS: those the paper argues with
    sigma: list[float] = field(default_factory=lambda: [0.7, 4.5])  # a disk's radius is 2σ
    sigma_ratio: float = 1.4  # the other layer's σ is up to this factor larger or smaller
    swap: float = 0.5  # probability that image 1 is the one focused on the background
    # A layer that neither photograph has in focus, as in a stack: its better σ as a share of its
    # worse one.
    unfocused: Effect = field(default_factory=Effect)


class Sample(NamedTuple):
    """N photographs of one scene and its ground truth, sRGB in 8-bit values. The guidance map is 1
    for the photograph that is right, 0.5 for each of the two least wrong where none is."""

    photographs: Tensor  # (N, 3, S, S)
    truth: Tensor  # (3, S, S)
    guidance: Tensor  # (N, 1, S, S), of sum 1 over the photographs
    parameters: dict[str, Any]  # everything drawn at random


class SampleGenerator(Generator):
    """Draws samples; the sample of an index depends on the seed and the index alone."""

    ranges: ClassVar = {"sigma": 0, "zoom": 0}

    def __post_init__(self) -> None:
        model = self.config.model
        check_names("defocus model", [model], MODELS)
        if self.config.unfocused.probability and model != "alpha_matte":
            raise ValueError(f"unfocused is for the alpha_matte model, not {model}")
        super().__post_init__()

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        config = self.config
        psfs, best, optics = self._optics(rng)
        margin = max(h.shape[-1] for h in psfs) // 2
        linear = bool(rng.random() < config.linear_light)
        layers, origin = self._layers(config.size + 2 * margin, linear, rng)
        residual = config.residual_blur.draw(rng)
        layers = psf.blur(torch.cat(layers), psf.gaussian(residual or 0)).split([3, 3, 1])

        *images, truth, guidance = _photograph(config.model, layers, psfs, best, margin)
        sharp_everywhere = bool(rng.random() < config.sharp_everywhere)
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
            **optics,
            "linear_light": linear,
            "swapped": swapped,
            "sharp_everywhere": sharp_everywhere,
            "residual_blur": residual,
            **origin,
            **effects,
        }
        return Sample(
            torch.stack([camera.quantize(image) for image in images]),
            camera.quantize(truth),
            torch.stack([guidance, 1 - guidance]),
            parameters,
        )

    def _optics(
        self, rng: np.random.Generator
    ) -> tuple[list[Tensor], list[Tensor | None], dict[str, Any]]:
        """PSFs of foreground and background where they are out of focus, and in the photograph
        that has them best; what was drawn."""
        config = self.config
        sigma = rng.uniform(*config.sigma)
        ratio = config.sigma_ratio ** rng.uniform(-1, 1)
        sigmas = sigma, float(np.clip(sigma * ratio, *config.sigma))
        lens, aperture = draw_lens(config.psfs, rng)
        best: list[Tensor | None] = [None, None]
        unfocused = layer = None
        if config.unfocused.probability:  # drawn only if asked for: other samples stay as they were
            unfocused = config.unfocused.draw(rng)
        if unfocused:
            layer = int(rng.integers(2))
            unfocused *= sigmas[layer]
            best[layer] = lens(2 * unfocused)
        drawn = {
            **aperture,
            "sigma_foreground": round(sigmas[0], 4),
            "sigma_background": round(sigmas[1], 4),
            "unfocused": unfocused,
            "unfocused_layer": None if layer is None else ("foreground", "background")[layer],
        }
        return [lens(2 * s) for s in sigmas], best, drawn

    def _layers(
        self, size: int, linear: bool, rng: np.random.Generator
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        """Foreground, background and matte, (3 or 1, size, size), and where they come from."""
        (near,), background, name, fills = self._materials(1, size, rng)
        matte = np.full_like(near.alpha, rng.integers(2)) if fills else near.alpha
        origin = {
            "background": name,
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
        # Half of each to either photograph, so that the truth is no photograph's own.
        halves = -0.5, 0.5
        if exposure:
            lit = zip(map(to_linear, images), halves, strict=True)
            images = [to_srgb(image * 2.0 ** (half * exposure)) for image, half in lit]
        if shift or breathing:
            offset = (shift or 0) * np.array((math.cos(direction), math.sin(direction)))
            images = [
                camera.misregister(image, tuple(half * offset), 1 + half * (breathing or 0))
                for image, half in zip(images, halves, strict=True)
            ]
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
    model: str, layers: Sequence[Tensor], psfs: list[Tensor], best: list[Tensor | None], margin: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Photographs with the foreground and with the background in focus, truth, guidance map.

    They lack ``margin`` pixels of the layers (foreground, background, matte) at each border. Each
    layer, foreground and background, has one of ``psfs`` where it is out of focus and one of
    ``best`` in the other photograph and in the truth.
    """
    foreground, background, matte = layers
    front, behind = psfs
    if model == "alpha_matte":
        near, covered = two_layers(*layers, (best[0], behind), margin)
        far, spread = two_layers(*layers, (front, best[1]), margin)
        truth, _ = two_layers(*layers, best, margin)
        return near, far, truth, guidance_map(1 - covered, spread)
    scene, mask = all_in_focus(foreground, background, matte), (matte > 0.5).float()
    render = one_parameter if model == "one_parameter" else two_parameter
    planes = render(scene, mask, behind), render(scene, 1 - mask, front), scene, mask
    near, far, truth, inside = (psf.crop(x, margin) for x in planes)
    if model == "one_parameter":  # each photograph is right on its side of the mask
        return near, far, truth, inside
    # Each lacks what the other side keeps for itself, and has the light that it spreads.
    lit = psf.blur(1 - mask, behind, margin), psf.blur(mask, front, margin)
    return near, far, truth, guidance_map((1 - inside).maximum(lit[0]), inside.maximum(lit[1]))
