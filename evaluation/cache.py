"""A cache of metric values, keyed by the images' content and the metric's version.

A run with one more method, or one more metric, computes only that.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL
import scipy
import skimage

from evaluation.matching import Case
from evaluation.symbols import metric_of
from utils.atomic import atomic_path

LIBRARIES = (np, scipy, skimage, PIL)  # the last decodes the images


def default_cache() -> Path:
    """The user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmfnet" / "metrics"


@functools.cache
def version(symbol: str) -> str:
    """Hash of a metric's code: its module, those it imports from utils.metrics, libraries."""
    modules: set[str] = set()

    def visit(name: str) -> None:
        if name.startswith("utils.metrics.") and name not in modules:
            modules.add(name)
            for value in vars(sys.modules[name]).values():
                visit(getattr(value, "__module__", None) or getattr(value, "__name__", ""))

    visit(metric_of(symbol).function.__module__)
    digest = hashlib.sha256(" ".join(library.__version__ for library in LIBRARIES).encode())
    for name in sorted(modules):
        digest.update(Path(sys.modules[name].__file__).read_bytes())
    return digest.hexdigest()[:16]


class Cache:
    """A folder with a JSON file for each fused image: {symbol: [version, value]}."""

    def __init__(self, folder: Path):
        self.folder = folder

    def key(self, case: Case, fused: Path) -> str:
        """Hash of all files that the values of a fused image depend on.

        Raises:
            OSError: one of them cannot be read.
        """
        digest = hashlib.sha256()
        for path in (*case.sources, case.truth, case.band, fused):
            digest.update(b"" if path is None else _file_hash(path, os.stat(path).st_mtime_ns))
            digest.update(b"/")
        return digest.hexdigest()

    def recall(self, key: str, symbols: Iterable[str]) -> dict[str, float]:
        """The values known for these metrics and still of the same version."""
        stored = self._read(key)
        known = {symbol: stored[symbol] for symbol in symbols if symbol in stored}
        return {symbol: value for symbol, (of, value) in known.items() if of == version(symbol)}

    def remember(self, key: str, values: dict[str, float]) -> None:
        """Add values to those that are known."""
        new = {symbol: [version(symbol), value] for symbol, value in values.items()}
        with atomic_path(self._file(key)) as temporary:
            temporary.write_text(json.dumps(self._read(key) | new))

    def _read(self, key: str) -> dict[str, list]:
        try:
            return json.loads(self._file(key).read_text())
        except (OSError, ValueError):
            return {}

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.json"


@functools.lru_cache(maxsize=4096)
def _file_hash(path: Path, _changed: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
