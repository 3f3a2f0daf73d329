"""A cache of metric values, keyed by the content of the images and by the code that measures.

A run with one more method, or one more metric, computes only that.
"""

import functools
import hashlib
import json
import os
from importlib import import_module
from pathlib import Path

from evaluation.matching import Case
from utils.atomic import write_file

UTILS = Path(__file__).parents[1] / "utils"  # decodes the images, and has the metrics
LIBRARIES = "numpy scipy skimage cv2 PIL imagecodecs tifffile pillow_heif rawpy".split()


def default_cache() -> Path:
    """The user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmfnet" / "metrics"


@functools.cache
def version() -> bytes:
    """Hash of the code that decodes and measures, and of the versions of its libraries."""
    versions = [import_module(name).__version__ for name in LIBRARIES]
    digest = hashlib.sha256(" ".join(versions).encode())
    code = [*UTILS.rglob("*.py"), *UTILS.rglob("*.csv"), Path(__file__).with_name("scores.py")]
    for path in sorted(code):
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
