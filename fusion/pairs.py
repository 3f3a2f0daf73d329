"""Pairs of photographs in a folder, found by their names."""

import itertools
import mimetypes
import os
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError, os_errors
from utils.images import EXTENSIONS, check_extension

MARKS = (
    re.compile(r"(?P<name>.*?)[-_ .]?(?P<mark>[ab])", re.IGNORECASE | re.DOTALL),
    re.compile(r"(?P<name>|.*?(?=[-_ .]))[-_ .]?(?P<mark>[12])", re.DOTALL),
)
MAPS = "Index|Depth|Confidence|Guidance|Boundary|Preview"  # what goes with a result
KINDS = f"Fusion|{MAPS}"
SKIPPED = re.compile(rf"(.*-)?({KINDS}|Truth)", re.IGNORECASE | re.DOTALL)
FORMS = "NAME-A/NAME-B, NAME_A/NAME_B, NAMEA/NAMEB, NAME-1/NAME-2 or NAME_1/NAME_2"


class Pair(NamedTuple):
    """Two photographs of one scene and the name of their results."""

    name: str
    image1: Path
    image2: Path


class Problem(NamedTuple):
    """Files that are not fused, and why."""

    files: tuple[Path, ...]
    error: str


def find_pairs(folder: str | Path) -> tuple[list[Pair], list[Problem]]:
    """All pairs of a folder (not of its subfolders), in the order of their names, and problems:
    images without a partner, several candidates for one pair, pairs of a type that is not read.

    The two names differ by a mark at the end, see ``FORMS``, in upper or lower case; the types may
    differ. A.png and B.png are named after their folder. Results of an earlier run and ground truth
    (…-Fusion, …-Truth …) are skipped. Raises :class:`UserError` if the folder is missing,
    unreadable, or holds no image.
    """
    folder = Path(folder)
    groups: dict[str, list[tuple[Path, str, str]]] = defaultdict(list)
    problems = []
    for path in sorted(list_folder(folder)):
        # Unknown types (raw formats) are reported rather than ignored. Systems know some that are
        # read by other names: .dcr as Director's.
        kind = mimetypes.guess_type(path.name)[0] or "image/"
        if not is_read(path) and not kind.startswith("image/"):
            continue
        if not path.is_file() or SKIPPED.fullmatch(path.stem):
            continue
        name, mark = _split(path)
        if mark:
            groups[name.casefold()].append((path, name, mark))
        elif is_read(path):
            problems.append(Problem((path,), f"{path} belongs to no pair; pairs are named {FORMS}"))
    pairs = []
    for members in groups.values():
        # A file of an unknown type beside a photograph is no photograph: x-A.xmp, x-A.aae.
        known = {mark for path, _, mark in members if is_read(path)}
        members = [m for m in members if is_read(m[0]) or m[2] not in known]
        members.sort(key=lambda member: member[2])
        paths, names, marks = zip(*members, strict=True)
        if "".join(marks) in ("ab", "12"):
            try:
                for path in paths:
                    check_extension(path)
                pairs.append(Pair(names[0] or _name_after_folder(folder, groups), *paths))
            except UserError as error:
                problems.append(Problem(paths, str(error)))
        elif any(map(is_read, paths)):
            listed = ", ".join(path.name for path in paths)
            why = f"{folder}: it is ambiguous which of {listed} make a pair; leave two of them"
            if len(paths) == 1:
                other = {"a": "B", "b": "A", "1": "2", "2": "1"}[marks[0]]
                why = f"{paths[0]} has no partner; the name of the other half ends in {other}"
            problems.append(Problem(paths, why))
    if not pairs and not problems:
        raise UserError(f"no images in {folder}; expected pairs named {FORMS}")
    return pairs, problems


def name_pair(image1: str | Path, image2: str | Path) -> Pair:
    """The pair of two given files, named after the common part of their names.

    ``x-A.png``, ``x-B.jpg`` give x; ``shelf-near.jpg``, ``shelf-far.jpg`` give shelf; names with
    nothing in common but letters are joined: ``IMG_0012-IMG_0013``. Raises :class:`UserError` for
    a type that is not read, or one file twice.
    """
    paths = Path(image1), Path(image2)
    for path in paths:
        check_extension(path)
    if is_same(*paths):
        raise UserError(f"{paths[0]} is given twice; a pair is of two photographs")
    (name1, mark1), (name2, mark2) = map(_split, paths)
    if mark1 and mark2 and mark1 != mark2 and name1.casefold() == name2.casefold():
        return Pair(name1 or _name_after_folder(paths[0].parent), *paths)
    stems = [path.stem for path in paths]
    common = re.match(r"(.+)[-_ .]+", os.path.commonprefix(stems))
    if common and not any(stem[common.end() : common.end() + 1].isdigit() for stem in stems):
        return Pair(common[1], *paths)
    return Pair("-".join(stems), *paths)


def is_same(path: Path, other: Path) -> bool:
    """Whether two paths are one file, through links or otherwise; False if one is absent."""
    try:
        return path == other or path.samefile(other)
    except OSError:
        return False


def list_folder(folder: Path) -> list[Path]:
    """The files and folders in a folder, without hidden ones; raises :class:`UserError` if it is
    missing or unreadable."""
    with os_errors(f"read folder {folder}"):
        if not folder.exists():
            raise UserError(f"there is no folder {folder}")
        return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _name_after_folder(folder: Path, names: Collection[str] = ()) -> str:
    """Name of the pair A.png and B.png: that of their folder, unless another pair has it."""
    numbered = (f"pair-{number}" for number in itertools.count(2))
    wanted = itertools.chain([folder.resolve().name or "pair", "pair"], numbered)
    return next(name for name in wanted if name.casefold() not in names)


def _split(path: Path) -> tuple[str, str]:
    """(name, mark in lower case) of a file, the mark empty if it has none."""
    for pattern in MARKS:
        if match := pattern.fullmatch(path.stem):
            return match["name"], match["mark"].lower()
    return path.stem, ""


def is_read(path: Path) -> bool:
    """Whether a file is of a type that is read, by its name."""
    return path.suffix.lower() in EXTENSIONS
