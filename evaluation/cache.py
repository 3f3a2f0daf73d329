"""A cache of metric values, keyed by the content of the images and by the metrics' code.

A run with one more method, or one more metric, computes only that.
"""

import functools
import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
import PIL
import scipy
import skimage

from evaluation.matching import Case
from utils import metrics
from utils.atomic import write_file

LIBRARIES = (np, scipy, skimage, cv2, PIL)  # the last decodes the images


def default_cache() -> Path:
    """The user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmfnet" / "metrics"


@functools.cache
def version() -> bytes:
    """Hash of the metrics' code and table, and of the libraries' versions."""
    digest = hashlib.sha256(" ".join(library.__version__ for library in LIBRARIES).encode())
    for path in sorted(Path(metrics.__file__).parent.iterdir()):
        if path.suffix in (".py", ".csv"):
            digest.update(path.read_bytes())
    return digest.digest()


def entry(folder: Path, case: Case, fused: Path) -> Path:
    """The JSON file of a fused image's values by symbol, named by a hash of all they depend on;
    raises OSError if an image cannot be read."""
    digest = hashlib.sha256(version())
    for path in (*case.sources, case.truth, case.band, fused):
        digest.update(b"" if path is None else _file_hash(path, os.stat(path).st_mtime_ns))
        digest.update(b"/")
    name = digest.hexdigest()
    return folder / name[:2] / f"{name[2:]}.json"


def recall(file: Path) -> dict[str, float]:
    """The values known."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def remember(file: Path, values: dict[str, float]) -> None:
    """Add values to those known."""
    write_file(file, json.dumps(recall(file) | values))


@functools.lru_cache(maxsize=4096)
def _file_hash(path: Path, _changed: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
