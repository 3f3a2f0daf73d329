"""Which fused image belongs to which pair, however the two sides spell their names.

Names are read as words and numbers: ``lytro_01_CNN.jpg`` is (lytro, 1, cnn) and belongs to the
pair ``lytro-01``, (lytro, 1), since it holds these tokens in a row. The longest such pair wins. A
folder in which no name holds a pair's words (``c_01.png``) is matched by the numbers that vary.
"""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fusion.pairs import MAPS, Pair, find_pairs, is_read, list_folder
from utils.errors import UserError
from utils.images import EXTENSIONS

TOKEN = re.compile(r"[0-9]+|[^\W\d_]+")
MAP = re.compile(rf".*-({MAPS})", re.IGNORECASE | re.DOTALL)  # beside results of run_inference.py


class Case(NamedTuple):
    """A pair with what is to be compared on it."""

    name: str
    sources: tuple[Path, ...]
    fused: dict[str, Path]  # method → its image; methods without one are absent
    truth: Path | None = None
    band: Path | None = None  # mask of the FDB, not black inside


def collect(
    sources: Path, methods: Mapping[str, Path], truth: Path | None = None, band: Path | None = None
) -> tuple[list[Case], list[str]]:
    """Find the pairs of a folder (:func:`fusion.pairs.find_pairs`) and the images of every method,
    truth and mask of the FDB that belong to them, in folders of their own.

    Returns the cases in the order of their names, and a sentence for each image that is missing,
    for ambiguous names (with the candidates), for sources that make no pair. Raises
    :class:`UserError` if a folder is missing or holds no image, or no pair is found.
    """
    pairs, problems = some_pairs(sources)
    # A folder may hold sources and results together.
    own = {path.resolve() for pair in pairs for path in (pair.image1, pair.image2)}

    def find(what: str, folder: Path) -> dict[str, Path]:
        files = [path for path in sorted(list_folder(folder)) if path.is_file() and is_read(path)]
        images = [path for path in files if not MAP.fullmatch(path.stem)]
        if not images:
            raise UserError(f"{folder} holds no image ({' '.join(EXTENSIONS)})")
        images = [path for path in images if path.resolve() not in own]
        found, wrong = match([pair.name for pair in pairs], images)
        problems.extend(f"{what}: {problem}" for problem in wrong)
        return found

    fused = {method: find(method, folder) for method, folder in methods.items()}
    truths = find(f"ground truth ({truth})", truth) if truth is not None else {}
    bands = find(f"FDB masks ({band})", band) if band is not None else {}
    cases = []
    for name, *images in pairs:
        results = {method: found[name] for method, found in fused.items() if name in found}
        cases.append(Case(name, tuple(images), results, truths.get(name), bands.get(name)))
    return cases, problems


def some_pairs(sources: Path) -> tuple[list[Pair], list[str]]:
    """:func:`fusion.pairs.find_pairs`, the problems as sentences; raises :class:`UserError` also if
    there is no pair."""
    pairs, faults = find_pairs(sources)
    problems = [fault.error for fault in faults]
    if not pairs:
        raise UserError(f"{sources} holds no pair: {problems[0]}")
    return pairs, problems


def match(names: Sequence[str], files: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """The file of each pair, and a sentence for each without a file or with several candidates."""
    claims = _by_words(names, files) or _by_numbers(names, files)
    claimed = {path for _, path in claims}
    stray = [path.name for path in files if path not in claimed]
    hint = f" (files that belong to no pair: {_listed(stray)})" if stray else ""
    found, problems = {}, []
    for name in names:
        paths = [path for pair, path in claims if pair == name]
        pairs = sorted(pair for pair, path in claims if path in paths)
        if not paths:
            problems.append(f"no image for the pair {name}{hint}")
        elif len(paths) > 1:
            rivals = _listed([path.name for path in paths])
            problems.append(f"it is ambiguous which image belongs to {name}: {rivals}")
        elif len(pairs) > 1:
            rivals = _listed(pairs)
            problems.append(f"it is ambiguous to which pair {paths[0].name} belongs: {rivals}")
        else:
            found[name] = paths[0]
    return found, problems


def tokens(name: str) -> tuple[str | int, ...]:
    """Words in lower case and numbers of a name: ``lytro-01-CNN`` → ("lytro", 1, "cnn")."""
    return tuple(int(t) if t.isdecimal() else t for t in TOKEN.findall(name.casefold()))


def _by_words(names: Sequence[str], files: Sequence[Path]) -> list[tuple[str, Path]]:
    """For each file the pairs with the longest name that its own name holds."""
    keys = {name: tokens(name) for name in names}
    claims = []
    for path in files:
        words = tokens(path.stem)
        starts = range(len(words) or 1)
        held = [n for n, key in keys.items() if any(words[i : i + len(key)] == key for i in starts)]
        longest = max((len(keys[name]) for name in held), default=0)
        claims += [(name, path) for name in held if len(keys[name]) == longest]
    return claims


def _by_numbers(names: Sequence[str], files: Sequence[Path]) -> list[tuple[str, Path]]:
    """Pairs and files whose varying parts hold the same numbers."""
    keys, numbers = _varying_numbers(names), _varying_numbers([path.stem for path in files])
    candidates = itertools.product(zip(names, keys, strict=True), zip(files, numbers, strict=True))
    return [(name, path) for (name, key), (path, held) in candidates if key and key == held]


def _varying_numbers(names: Sequence[str]) -> list[tuple[int, ...]]:
    """The numbers of each name, without the head and tail that all names share."""
    words = [tokens(name) for name in names]
    if len(words) > 1:
        for _ in range(2):  # the head, then the tail
            shared = len(os.path.commonprefix([list(map(str, word)) for word in words]))
            words = [word[shared:][::-1] for word in words]
    return [tuple(token for token in word if isinstance(token, int)) for word in words]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
