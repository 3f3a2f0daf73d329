"""Files of a result: the fused image, maps, steps, a preview."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fusion.backends import LARGEST
from fusion.frames import Frames
from fusion.fuse import Fusion, Step
from fusion.pairs import is_same
from fusion.stack_files import Source
from fusion.windows import shrink
from utils.atomic import partial_folder, replaceable
from utils.errors import UserError, os_errors
from utils.images import Metadata, Photo, white, write_photo, write_png

FORMATS = {"png": ".png", "tiff": ".tif", "jpg": ".jpg", "webp": ".webp"}
PREVIEW = 800  # pixels: long side at most
PREVIEWED = 24  # frames at most: a preview of any stack stays small
FRAME_TIME, RESULT_TIME = 150, 2000  # ms
STEP = re.compile(r"\d+-(Aligned|Guidance|Boundary)\.\w+")  # a file of --save-steps
Observe = Callable[[Step, Metadata], None]  # of an aligned frame
MAPS = ("Index", "Depth", "Confidence", "Guidance", "Boundary")


@dataclass(frozen=True)
class Options:
    """Options of one run; ``align`` to ``memory`` as in :func:`fusion.fuse.fuse`."""

    order: str = "name"  # of the frames: "name", "time" or "focus"
    align: bool = True
    motion: str = "similarity"
    exposure: bool = True
    crop: bool = True
    memory: int | None = None
    strict: bool = False  # fail on a frame that cannot be used, instead of leaving it out
    format: str | None = None  # of :data:`FORMATS`; by default a lossless one
    maps: bool = False  # write index and confidence of each pixel
    steps: bool = False  # write each aligned frame with its guidance and boundary map
    preview: bool = False  # write an animation of the aligned frames and the result


def writing_memory(options: Options, size: tuple[int, int]) -> int:
    """Bytes, as measured, that the files next to the result (H, W) need in addition."""
    pixels = size[0] * size[1]
    maps = 13 * options.maps + 6 * options.steps + 2 * LARGEST * (options.steps or options.preview)
    return maps * pixels + 60_000_000 * options.preview


def file_of(folder: Path, name: str, kind: str) -> Path:
    """A file of a result; ``Record.json`` is its report, and what it was made from."""
    return folder / f"{name}-{kind}"


def check_free(result: Path, source: Source, options: Options) -> None:
    """Raise a :class:`UserError` if a result would replace what is not its own earlier version: a
    photograph, a folder, steps that no run wrote; if it is a pair's, the result of a stack; if it
    is a stack's, the result of other files, or a file that no stack wrote."""
    of = partial(file_of, result.parent, source.name)
    record, steps = of("Record.json"), of("Steps")
    more = [of(f"{kind}.png") for kind in MAPS if options.maps]
    more += [of("Preview.webp")] * options.preview
    for path in [result, record, *more]:
        if any(is_same(path, file) for file in source.files):
            raise UserError(f"{path} is both a photograph and the result; give another --output")
        replaceable(path)
    if options.steps and os.path.lexists(steps):
        with os_errors(f"write {steps}"):
            foreign = [name for name in sorted(os.listdir(steps)) if not STEP.fullmatch(name)]
        if foreign or steps.is_symlink():
            what = f"holds {foreign[0]}, which no earlier run wrote" if foreign else "is a link"
            raise UserError(f"{steps} {what}; rename it, or give another --output")
    if source.pair and record.exists():
        what = f"{record} says that {source.name}-Fusion is a stack's result"
        raise UserError(f"{what}, which the pair's would replace; give another --output")
    # Killed while its files were moved, a stack has no record yet, but left its partial folder.
    if source.pair or partial_folder(result.parent, source.name).exists():
        return
    if record.exists():
        if other := _find_other(record, source.files):
            what = f"{record} says that {source.name}-Fusion is of other files, {other} …"
            raise UserError(f"{what}; rename it, or give another --output")
        return
    for path in [*(of(f"Fusion{suffix}") for suffix in FORMATS.values()), *more]:
        if path.exists():
            what = f"{path} exists, and no {record.name} beside it says that a stack gave it"
            raise UserError(f"{what}; move it, or give another --output")


