"""Which files make a focus stack, and in which order."""

import mimetypes
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fusion.fuse import SMALLEST
from fusion.orientation import turn_alike
from fusion.pairs import KINDS, Problem, is_read, list_folder
from utils.errors import UserError
from utils.images import EXTENSIONS, Probe, probe

ORDERS = ("name", "time", "focus")
# The name of a stack, and the number or letter of a frame of it.
FRAME = re.compile(r"(.+)[-_ ](?:[A-Za-z]|[0-9]+|\([0-9]+\))|(.*[^-_ 0-9])[0-9]+")
RESULT = re.compile(rf"(.*)-({KINDS})", re.DOTALL)
STEPS = re.compile(r"(.*)-(Steps)", re.DOTALL)
NAMED = 3  # at most, of the unread files of a stack of which too few are left


class Source(NamedTuple):
    """The files of a stack, not opened yet."""

    name: str  # of its results
    origin: Path  # the folder or file given for it
    files: tuple[Path, ...]  # in order; one multi-page TIFF, or a file for each frame
    pair: bool = False  # both files are required, and no record is written
    listed: bool = False  # given file by file: two types of one frame are intended

    def __str__(self) -> str:
        """What messages call it: its folder, or its first and last file."""
        several = self.origin in self.files[:-1]
        return f"{self.origin} to {self.files[-1].name}" if several else str(self.origin)


class Frame(NamedTuple):
    """A frame of a stack, and its header."""

    path: Path
    page: int  # of a multi-page TIFF, from 0
    probe: Probe
    turned: bool = False  # by the orientation of the first frame, not by its own

    @property
    def size(self) -> str:
        """Width×height, for messages."""
        return f"{self.probe.width}×{self.probe.height}"

    @property
    def name(self) -> str:
        """Its file without folders, and its page if there are several."""
        page = f", page {self.page + 1}" if self.probe.pages > 1 else ""
        return self.path.name + page

    def __str__(self) -> str:
        return str(self.path.with_name(self.name))


