"""Generated pairs with ground truth on disk, so that any program can fuse them.

The validation set of a run, by its seed: ``sources/NAME-A.png`` and ``NAME-B.png``,
``truth/NAME.png``, ``band/NAME.png`` (white in the FDB, where no source is right), and what every
method has to be compared with: each source as it is, and oracle selection.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from configs.schema import load_config, to_dict
from data.build import validation_set
from data.datasets import in_order
from training.validation import oracle_selection
from utils.atomic import atomic_path
from utils.images import write_png

BASELINES = {"source A": "source-a", "source B": "source-b", "oracle selection": "oracle"}


def write_set(config_file: str | Path, overrides: Sequence[str], folder: Path) -> Path:
    """Generate the validation set of a config, unless the folder holds the same one already.

    Args:
        config_file, overrides: as for ``main.py``; ``validation.samples`` says how many.
        folder: to write to; what it held before is deleted when it differs.
    Raises:
        UserError: a wrong config, or no photographs to generate from.
    """
    config = load_config(config_file, overrides)
    count = config.validation.samples
    chosen = config.validation if config.validation.photographs else config.data
    manifest = {
        "samples": count,
        "validation": to_dict(config.validation),
        "photographs": _listing(chosen.photographs),
        "cutouts": _listing(chosen.cutouts),
        "generator": _code(),
    }
    if _read(folder / "manifest.json") == manifest:
        return folder
    dataset = validation_set(config, count)
    for name in ("sources", "truth", "band", *BASELINES.values()):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    progress = tqdm(total=count, unit="sample", desc="validation set", disable=None)
    number = 0
    with progress:
        for batch in in_order(dataset, 4, config.data.workers):
            stored = [(plane * 255).round() / 255 for plane in batch[:2]]  # what a file holds
            oracle = oracle_selection(*stored)
            for pair, truth, guidance, chosen in zip(*stored, batch.guidance, oracle, strict=True):
                planes = *pair, truth, guidance[0], chosen
                _write_sample(folder, f"sample-{number:04d}", *map(_to_array, planes))
                number += 1
                progress.update()
    with atomic_path(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=1))
    return folder


def baselines(folder: Path) -> dict[str, Path]:
    """Methods that :func:`write_set` has written: each source, oracle selection."""
    return {method: folder / name for method, name in BASELINES.items()}


def _write_sample(
    folder: Path,
    name: str,
    image1: np.ndarray,
    image2: np.ndarray,
    truth: np.ndarray,
    guidance: np.ndarray,
    oracle: np.ndarray,
) -> None:
    images = {
        f"sources/{name}-A.png": image1,
        f"sources/{name}-B.png": image2,
        f"truth/{name}.png": truth,
        f"band/{name}.png": (guidance[..., 0] == 0.5).astype(np.float32),
        f"source-a/{name}.png": image1,
        f"source-b/{name}.png": image2,
        f"oracle/{name}.png": oracle,
    }
    for path, image in images.items():
        write_png(folder / path, image)


def _to_array(plane: Tensor) -> np.ndarray:
    return plane.permute(1, 2, 0).numpy()


def _code() -> str:
    """Hash of the generator's code: other code makes other samples."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted((root / "defocus").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _listing(folder: str | None) -> list | None:
    """A folder with the hash of its files' names and sizes."""
    if not folder:
        return None
    files = sorted(
        (str(p.relative_to(folder)), p.stat().st_size) for p in Path(folder).rglob("*.*")
    )
    return [folder, hashlib.sha256(repr(files).encode()).hexdigest()]


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
