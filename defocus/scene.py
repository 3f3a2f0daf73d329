"""Scenes in light: one or more layers at depths of their own, in two to eight photographs.

A layer is a surface, flat, slanted or curved, and each photograph is focused at a depth of its own
(:mod:`defocus.surfaces`). Light is added and blurred where it may be far brighter than white, and
then treated as a camera treats it: clipped, which makes highlights flat white images of the
aperture, with the noise of its sensor, the sRGB curve, JPEG. The paper's pairs are the special case
of two flat layers and two photographs, each focused on one (:mod:`defocus.sample` generates those).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from defocus import camera, psf, render, surfaces
from defocus.color import to_linear, to_srgb
from defocus.guidance import restorable, rightness
from defocus.materials import Effect, Generator, SampleConfig, draw_lens, to_tensor
from defocus.sample import Sample

THRESHOLD = 0.85  # light from which on a photograph may have been clipped
WHITE = 1.1  # light is clipped to this before it is shifted, which would leave dark rings


@dataclass
class SceneConfig(SampleConfig):
    """Ranges from which scenes are drawn. Lengths in pixels, depth in pixels of blur radius."""

    size: int = 160
    photographs: list[int] = field(default_factory=lambda: [2, 8])
    layers: list[float] = field(default_factory=lambda: [0.15, 0.45, 0.25, 0.15])  # odds of 1, 2, …
    step: list[float] = field(default_factory=lambda: [0.7, 6.0])  # of focus, 3 photographs or more
    pair_step: list[float] = field(default_factory=lambda: [0.7, 24.0])  # of focus, in pairs
    radius: float = 24.0  # largest of any blur
    ends: float = 0.5  # probability that the outermost layers are in focus in the outermost frames
    # Probability that layers are close in depth, as twine before what it is tied to: there the
    # choice between neighbouring photographs is hard.
    close: float = 0.0
    # Blur radius that the truth lacks: between two planes of focus it is sharper than photographs.
    restored: float = 0.0
    beyond: Effect = field(default_factory=Effect)  # the scene is deeper than the focus reaches
    slant: Effect = field(default_factory=Effect)  # of a layer, of the range of focus
    curve: Effect = field(default_factory=Effect)  # of a layer, of the range of focus
    # Marks painted on a layer, their number. They have the outlines of mattes, so that a sharp
    # outline alone does not tell a depth edge.
    painted: Effect = field(default_factory=Effect)
    linear_light: float = 1.0
    highlights: Effect = field(default_factory=Effect)  # of white, stops
    speculars: Effect = field(default_factory=Effect)  # points brighter than white, their number
    specular_stops: list[float] = field(default_factory=lambda: [1.0, 4.9])  # above white
    specular_radius: list[float] = field(default_factory=lambda: [0.5, 2.0])
    floating: float = 0.0  # share of the speculars that are lights or drops of their own
    shot: list[float] = field(default_factory=lambda: [0.9, 1.0])  # share of shot noise


class SceneGenerator(Generator):
    """Draws scenes; a sample depends on seed, index and number of photographs alone."""

    ranges: ClassVar = {
        "photographs": 2,
        "step": 1e-3,
        "pair_step": 1e-3,
        "zoom": 0,
        "specular_radius": 0.1,
        "specular_stops": 0,
        "shot": 0,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        odds = list(self.config.layers)
        if min(odds, default=-1) < 0 or sum(odds) <= 0:
            raise ValueError(f"layers are the odds of 1, 2, … layers, got {odds}")

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        return self.sample(index, int(rng.integers(*self.config.photographs, endpoint=True)))

    def sample(self, index: int, count: int) -> Sample:
        """The scene of this index in ``count`` photographs, 2 or more."""
        if count < 2:
            raise ValueError(f"a scene is photographed at least twice, not {count} times")
        scene, linear, parameters, rng = self.draw(index, count)
        made = render.photograph(scene, self.config.size)
        light, truth, true_radii = made.photographs, made.truth, made.true_radii
        if linear:
            truth = to_srgb(truth)
        else:
            light = to_linear(light.clamp_(0, 1))
        if scene.restored:  # where it cannot be, the best photograph is right
            sharpest = to_srgb(made.sharpest) if linear else made.sharpest
            restored = restorable(sharpest, truth)
            truth = torch.where(restored, truth, sharpest)
            true_radii = torch.where(restored, true_radii, made.radii.amin(0))
        guidance = rightness(made.true_shares, true_radii, made.shares, made.radii)
        photographs, effects = self._camera(light, rng)
        return Sample(photographs, camera.quantize(truth), guidance, {**parameters, **effects})

    def draw(
        self, index: int, count: int
    ) -> tuple[render.Scene, bool, dict[str, Any], np.random.Generator]:
        """A scene, whether its colours are light, what was drawn, and the source of more draws."""
        rng = np.random.default_rng([self.seed, index, count])
        focus, depths, geometry = self._depths(count, rng)
        largest = render.largest_radius(depths, focus)
        lens, aperture = draw_lens(self.config.psfs, rng)
        side = render.padded_side(self.config.size, lens(largest).shape[-1] // 2)
        linear = bool(rng.random() < self.config.linear_light)
        layers, origin = self._layers(side, len(depths), linear, rng)
        parameters = {
            "index": index,
            "photographs": count,
            "focus": [round(f, 4) for f in focus],
            "largest_radius": round(largest, 4),
            "restored": self.config.restored,
            **geometry,
            **aperture,
            "linear_light": linear,
            **origin,
        }
        scene = render.Scene(layers, depths, focus, lens, self.config.restored)
        return scene, linear, parameters, rng

    def _depths(
        self, count: int, rng: np.random.Generator
    ) -> tuple[list[float], list[surfaces.Surface], dict[str, Any]]:
        """Depths of focus, the layers' surfaces, and what was drawn."""
        config = self.config
        step = config.pair_step if count == 2 else config.step
        focus = surfaces.focus_positions(count, tuple(step), config.radius, rng)
        odds = np.divide(config.layers, sum(config.layers))
        number = 1 + int(rng.choice(len(odds), p=odds))
        ends, beyond = bool(rng.random() < config.ends), config.beyond.draw(rng)
        close = bool(config.close and rng.random() < config.close)  # drawn only if asked for
        means = surfaces.mean_depths(number, focus, ends, beyond or 0, rng, close)
        span = max(focus) - min(focus)
        drawn = [(config.slant.draw(rng), config.curve.draw(rng)) for _ in means]
        if number == 1 and config.slant.probability:  # nothing but a ground through all of it
            means, drawn = [sum(focus) / count], [(rng.uniform(0.6, 1.3), drawn[0][1])]
        depths = [
            mean + surfaces.relief(config.size, span * (slant or 0), span * (curve or 0), rng)
            if slant or curve
            else mean
            for mean, (slant, curve) in zip(means, drawn, strict=True)
        ]
        sharp = None
        if rng.random() < config.sharp_everywhere:
            sharp = int(rng.integers(count))
            deepest = render.largest_radius(depths, [focus[sharp]])
            scale = min(1, render.SMALLEST / max(deepest, 1e-6))
            depths = [focus[sharp] + scale * (depth - focus[sharp]) for depth in depths]
        depths = surfaces.stack_up(depths, focus, config.radius)
        if rng.random() < 0.5:
            focus = focus[::-1]
            sharp = None if sharp is None else count - 1 - sharp
        ends_of = (torch.as_tensor(depth).aminmax() for depth in depths)
        geometry = {
            "layers": number,
            "depths": [[round(float(end), 4) for end in ends] for ends in ends_of],
            "slant": [slant for slant, _ in drawn],
            "curve": [curve for _, curve in drawn],
            "beyond": beyond,
            "sharp_everywhere": sharp,
        }
        return focus, depths, geometry

    def _layers(
        self, side: int, number: int, linear: bool, rng: np.random.Generator
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """Layers of light, nearest first, as :func:`defocus.render.photograph` wants them."""
        config = self.config
        near, background, name, fills = self._materials(number - 1, side, rng)
        stops, speculars = config.highlights.draw(rng), config.speculars.draw(rng)
        residual = config.residual_blur.draw(rng)
        points = rng.multinomial(round(speculars or 0), np.full(number, 1 / number))
        floating = np.zeros_like(points)
        if config.floating:  # drawn only if asked for; none floats in the background
            floating[:-1] = rng.binomial(points[:-1], config.floating)
        colors, marks = [*(layer.color for layer in near), background], []
        if config.painted.probability:  # drawn only if asked for: other scenes stay as they were
            marks = [round(config.painted.draw(rng) or 0) for _ in colors]
            colors = [self._paint(*each, rng) for each in zip(colors, marks, strict=True)]
        layers = []
        for k, color in enumerate(colors):
            light = to_tensor(color, linear)
            # Copied, since floating lights are drawn into it, and sources may keep theirs.
            matte = torch.tensor(near[k].alpha)[None] if k < len(near) else None
            if fills and k == 0:
                matte = torch.ones_like(matte)
            if linear and stops:
                light = expand(light, stops)
            if linear and points[k]:
                glitter(light, matte, points[k], config, rng, floating[k])
            planes = light if matte is None else torch.cat([matte * light, matte])
            layers.append(psf.blur(planes, psf.gaussian(residual or 0)))
        origin = {
            "background": name,
            "foregrounds": [layer.photograph for layer in near],
            "mattes": [layer.kind for layer in near],
            "fills_frame": fills,
            "painted": marks or None,
            "highlights": stops if linear else None,
            "speculars": points.tolist() if linear and speculars else None,
            "floating": floating.tolist() if linear and speculars else None,
            "residual_blur": residual,
        }
        return layers, origin

    def _camera(self, light: Tensor, rng: np.random.Generator) -> tuple[Tensor, dict[str, Any]]:
        """Light (N, 3, S, S) to photographs in 8-bit sRGB values."""
        config, count = self.config, len(light)
        shift, breathing = config.shift.draw(rng), config.breathing.draw(rng)
        exposure = config.exposure.draw(rng)
        noise, shot = config.noise.draw(rng), rng.uniform(*config.shot)
        quality = config.jpeg.draw(rng)
        # Shared, so that the truth is their mean: it is no photograph's own.
        offsets = (shift or 0) * _shared(rng.standard_normal((count, 2)))
        zooms = 1 + (breathing or 0) * np.linspace(-0.5, 0.5, count)
        stops = (exposure or 0) * _shared(rng.standard_normal((count, 1)))[:, 0]
        if exposure:
            light = light * torch.from_numpy(2.0**stops).float()[:, None, None, None]
        if shift or breathing:
            moved = zip(light.clamp(max=WHITE), offsets, zooms, strict=True)
            light = torch.stack([camera.misregister(x, tuple(o), float(z)) for x, o, z in moved])
        if noise:
            light = camera.add_light_noise(light, noise, shot, rng)
        images = to_srgb(light)
        if quality:
            images = torch.stack([camera.compress_jpeg(x, round(quality)) for x in images])
        effects = {
            "shift": np.round(offsets, 4).tolist() if shift else None,
            "breathing": breathing,
            "exposure": np.round(stops, 4).tolist() if exposure else None,
            "noise": noise,
            "shot_share": shot if noise else None,
            "jpeg": quality and round(quality),
        }
        return camera.quantize(images), effects


def expand(light: Tensor, stops: float) -> Tensor:
    """Brighten what is near white, white itself by ``stops``; light is (3, H, W) in [0, 1]."""
    near = ((light.amax(0) - THRESHOLD) / (1 - THRESHOLD)).clamp_(0, 1)
    return light * near.square_().mul_(2.0**stops - 1).add_(1)


def glitter(
    light: Tensor,
    matte: Tensor | None,
    count: int,
    config: SceneConfig,
    rng: np.random.Generator,
    floating: int = 0,
) -> None:
    """Add ``count`` speculars to the visible part of a layer, in place: linear light (3, H, W) with
    its matte (1, H, W), or None for an opaque layer. The first ``floating`` are anywhere, and part
    of the matte."""
    height, width = light.shape[-2:]
    if matte is None:
        places = rng.integers(0, height * width, count)
    else:
        visible = np.flatnonzero(matte.numpy() > 0.5)
        places = rng.choice(visible, count) if len(visible) else []
    if floating:
        places = [*rng.integers(0, height * width, floating), *places[floating:]]
    canvas = light.numpy()
    for number, place in enumerate(places):
        y, x = np.add(divmod(int(place), width), rng.uniform(-0.5, 0.5, 2))
        r = rng.uniform(*config.specular_radius)
        color = 2 ** rng.uniform(*config.specular_stops) * (1 - rng.uniform(0, 0.5) * rng.random(3))
        top, left = (int(max(0, np.floor(c - r))) for c in (y, x))
        area = slice(None), slice(top, int(y + r) + 2), slice(left, int(x + r) + 2)
        spot = canvas[area]
        rows, columns = np.ogrid[: spot.shape[1], : spot.shape[2]]
        cover = np.clip(0.5 + r - np.hypot(rows + top - y, columns + left - x), 0, 1)
        color = color[:, None, None]
        if number < floating:
            opaque = matte.numpy()[area]
            np.maximum(opaque, cover, out=opaque)
            share = cover.astype(np.float32) / np.maximum(opaque, 1e-9)
            spot[:] = share * color + (1 - share) * spot
        else:
            spot += (color * cover).astype(np.float32)


def _shared(draws: np.ndarray) -> np.ndarray:
    """Vectors (N, D) of mean 0, the two farthest from each other at most 1 apart."""
    draws = draws - draws.mean(0)
    apart = np.linalg.norm(draws[:, None] - draws, axis=-1).max()
    return draws / max(apart, 1e-9)