def _find_other(record: Path, files: Sequence[Path]) -> str | None:
    """A file that a record's results were made from, if none of them is among ``files``: none has
    the name of one, or those are in another folder and of other sizes. None of a damaged record."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        made = {file["file"]: file.get("bytes") for file in known["made_from"]["files"]}
        folder = Path(known["report"]["frames"][0]["file"]).resolve().parent
        same = [path for path in files if path.name in made]
        if any(path.resolve().parent == folder for path in same):
            return None
        with contextlib.suppress(OSError):  # an absent file is named later
            if any(path.stat().st_size == made[path.name] for path in same):
                return None
        return str(folder / min(made)) if same else min(made)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


@dataclass
class Outputs:
    """Writes the files of one stack: ``NAME-Fusion.png``, ``NAME-Index.png`` …"""

    folder: Path
    name: str  # of the stack
    suffix: str  # of the fused image and the aligned frames
    frames: Frames
    options: Options
    also: Observe | None = None  # called with each frame
    _shown: list[Image.Image] = field(default_factory=list)

    def observe(self, step: Step) -> None:
        """Write the steps of a frame and keep its preview."""
        metadata = self.frames.metadata[step.frame]
        if self.also:
            self.also(step, metadata)
        if self.options.steps:
            start = self._path("Steps") / f"{step.frame:03}"
            photo = Photo(step.aligned, self.frames.stack.grey, metadata=Metadata(metadata.icc))
            write_photo(f"{start}-Aligned{self.suffix}", photo)
            write_png(f"{start}-Guidance.png", step.guidance)
            write_png(f"{start}-Boundary.png", step.boundary)
        count = len(self.frames)  # those of the preview are evenly spaced from first to last
        previewed = np.linspace(0, count - 1, min(count, PREVIEWED)).round()
        if self.options.preview and step.frame in previewed:
            self._shown.append(make_thumbnail(step.aligned))

    def write(self, fusion: Fusion, photo: Photo) -> dict[str, str]:
        """Write the results, with ``photo`` as the fused image; returns file names by kind."""
        files = {"fused": self._path(f"Fusion{self.suffix}")}
        write_photo(files["fused"], photo)
        if self.options.maps:
            depth = colorize(fusion.index, len(self.frames))
            maps = fusion.index, depth, fusion.confidence, fusion.guidance, fusion.boundary
            for kind, image in zip(MAPS, maps, strict=True):
                if image is not None:
                    files[kind.lower()] = self._path(f"{kind}.png")
                    write_png(files[kind.lower()], image)
        if self.options.preview:
            files["preview"] = self._path("Preview.webp")
            first, *others = [*self._shown, make_thumbnail(fusion.image)]
            first.save(
                files["preview"],
                quality=85,
                save_all=True,
                append_images=others,
                duration=[FRAME_TIME] * len(others) + [RESULT_TIME],
                loop=0,
                icc_profile=photo.metadata.profile(),
            )
        if self.options.steps:
            files["steps"] = self._path("Steps")
        return {kind: path.name for kind, path in files.items()}

    def _path(self, kind: str) -> Path:
        return file_of(self.folder, self.name, kind)


def colorize(index: np.ndarray, count: int) -> np.ndarray:
    """Frame numbers (H, W) below ``count`` as colours (H, W, 3) uint8, from dark to bright."""
    shades = np.rint(np.arange(count) * (255 / max(1, count - 1))).astype(np.uint8)
    palette = cv2.applyColorMap(shades[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    picture = np.empty((*index.shape, 3), np.uint8)
    for row, colours in zip(index, picture, strict=True):  # a map of all would take 8 bytes a pixel
        colours[...] = palette[row]
    return picture


def make_thumbnail(image: np.ndarray, side: int = PREVIEW) -> Image.Image:
    """(H, W, 3) of any type as an 8-bit picture of at most ``side`` pixels."""
    share = shrink(image, side) / white(image.dtype)
    return Image.fromarray(np.rint(share * 255).astype(np.uint8))
