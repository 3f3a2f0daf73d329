"""Fuse pairs of files that lie on one another, as the paper does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.pairs import Pair, Problem
from data.stack_files import Source, look_into
from models.fuse import SMALLEST, fuse_arrays
from models.mmfnet import MMFNet
from stacks import records
from stacks.alpha import least
from stacks.frames import Frames, widened
from stacks.outputs import check_files, result_path
from utils.errors import UserError
from utils.images import Photo, write_photo, write_png

WARM_UP = 520  # pixels: side of the blank pair that is fused before the clock runs


def fuse_pairs(
    model: MMFNet,
    pairs: Sequence[Pair],
    output: Path,
    say: Callable[[str], None],
    maps: bool = False,
    tile: int | None = None,
    format: str | None = None,
) -> tuple[list[dict], list[Problem]]:
    """Fuse pairs and write their results.

    Args:
        say: told of each pair.
        maps: also write guidance and boundary maps.
        tile: see :func:`models.fuse.fuse`.
        format: of the fused images, by default one that fits.

    Returns:
        What :func:`fuse_pair` tells of each, and what could not be fused.
    """
    blank = np.zeros((WARM_UP, WARM_UP, 3), np.uint8)
    fuse_arrays(model, blank, blank)
    done: list[dict] = []
    problems: list[Problem] = []
    for pair in tqdm(pairs, unit="pair", disable=len(pairs) < 2):
        try:
            done.append(fuse_pair(model, pair, output, maps, tile, format))
        except UserError as error:
            problems.append(Problem((pair.image1, pair.image2), str(error)))
        else:
            say("{fused}: {width}×{height}, {seconds:.3f} s".format(**done[-1]))
    return done, problems


def fuse_pair(
    model: MMFNet,
    pair: Pair,
    output: Path,
    maps: bool = False,
    tile: int | None = None,
    format: str | None = None,
) -> dict[str, str | int | float]:
    """Read, fuse and write a pair; files and the network's time in seconds.

    An 8-bit photograph is widened if the other has 16 bits.

    Raises:
        UserError: a photograph cannot be read, their sizes differ or are below 16×16, one alone is
            floating point, or the results cannot be written.
    """
    files = pair.image1, pair.image2
    stack = look_into(Source(pair.name, pair.image1, files), smallest=SMALLEST, strict=True)
    results = {"fused": result_path(output, pair.name, format, stack.dtype)}
    kinds = ("guidance", "boundary") if maps else ()
    results |= {kind: output / pair.result(kind.capitalize()) for kind in kinds}
    check_files(results.values(), files)
    records.check_pair(output, pair.name)
    with Frames(stack) as images:
        photos = [images.photo(number) for number in range(2)]
    arrays = [widened(photo.rgb, stack.dtype) for photo in photos]
    started = time.perf_counter()
    fused, guidance, boundary = fuse_arrays(model, *arrays, tile, show_tiles)
    seconds = time.perf_counter() - started
    if maps:
        write_png(results["guidance"], guidance)
        write_png(results["boundary"], boundary)
    alpha = least(widened(x.alpha, stack.dtype) for x in photos if x.alpha is not None)
    write_photo(results["fused"], Photo(fused, stack.grey, alpha, photos[0].metadata))
    return {
        "name": pair.name,
        "image1": str(pair.image1),
        "image2": str(pair.image2),
        **{kind: str(path) for kind, path in results.items()},
        "width": fused.shape[1],
        "height": fused.shape[0],
        "seconds": round(seconds, 4),
    }


def show_tiles(tiles, stage: str):
    """A bar for large pairs."""
    return tqdm(tiles, stage, unit="tile", leave=False, disable=len(tiles) < 12)
