"""Generated stacks on disk, for any program to fuse, and how near a result is to the truth."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.synthetic_stacks import stack
from defocus.sources import Photographs
from evaluation.tables import write_text
from utils.images import read_photo, write_png
from utils.metrics.reference import psnr

PHOTOGRAPHS = Path("datasets/bsds500/images/test")  # by default; training never sees them
VISIBLE = 10  # of 255: a larger error beside a depth edge is seen as a halo


class Truth(NamedTuple):
    """What a :class:`~benchmarks.synthetic_stacks.SyntheticStack` says is true."""

    image: np.ndarray
    band: np.ndarray
    edges: np.ndarray


def quality(fused: np.ndarray, truth: Truth) -> dict[str, float]:
    """Compare a fused image (H, W, 3) uint8 with the truth of the same size.

    Returns:
        psnr of the whole image and band of the FDB in dB; halo: share of the pixels within 20 px of
        a depth edge with an error above 10/255.
    """
    error = np.abs(fused.astype(np.int16) - truth.image).max(axis=2)
    decibels = {"psnr": None, "band": truth.band}
    scores = {key: float(psnr(truth.image, fused, mask)) for key, mask in decibels.items()}
    return {**scores, "halo": float((error[truth.edges] > VISIBLE).mean())}


def generated(
    folder: Path, seed: int, size: tuple[int, int], layers: int, frames: int, photographs: Path
) -> Path:
    """Generate a stack into ``folder/SEED-WxH-LAYERS-FRAMES`` unless it exists: the frames in
    ``frames``, the truth beside them."""
    height, width = size
    home = folder / f"{seed}-{width}x{height}-{layers}-{frames}"
    about = {"photographs": str(photographs)}
    if (home / "about.json").exists() and json.loads((home / "about.json").read_text()) == about:
        return home
    shutil.rmtree(home, ignore_errors=True)
    made = stack(seed, size, layers, frames, photographs=Photographs(photographs))
    for i, frame in enumerate(made.frames, 1):
        write_png(home / "frames" / f"{i:03d}.png", frame)
    write_png(home / "truth.png", made.truth)
    write_png(home / "band.png", made.band.astype(np.float32))
    write_png(home / "edges.png", made.edges().astype(np.float32))
    write_text(home / "about.json", json.dumps(about))
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
