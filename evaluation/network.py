"""Our network as a method on folders: pairs in, fused images out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fusion.backends import load_backend
from fusion.fuse import fuse
from fusion.pairs import Pair
from utils.errors import UserError
from utils.images import read_photo, write_png

NAME = "MMF-Net (ours)"


def fuse_folder(
    weights: Path, pairs: Sequence[Pair], output: Path, device: str = "auto"
) -> tuple[dict[str, object], list[str]]:
    """Fuse pairs with trained weights and write ``NAME-Fusion.png`` for each.

    Returns:
        What was run: weights, device, seconds a pair (fusion alone) by the clock and of all cores
        together; and a sentence for each pair that cannot be fused.
    Raises:
        UserError: the weights cannot be loaded, or the output cannot be written.
    """
    backend = load_backend(weights, device)
    problems, times = [], []
    for pair in tqdm(pairs, unit="pair", desc=NAME, disable=None):
        try:
            images = [read_photo(path).rgb for path in (pair.image1, pair.image2)]
            start, cpu_start = time.perf_counter(), time.process_time()
            fused = fuse(images, backend, align=False).image
            times.append((time.perf_counter() - start, time.process_time() - cpu_start))
        except UserError as error:
            problems.append(f"{NAME}: {error}")
        except ValueError as error:
            problems.append(f"{NAME}: {pair.name}: {error}")
        else:
            write_png(output / pair.result("Fusion"), fused)
    seconds, cpu_seconds = np.mean(times or [(0.0, 0.0)], axis=0).tolist()
    about = {"weights": str(weights), "device": backend.device}
    return about | {"seconds_per_pair": seconds, "cpu_seconds_per_pair": cpu_seconds}, problems
