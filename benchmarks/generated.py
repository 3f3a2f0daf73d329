"""Generated stacks on disk, for any program to fuse, and how near a result is to the truth."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from benchmarks.measure import Failed
from benchmarks.synthetic_stacks import stack
from defocus.sources import Photographs
from utils.atomic import write_file
from utils.images import read_photo, write_png
from utils.metrics.reference import psnr


class Truth(NamedTuple):
    """The truth of a :class:`~benchmarks.synthetic_stacks.SyntheticStack`, to score results by."""

    image: np.ndarray  # (H, W, 3) uint8, all in focus
    band: np.ndarray  # (H, W) bool, the FDB
    edges: np.ndarray  # (H, W) bool, near edges between two layers

    def score(self, fused: np.ndarray) -> dict[str, float]:
        """PSNR in dB of the whole image and in the FDB, and the share of halo pixels: those beside
        a depth edge with an error above 10/255. Raises :class:`Failed` for another size."""
        check_size(fused, self.image)
        halo = wrong(fused, self.image, self.edges, 10)
        return decibels(fused, self.image, psnr=None, band=self.band) | {"halo": halo}


def check_size(fused: np.ndarray, truth: np.ndarray) -> None:
    """Raise :class:`Failed` if a result is not of the size of the truth."""
    if fused.shape != truth.shape:
        sizes = [f"{image.shape[1]}×{image.shape[0]}" for image in (fused, truth)]
        raise Failed("its picture is {}, the truth {}".format(*sizes))


def decibels(fused: np.ndarray, truth: np.ndarray, **masks: np.ndarray | None) -> dict[str, float]:
    """PSNR in dB inside masks (H, W), or everywhere for None, by their names; both images are
    (H, W, 3) uint8."""
    return {name: float(psnr(truth, fused, mask)) for name, mask in masks.items()}


def wrong(fused: np.ndarray, truth: np.ndarray, mask: np.ndarray, most: int) -> float:
    """Share of the pixels inside a mask in which a channel is wrong by more than ``most``."""
    error = np.abs(fused[mask].astype(np.int16) - truth[mask]).max(axis=1)
    return float((error > most).mean())


def oracle(truth: np.ndarray, frames: Iterable[np.ndarray], side: int = 1) -> np.ndarray:
    """Oracle selection (H, W, 3) uint8, as :func:`training.validation.oracle_selection`, but of one
    frame after another: those of a camera do not fit into memory together."""
    best, least = np.empty_like(truth), np.full(truth.shape[:2], np.inf, np.float32)
    for frame in frames:
        error = np.square(frame.astype(np.float32) - truth).sum(axis=2)
        # Sums, which leave out what is outside.
        error = cv2.boxFilter(error, -1, (side, side), None, (-1, -1), False, cv2.BORDER_CONSTANT)
        nearer = error < least
        best[nearer], least[nearer] = frame[nearer], error[nearer]
    return best


def generated(
    folder: Path, seed: int, size: tuple[int, int], layers: int, frames: int, photographs: Path
) -> Path:
    """Generate a stack into ``folder/SEED-WxH-LAYERS-FRAMES`` unless it exists: the frames in
    ``frames``, the truth beside them."""
    height, width = size
    home = folder / f"{seed}-{width}x{height}-{layers}-{frames}"
    note, about = home / "about.json", json.dumps({"photographs": str(photographs)})
    if note.exists() and note.read_text(encoding="utf-8") == about:
        return home
    shutil.rmtree(home, ignore_errors=True)
    made = stack(seed, size, layers, frames, photographs=Photographs(photographs))
    for i, frame in enumerate(made.frames, 1):
        write_png(home / "frames" / f"{i:03d}.png", frame)
    write_png(home / "truth.png", made.truth)
    write_png(home / "band.png", made.band.astype(np.float32))
    write_png(home / "edges.png", made.edges().astype(np.float32))
    write_file(note, about)
    return home


def read_truth(home: Path) -> Truth:
    """The truth of a stack that :func:`generated` wrote."""
    band, edges = (np.asarray(Image.open(home / f"{x}.png")) > 127 for x in ("band", "edges"))
    return Truth(read_photo(home / "truth.png").rgb, band, edges)


def choose_frames(home: Path, numbers: Sequence[int], folder: Path) -> Path:
    """A folder with links to some frames of a stack, in this order; numbers may repeat."""
    frames = sorted((home / "frames").iterdir())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for place, number in enumerate(numbers, 1):
        (folder / f"{place:03d}{frames[number].suffix}").symlink_to(frames[number].resolve())
    return folder
