"""Small focus stacks for the tests of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from conftest import texture
from PIL import Image


def focus_stack(
    count: int = 4, height: int = 72, width: int = 96, seed: int = 0
) -> list[np.ndarray]:
    """Frames (H, W, 3) uint8 of one texture; each is sharp in the next of as many columns."""
    sharp = texture(seed, height, width).astype(np.float32)
    focus = (np.arange(width) + 0.5) * count / width - 0.5  # the frame that is sharpest there
    levels = [sharp, *(cv2.GaussianBlur(sharp, (0, 0), 0.8 * step) for step in range(1, count + 1))]
    frames = []
    for i in range(count):
        away = np.abs(focus - i).round().astype(int)
        frame = np.stack([levels[away[x]][:, x] for x in range(width)], axis=1)
        frames.append(np.clip(frame, 0, 255).round().astype(np.uint8))
    return frames


class Sharpest:
    """A back end by a rule that needs no training: the photograph with most detail is right.

    Attributes:
        asked: how many photographs the boundary sub-net saw, each time.
    """

    device, threads, memory, features, largest = "cpu", 2, 0, 0, 8

    def __init__(self, coefficients: float | None = None, reach: int = 9):
        self.fill, self.reach, self.asked = coefficients, reach, []

    def load(self, photographs: Sequence[np.ndarray]) -> np.ndarray:
        full = 1 if photographs[0].dtype == np.float32 else np.iinfo(photographs[0].dtype).max
        return np.stack(photographs).transpose(0, 3, 1, 2).astype(np.float32) / full

    def guide(self, photographs: np.ndarray, alone: bool = False) -> np.ndarray:
        detail = [
            cv2.blur(np.abs(cv2.Laplacian(planes.mean(0), cv2.CV_32F)), (self.reach, self.reach))
            for planes in photographs
        ]
        best = np.argmax(detail, 0)
        return (best == np.arange(len(photographs))[:, None, None]).astype(np.float32)

    def coefficients(
        self, photographs: np.ndarray, guidance: np.ndarray, alone: bool = False
    ) -> np.ndarray | None:
        self.asked.append(len(photographs))
        if self.fill is None:
            return None
        return np.full((1, *guidance.shape[1:]), self.fill, np.float32)

    def blend(
        self, photographs: np.ndarray, guidance: np.ndarray, coefficients: np.ndarray | None
    ) -> np.ndarray:
        initial = (guidance[:, None] * photographs).sum(0)
        return initial if coefficients is None else initial + coefficients


def save_stack(folder: Path, frames: Sequence[np.ndarray], name: str = "f{}.png") -> list[Path]:
    """Write frames as files, numbered from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name.format(i) for i in range(1, len(frames) + 1)]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    return paths
