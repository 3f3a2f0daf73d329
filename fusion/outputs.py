"""Files of a result: the fused image, maps of where it comes from, steps, a preview."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fusion.backends import LARGEST
from fusion.fuse import Fusion, Step
from fusion.options import Options
from fusion.pairs import is_same
from fusion.stack_files import Stack
from utils.atomic import replaceable
from utils.errors import UserError
from utils.images import Photo, check_writable, write_photo, write_png

FORMATS = {"png": ".png", "tiff": ".tif", "jpg": ".jpg", "webp": ".webp"}
PREVIEW = 800  # pixels: long side at most
PREVIEWED = 24  # frames at most: a preview of any stack stays small
FRAME_TIME, RESULT_TIME = 150, 2000  # ms
STEP = re.compile(r"\d+-(Aligned|Guidance|Boundary)\.\w+")  # a file of --save-steps
MAPS = ("Index", "Depth", "Confidence", "Guidance", "Boundary")


def result_path(folder: Path, name: str, format: str | None, dtype: np.dtype) -> Path:
    """File of the fused image: by default of a type that holds its pixels exactly.

    Raises:
        UserError: the format cannot hold them.
    """
    format = format or ("tiff" if dtype == np.float32 else "png")
    path = folder / f"{name and name + '-'}Fusion{FORMATS[format]}"
    check_writable(path, dtype)
    return path


def writing_memory(options: Options, size: tuple[int, int]) -> int:
    """Bytes that what is written beside the result (H, W) takes beyond merging, as measured."""
    pixels = size[0] * size[1]
    maps = 13 * options.maps + 6 * options.steps + 2 * LARGEST * (options.steps or options.preview)
    return maps * pixels + 60_000_000 * options.preview


def check_free(result: Path, options: Options, sources: Sequence[Path]) -> None:
    """Refuse to overwrite the user's files with a stack's results.

    Raises:
        UserError: a photograph that is fused has the name of a result, or a folder has, or the
            folder of steps holds what no earlier run wrote.
    """
    start = str(result).rpartition("-")[0]
    kinds = ["Record.json", *(f"{kind}.png" for kind in MAPS if options.maps)]
    kinds += ["Preview.webp"] * options.preview
    check_files([result, *(Path(f"{start}-{kind}") for kind in kinds)], sources)
    steps = Path(f"{start}-Steps")
    if not options.steps or not os.path.lexists(steps):
        return
    try:
        foreign = [name for name in sorted(os.listdir(steps)) if not STEP.fullmatch(name)]
    except OSError as error:
        raise UserError(f"cannot write {steps}: {error.strerror}") from error
    if foreign or steps.is_symlink():
        what = f"holds {foreign[0]}, which no earlier run wrote" if foreign else "is a link"
        raise UserError(f"{steps} {what}; rename it, or give another --output")


def check_files(results: Iterable[Path], sources: Sequence[Path]) -> None:
    """Check that files can be written, and that none of them is an input.

    Raises:
        UserError: one is, or a folder has its name.
    """
    for result in results:
        if any(is_same(result, path) for path in sources):
            raise UserError(f"{result} is both a photograph and the result; give another --output")
        replaceable(result)


@dataclass
class Outputs:
    """Writes the files of one stack.

    Attributes:
        folder: where to.
        result: name of the fused image, ``NAME-Fusion.png``; aligned frames are of its type, and
            other files named likewise, ``NAME-Index.png``, ….
        stack: its frames.
        options: what is to be written.
    """

    folder: Path
    result: str
    stack: Stack
    options: Options
    _shown: list[Image.Image] = field(default_factory=list)

    def observe(self, step: Step) -> None:
        """Observe a frame, as :func:`fusion.fuse.fuse` reports it."""
        if self.options.steps:
            start = self.folder / self._name("Steps") / f"{step.frame:03}"
            aligned = Path(f"{start}-Aligned").with_suffix(Path(self.result).suffix)
            write_photo(aligned, Photo(step.aligned, self.stack.grey))
            write_png(f"{start}-Guidance.png", step.guidance)
            write_png(f"{start}-Boundary.png", step.boundary)
        if self.options.preview and step.frame in _spread(len(self.stack.frames), PREVIEWED):
            self._shown.append(small(step.aligned))

    def write(self, fusion: Fusion, photo: Photo) -> dict[str, str]:
        """Write the results; ``photo`` is the fused image with what belongs to its file.

        Returns:
            The name of each kind of file.
        """
        files = {"fused": self.result}
        write_photo(self.folder / self.result, photo)
        if self.options.maps:
            maps = {
                "index": fusion.index,
                "depth": colored(fusion.index, len(self.stack.frames)),
                "confidence": fusion.confidence,
            }
            if fusion.guidance is not None:
                maps |= {"guidance": fusion.guidance, "boundary": fusion.boundary}
            for kind, image in maps.items():
                files[kind] = self._name(f"{kind.capitalize()}.png")
                write_png(self.folder / files[kind], image)
        if self.options.preview:
            files["preview"] = self._name("Preview.webp")
            self._animate(self.folder / files["preview"], small(fusion.image))
        if self.options.steps:
            files["steps"] = self._name("Steps")
        return files

    def _name(self, kind: str) -> str:
        return f"{self.result.rpartition('Fusion.')[0]}{kind}"

    def _animate(self, path: Path, result: Image.Image) -> None:
        """An animation: the frames one after another, then the result for a while, in a loop."""
        times = [FRAME_TIME] * len(self._shown) + [RESULT_TIME]
        first, *others = [*self._shown, result]
        first.save(path, save_all=True, append_images=others, duration=times, loop=0, quality=85)


def colored(index: np.ndarray, count: int) -> np.ndarray:
    """Frame numbers (H, W) below ``count`` as colours (H, W, 3) uint8, from dark to bright."""
    shades = np.rint(np.arange(count) * (255 / max(1, count - 1))).astype(np.uint8)
    palette = cv2.applyColorMap(shades[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    picture = np.empty((*index.shape, 3), np.uint8)
    for row, colours in zip(index, picture, strict=True):  # a map of all would take 8 bytes a pixel
        colours[...] = palette[row]
    return picture


def small(image: np.ndarray) -> Image.Image:
    """(H, W, 3) of any type as a picture of at most :data:`PREVIEW` pixels, 8-bit."""
    height, width = image.shape[:2]
    scale = min(1.0, PREVIEW / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    full = 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
    return Image.fromarray(np.rint(np.clip(image / full, 0, 1) * 255).astype(np.uint8))


def _spread(count: int, most: int) -> set[int]:
    """Choose numbers below ``count``, evenly spread, with the first and the last."""
    return set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist())