class Stack(NamedTuple):
    """The frames of a stack in order, of one size; and files that cannot be read."""

    frames: list[Frame]
    problems: list[Problem]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frames."""
        return self.frames[0].probe.height, self.frames[0].probe.width

    @property
    def dtype(self) -> np.dtype:
        """Type of the result: 8-bit frames among 16-bit ones are widened."""
        return np.result_type(*(frame.probe.dtype for frame in self.frames))

    @property
    def grey(self) -> bool:
        return all(frame.probe.grey for frame in self.frames)


def find_stack(inputs: Sequence[str | Path]) -> Source:
    """The stack of a folder, a multi-page TIFF or a list of files.

    A folder or a TIFF gives the name; several files are named after their common prefix
    (``pcb_001.jpg``, ``pcb_002.jpg`` give ``pcb``), else after their folder. Raises
    :class:`UserError` if a path does not exist, one is given twice, or the folder holds no image.
    """
    paths = [Path(path) for path in inputs]
    if len(paths) == 1 and paths[0].is_dir():
        if files := _frames_in(paths[0]):
            return Source(paths[0].resolve().name or "stack", paths[0], files)
        raise UserError(f"no images in {paths[0]}; a stack has a file for each frame")
    seen = set()
    for path in paths:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give one folder alone, or files")
        if not path.exists():
            raise UserError(f"there is no file or folder {path}")
        stat = path.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            raise UserError(f"{path} is given twice; a stack takes each frame once")
        seen.add((stat.st_dev, stat.st_ino))
    paths.sort(key=_natural_key)
    name = paths[0].stem
    if len(paths) > 1:
        common = os.path.commonprefix([path.stem for path in paths])
        name = re.sub(r"[-_ .(]*[0-9]*$", "", common) or paths[0].resolve().parent.name or "stack"
    return Source(name, paths[0], tuple(paths), listed=True)


def find_stacks(
    folder: str | Path, pause: float | None = None
) -> tuple[list[Source], list[Problem]]:
    """All stacks of a folder: each folder in it that holds images, each multi-page TIFF, and files
    whose names differ by a number or letter at the end (``x-A.jpg``, ``x-B.jpg``, ``x-C.jpg``); or,
    with a ``pause`` in seconds, files of which none was taken longer after the one before, with the
    name of the first. In the natural order of their names; and as problems folders that cannot be
    read, or hold photographs only in folders, photographs that belong to no stack, and stacks of
    one name. Raises :class:`UserError` if the folder is missing, unreadable or holds none."""
    found: list[Source] = []
    loose: list[Path] = []
    problems = []
    paths = list_folder(Path(folder))
    names = {path.name for path in paths}
    for path in sorted(paths, key=_natural_key):
        if _is_result(path, names):
            continue
        try:
            files = _stack_at(path)
        except UserError as error:
            problems.append(Problem((path,), str(error)))
            continue
        if files:
            found.append(Source(path.name if path.is_dir() else path.stem, path, files))
        elif is_read(path):
            loose.append(path)
    way = "the names of its files begin with one word and end in a number or letter"
    if pause is not None:
        way = f"no other photograph was taken within {pause:g} s of it"
    for name, files in _by_name(loose) if pause is None else _by_time(loose, pause, problems):
        if files[1:]:
            found.append(Source(name, files[0], tuple(files)))
        else:
            problems.append(Problem(tuple(files), f"{files[0]} belongs to no stack; {way}"))
    if not found and not problems:
        raise UserError(f"{folder} holds no stacks; a batch is a folder with a folder for each")
    stacks: dict[str, list[Source]] = defaultdict(list)
    for source in sorted(found, key=lambda source: _natural_key(Path(source.name))):
        stacks[source.name.casefold()].append(source)
    for same in stacks.values():
        if len(same) > 1:
            origins = tuple(source.origin for source in same)
            what = f"{' and '.join(map(str, origins))} would each give {same[0].name}-Fusion"
            problems.append(Problem(origins, f"{what}; rename all but one"))
    return [same[0] for same in stacks.values() if len(same) == 1], problems


def look_into(source: Source, order: str = "name", strict: bool = False) -> Stack:
    """Read the headers of a stack's files and sort its frames: by "time" (EXIF; equal times by
    name), otherwise by name (natural: 2 before 10; the pages of a TIFF as stored).

    Raises :class:`UserError` if fewer than two frames can be read, or with ``strict`` one cannot;
    they differ in size or are smaller than 16×16, floating-point frames are mixed with others, a
    frame is there in two types (unless the files were listed), or a frame has no time to sort by.
    """
    if not source.listed:  # it may hold the RAW and the JPEG file of a camera
        for stem, count in Counter(path.stem for path in filter(is_read, source.files)).items():
            if count > 1:
                names = " and ".join(p.name for p in source.files if p.stem == stem and is_read(p))
                what = f"{names} look like one frame in two types"
                raise UserError(f"{source}: {what}; keep one type, or list the files to fuse")
    frames: list[Frame] = []
    problems: list[Problem] = []
    for path in source.files:
        page, pages = 0, 1
        while page < pages:
            try:
                frame = Frame(path, page, probe(path, page))
                if len(source.files) == 1:
                    pages = frame.probe.pages
                elif frame.probe.pages > 1 and Frame(path, 1, probe(path, 1)).size == frame.size:
                    what = f"{path} has {frame.probe.pages} pages of one size"  # no thumbnails
                    raise UserError(f"{what}; a stack of pages is fused alone")
                frames.append(frame)
            except UserError as error:
                if strict:
                    raise
                problems.append(Problem((path,), str(error)))
            page += 1
    if len(frames) < 2:
        raise UserError(f"{source}: {too_few(Stack(frames, problems))}")
    frames = turn_alike(frames)
    _check_alike(frames)
    if order == "time":
        if lacking := [frame for frame in frames if frame.probe.taken is None]:
            way = "use --order name or focus"
            raise UserError(f"{lacking[0]} does not say when it was taken; {way}")
        frames.sort(key=lambda frame: frame.probe.taken)
    return Stack(frames, problems)


def too_few(stack: Stack) -> str:
    """Says that a stack has too few frames, and why."""
    count = len(stack.frames)
    said = [f"{count} frame{'s' * (not count)} can be read, a stack has at least 2"]
    said += [problem.error for problem in stack.problems[:NAMED]]
    return "; ".join(said + ["…"] * (len(stack.problems) > NAMED))


def _check_alike(frames: Sequence[Frame]) -> None:
    first = frames[0]
    if min(first.probe.width, first.probe.height) < SMALLEST:
        raise UserError(f"{first} has {first.size} pixels, {SMALLEST}×{SMALLEST} is the least")
    for frame in frames:
        if frame.size != first.size:
            way = "all frames must have one size; leave out those that do not belong"
            if (frame.probe.height, frame.probe.width) == (first.probe.width, first.probe.height):
                way = "one is turned, perhaps by its EXIF orientation alone; turn all alike"
            raise UserError(f"{frame} has {frame.size} pixels, {first} {first.size}; {way}")
        if (frame.probe.dtype == np.float32) != (first.probe.dtype == np.float32):
            way = "floating-point frames are fused with their like only, convert some"
            raise UserError(f"{frame} is {frame.probe.dtype}, {first} {first.probe.dtype}; {way}")


def _stack_at(path: Path) -> tuple[Path, ...]:
    """The frames of a folder, or a multi-page TIFF; none of another file. Raises
    :class:`UserError` for what cannot be read, and a folder that has frames only further down."""
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to what is not there")
    if path.is_dir():
        files = _frames_in(path)
        if not files and _holds_frames(path):
            way = "give it as --batch itself, or move them up"
            raise UserError(f"{path} holds photographs only in folders of its own; {way}")
        return files
    is_tiff = path.suffix.lower() in (".tif", ".tiff")
    return (path,) if is_tiff and probe(path).pages > 1 else ()


def _frames_in(folder: Path) -> tuple[Path, ...]:
    """The photographs in a folder, without results of an earlier run; with files that cannot be
    read (broken links, unknown types), for :func:`look_into` to report, unless all are such."""
    paths = list_folder(folder)
    names = {path.name for path in paths}
    found = [
        path
        for path in sorted(paths, key=_natural_key)
        if not path.is_dir() and not _is_result(path, names)
        if is_read(path) or re.match("image/(?!.*xml$)", mimetypes.guess_type(path.name)[0] or "")
    ]
    return tuple(found) if any(map(is_read, found)) else ()


def _holds_frames(folder: Path) -> bool:
    """Whether any folder in a folder holds photographs, at any depth."""
    paths = list_folder(folder)
    names = {path.name for path in paths}
    return any(
        _frames_in(path) or _holds_frames(path)
        for path in paths
        if path.is_dir() and not path.is_symlink() and not _is_result(path, names)
    )


def _by_name(paths: Sequence[Path]) -> Iterable[tuple[str, list[Path]]]:
    """Files whose names differ by a number or letter at the end, with what they begin with."""
    groups: dict[str | Path, list[Path]] = defaultdict(list)  # a file without number by itself
    for path in paths:
        name = FRAME.fullmatch(path.stem)
        groups[(name[1] or name[2]) if name else path].append(path)
    return groups.items()


def _by_time(
    paths: Sequence[Path], pause: float, problems: list[Problem]
) -> Iterable[tuple[str, list[Path]]]:
    """Files between which no pause was longer, in the order of time, since a camera's numbers start
    again, with the name of the first; those that cannot be read or have no time are ``problems``.
    """
    taken: dict[Path, datetime] = {}
    for path in paths:
        try:
            if (time := probe(path).taken) is None:
                raise UserError(f"{path} does not say when it was taken, as --pause needs")
            taken[path] = time
        except UserError as error:
            problems.append(Problem((path,), str(error)))
    groups: list[list[Path]] = []
    before = None
    for path in sorted(taken, key=taken.__getitem__):
        if before is None or (taken[path] - before).total_seconds() > pause:
            groups.append([])
        groups[-1].append(path)
        before = taken[path]
    return [(files[0].stem, files) for files in groups]


def _is_result(path: Path, beside: Collection[str]) -> bool:
    """Whether a file or folder is one of a run's, by its name and those beside it: maps and steps
    have a result."""
    found = STEPS.fullmatch(path.name) if path.is_dir() else RESULT.fullmatch(path.stem)
    ends = ("Record.json", *(f"Fusion{suffix}" for suffix in EXTENSIONS))
    return bool(found) and (
        found[2] == "Fusion" or any(f"{found[1]}-{end}" in beside for end in ends)
    )


def _natural_key(path: Path) -> tuple:
    """Sort key that orders numbers by value: frame 2 before frame 10, in any folder."""

    def key(text: str) -> list[tuple[int, str]]:
        parts = re.split(r"([0-9]+)", text.casefold())
        return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]

    return key(path.name), key(str(path)), str(path)
