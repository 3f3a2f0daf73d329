"""What samples are made of: patches of photographs, cut-outs, procedural mattes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from defocus.color import to_linear
from defocus.mattes import KINDS, procedural_matte
from defocus.sources import ForegroundSource, Photographs


class Foreground(NamedTuple):
    """Colours (size, size, 3) uint8 sRGB, matte (size, size) float32, and where they come from."""

    color: np.ndarray
    matte: np.ndarray
    photograph: str
    kind: str  # of the matte


class Generator(ABC):
    """Draws samples from ranges, and the layers that they are made of.

    Args:
        config: the ranges.
        photographs: of backgrounds, and of foregrounds with procedural mattes.
        cutouts: sources of foregrounds; empty ones are left out.
        seed: of the samples.

    Raises:
        ValueError: the config names an unknown PSF, matte or model, or an invalid range.
    """

    def __init__(
        self,
        config: Any,
        photographs: Photographs,
        cutouts: Sequence[ForegroundSource] = (),
        seed: int = 0,
    ):
        check_names("matte", config.mattes or [], KINDS)
        self.check(config)
        self.config, self.seed, self.photographs = config, seed, photographs
        self.cutouts = [source for source in cutouts if len(source)]

    @staticmethod
    @abstractmethod
    def check(config: Any) -> None:
        """Raise a ValueError if a config is invalid."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...

    def background(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Colours (size, size, 3) uint8 sRGB, and the index of their photograph."""
        index = int(rng.integers(len(self.photographs)))
        return self._patch(index, size, rng), index

    def foreground(self, size: int, rng: np.random.Generator, behind: int) -> Foreground:
        """A cut-out, or a patch with a procedural matte; ``behind`` is the background's index."""
        if self.cutouts and rng.random() >= self.config.procedural:
            source = self.cutouts[int(rng.integers(len(self.cutouts)))]
            cutout = source[int(rng.integers(len(source)))]
            color, matte = _place(cutout.color, cutout.alpha, size, rng)
            return Foreground(color, matte, cutout.photograph, "cutout")
        # Any photograph but the background's own, so that the layers differ.
        step = int(rng.integers(1, max(2, len(self.photographs))))
        index = (behind + step) % len(self.photographs)
        color = self._patch(index, size, rng)
        kinds = self.config.mattes or list(KINDS)
        kind = kinds[int(rng.integers(len(kinds)))]
        matte = procedural_matte((size, size), rng, [kind])
        return Foreground(color, matte, self.photographs.photographs[index], kind)

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


def to_tensor(image: np.ndarray, linear: bool) -> Tensor:
    """(3, H, W) sRGB or linear light in [0, 1] from (H, W, 3) uint8 sRGB."""
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for plane, stored in zip(planes, cv2.split(image), strict=True):
        cv2.LUT(stored, _LINEAR if linear else _STORED, plane)
    return torch.from_numpy(planes)


def _place(
    color: np.ndarray, alpha: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scale, turn, flip a cut-out and put it in a square frame, perhaps partly outside."""
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
    foreground = cv2.warpAffine(color, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
    matte = cv2.warpAffine(alpha, matrix, (size, size), borderValue=0)
    return foreground, np.clip(matte, 0, 1)


_STORED = np.arange(256, dtype=np.float32) / 255
_LINEAR = to_linear(torch.from_numpy(_STORED)).numpy()
