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


def save_stack(folder: Path, frames: Sequence[np.ndarray], name: str = "f{}.png") -> list[Path]:
    """Write frames as files, numbered from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name.format(i) for i in range(1, len(frames) + 1)]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    return paths
