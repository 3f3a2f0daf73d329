"""Generated stacks on disk, for any program to fuse, and how near a result is to the truth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from defocus.sources import Photographs
from fusion.synthetic import stack
from utils.atomic import atomic_path
from utils.images import read_photo, write_png
from utils.metrics.reference import psnr

VISIBLE = 10  # of 255: an error larger than this beside a depth edge is seen as a halo


class Truth(NamedTuple):
    """What is true about a generated stack, see :class:`fusion.synthetic.SyntheticStack`."""

    image: np.ndarray
    band: np.ndarray
    edges: np.ndarray


class Quality(NamedTuple):
    """How near a fused picture is to the truth.

    Attributes:
        psnr: dB, of the whole picture.
        band: dB, of the FDB.
        halo: share of the pixels within 20 px of a depth edge in which a channel is wrong by more
            than 10/255.
    """

    psnr: float
    band: float
    halo: float


def quality(fused: np.ndarray, truth: Truth) -> Quality:
    """Compare a fused picture (H, W, 3) uint8 with the truth of the same size."""
    error = np.abs(fused.astype(np.int16) - truth.image).max(axis=2)
    halo = float((error[truth.edges] > VISIBLE).mean())
    whole, band = (float(psnr(truth.image, fused, mask)) for mask in (None, truth.band))
    return Quality(whole, band, halo)


def generated(
    folder: Path, seed: int, size: tuple[int, int], layers: int, frames: int, photographs: Path
) -> Path:
    """A stack in ``folder/SEED-WxH-LAYERS-FRAMES``, made unless it is there: its frames are in
    ``frames``, beside them the truth."""
    height, width = size
    home = folder / f"{seed}-{width}x{height}-{layers}-{frames}"
    about = {"photographs": str(photographs)}
    if (home / "about.json").exists() and json.loads((home / "about.json").read_text()) == about:
        return home
    shutil.rmtree(home, ignore_errors=True)
    made = stack(seed, size, layers, frames, photographs=Photographs(photographs))
    for i, frame in enumerate(tqdm(made.frames, desc=home.name, unit="frame", disable=None)):
        write_png(home / "frames" / f"{i + 1:03d}.png", frame)
    planes = {"truth": made.truth, "band": made.band, "edges": made.edges()}
    for name, plane in planes.items():
        write_png(home / f"{name}.png", plane.astype(np.float32) if plane.ndim == 2 else plane)
    with atomic_path(home / "about.json") as temporary:
        temporary.write_text(json.dumps(about))
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
    for place, number in enumerate(numbers):
        (folder / f"{place + 1:03d}{frames[number].suffix}").symlink_to(frames[number].resolve())
    return folder
