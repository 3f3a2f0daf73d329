"""What samples are made of: patches of photographs, cut-outs, procedural mattes, a lens."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from defocus import psf
from defocus.color import to_linear
from defocus.mattes import KINDS, procedural_matte, usual_kinds
from defocus.matting import Foreground
from defocus.sources import ForegroundSource, Photographs

PSFS = ("gaussian", "disk", "polygon")


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
class SampleConfig:
    """Ranges that pairs and scenes share. Lengths in pixels, values in [0, 1]."""

    size: int = 256
    psfs: list[str] = field(default_factory=lambda: list(PSFS))
    linear_light: float = 0.5  # probability; the paper blurs the stored sRGB values
    procedural: float = 0.5  # probability of a procedural matte instead of a cut-out
    mattes: list[str] | None = None  # kinds of procedural mattes, by default all but wires
    zoom: list[float] = field(default_factory=lambda: [0.6, 1.0])  # of photographs
    fill_frame: float = 0.0  # probability that a layer (of a scene the nearest) fills the frame
    sharp_everywhere: float = 0.0  # probability that one photograph has all (nearly) in focus
    residual_blur: Effect = field(default_factory=Effect)  # σ of the best focus, as in the truth
    noise: Effect = field(default_factory=Effect)  # σ at middle grey
    exposure: Effect = field(default_factory=Effect)  # stops between the photographs
    shift: Effect = field(default_factory=Effect)  # pixels between the photographs
    breathing: Effect = field(default_factory=Effect)  # magnification of the last over the first
    jpeg: Effect = field(default_factory=Effect)  # quality


@dataclass(eq=False)
class Generator(ABC):
    """Draws samples from the ranges of a config, and the layers that they are made of.

    ``photographs`` give backgrounds, and foregrounds with procedural mattes; ``cutouts`` the other
    foregrounds, empty sources being left out. Raises ValueError if the config names an unknown PSF,
    matte or model, or an invalid range.
    """

    ranges: ClassVar[dict[str, float]]  # keys of the config that are [low, high]; the least low

    config: SampleConfig
    photographs: Photographs
    cutouts: Sequence[ForegroundSource] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_names("matte", self.config.mattes or [], KINDS)
        check_names("PSF", self.config.psfs, PSFS)
        for key, least in self.ranges.items():
            ends = list(getattr(self.config, key))
            if len(ends) != 2 or not least <= ends[0] <= ends[1]:
                raise ValueError(f"{key} is a range [low, high] from {least:g} on, got {ends}")
        for key, effect in vars(self.config).items():
            if isinstance(effect, Effect) and effect.low > effect.high:
                raise ValueError(f"{key}.low={effect.low:g} is above {key}.high={effect.high:g}")
        self.cutouts = [source for source in self.cutouts if len(source)]

    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...

    def identity(self) -> dict[str, Any]:
        """All that the pixels of its samples depend on; photographs and cut-outs by their names."""
        names = [source.photographs for source in (self.photographs, *self.cutouts)]
        return {
            "seed": self.seed,
            "defocus": asdict(self.config),
            "sources": [len(part) for part in names],
            "digest": hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16],
        }

    def _materials(
        self, number: int, size: int, rng: np.random.Generator
    ) -> tuple[list[Foreground], np.ndarray, str, bool]:
        """Foregrounds; the background (size, size, 3) uint8 sRGB and the name of its photograph;
        whether the nearest foreground fills the frame."""
        index = int(rng.integers(len(self.photographs)))
        background = self._patch(index, size, rng)
        near = [self._foreground(size, rng, index) for _ in range(number)]
        fills = bool(near and rng.random() < self.config.fill_frame)
        return near, background, self.photographs.photographs[index], fills

    def _foreground(self, size: int, rng: np.random.Generator, behind: int) -> Foreground:
        """A cut-out, or a patch with a procedural matte; ``behind`` is the background's index."""
        if self.cutouts and rng.random() >= self.config.procedural:
            source = self.cutouts[int(rng.integers(len(self.cutouts)))]
            return _place(source[int(rng.integers(len(source)))], size, rng)
        # Any photograph but the background's own, so that the layers differ.
        step = int(rng.integers(1, max(2, len(self.photographs))))
        index = (behind + step) % len(self.photographs)
        color = self._patch(index, size, rng)
        kind = str(rng.choice(self.config.mattes or usual_kinds()))
        matte = procedural_matte((size, size), rng, [kind])
        return Foreground(color, matte, self.photographs.photographs[index], kind)

    def _paint(self, color: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """The colours (size, size, 3) uint8 of a layer with ``count`` marks on it: plain colours or
        patches of photographs in the outlines of mattes."""
        size = len(color)
        for _ in range(count):
            matte = procedural_matte((size, size), rng)
            mark = np.full_like(color, rng.integers(0, 256, 3))
            if rng.random() < 0.5:
                mark = self._patch(int(rng.integers(len(self.photographs))), size, rng)
            color = cv2.blendLinear(color, mark, 1 - matte, matte)
        return color

    def _patch(self, index: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """A random square of a photograph, zoomed, flipped, (size, size, 3) uint8."""
        photo = self.photographs[index]
        shortest = min(photo.shape[:2])
        zoom = max(rng.uniform(*self.config.zoom), size / shortest)
        side = min(shortest, round(size / zoom))
        top, left = (int(rng.integers(n - side + 1)) for n in photo.shape[:2])
        patch = photo[top : top + side, left : left + side]
        if rng.random() < 0.5:
            patch = cv2.flip(patch, 1)
        interpolation = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        return cv2.resize(patch, (size, size), interpolation=interpolation)


def check_names(what: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raise a ValueError if a name is unknown."""
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}, known: {', '.join(known)}")


def draw_lens(
    kinds: list[str], rng: np.random.Generator
) -> tuple[Callable[[float], Tensor], dict[str, Any]]:
    """A lens, which gives the PSF of a blur radius in px (2σ of a Gaussian), and what was drawn."""
    kind = str(rng.choice(kinds))
    blades, rotation = int(rng.integers(5, 10)), rng.uniform(0, math.tau)
    lenses = {
        "gaussian": lambda radius: psf.gaussian(radius / 2),
        "disk": psf.disk,
        "polygon": lambda radius: psf.polygon(radius, blades, rotation),
    }
    drawn = {"psf": kind, "blades": None, "rotation": None}
    if kind == "polygon":
        drawn |= {"blades": blades, "rotation": rotation}
    return lenses[kind], drawn


def to_tensor(image: np.ndarray, linear: bool) -> Tensor:
    """(3, H, W) sRGB or linear light in [0, 1] from (H, W, 3) uint8 sRGB."""
    values = cv2.LUT(image, _LINEAR if linear else _STORED)
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def _place(cutout: Foreground, size: int, rng: np.random.Generator) -> Foreground:
    """Scale, turn, flip a cut-out and put it in a square frame, perhaps partly outside."""
    color, alpha = cutout.color, cutout.alpha
    # Much larger than in its photograph, an object would be blurred and no ground truth.
    scale = min(1.1, size * rng.uniform(0.4, 1.3) / max(alpha.shape))
    if scale < 1:  # averages over pixels, which the warp below does not
        shape = [max(1, round(n * scale)) for n in alpha.shape[::-1]]
        color = cv2.resize(color, shape, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(alpha, shape, interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        color, alpha = cv2.flip(color, 1), cv2.flip(alpha, 1)
    height, width = alpha.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-20, 20), max(scale, 1.0))
    matrix[:, 2] += rng.uniform(0.15, 0.85, 2) * size - (width / 2, height / 2)
    color = cv2.warpAffine(color, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
    alpha = np.clip(cv2.warpAffine(alpha, matrix, (size, size), borderValue=0), 0, 1)
    return Foreground(color, alpha, cutout.photograph, "cutout")


_STORED = np.arange(256, dtype=np.float32) / 255
_LINEAR = to_linear(torch.from_numpy(_STORED)).numpy()
