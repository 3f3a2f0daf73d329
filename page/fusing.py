"""Fuse uploads as the command line does, and make previews for the browser."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fusion.backends import load_backend
from fusion.fuse import Progress, Step
from fusion.fuse_files import fuse_stack
from fusion.options import Options
from fusion.outputs import colored
from fusion.stack_files import find_stack
from utils.atomic import atomic_path
from utils.images import read_photo

SHOWN = 2000  # pixels: long side of a picture on the page; the download has them all
QUALITY = 92  # of JPEG
DEPTHS = {"uint8": "8 bit", "uint16": "16 bit", "float32": "floating point"}


@dataclass(frozen=True)
class Result:
    """Files of a finished fusion.

    Attributes:
        fused: at full size and depth, byte for byte what the command line writes.
        shown: the fused photograph for the browser.
        sources: likewise each photograph as it was fused (aligned), with its name.
        maps: where each pixel comes from, in one colour for each photograph; and of two
            photographs the guidance and the boundary map.
        summary: HTML: what was done, and whose colour is which.
    """

    fused: Path
    shown: Path
    sources: list[tuple[Path, str]]
    maps: tuple[Path, Path | None, Path | None]
    summary: str


class Fuser:
    """The trained cascade, the same as the command line's.

    Args:
        weights, device: as the command line has them.
    """

    def __init__(self, weights: Path | None = None, device: str = "auto"):
        self.backend = load_backend(weights, device)

    def fuse(self, paths: Sequence[Path], align: bool, folder: Path, progress: Progress) -> Result:
        """Fuse photographs into a folder as ``run_inference.py --stack`` does.

        Raises:
            UserError: they cannot be read or do not fit each other.
        """
        shown = {}

        def observe(step: Step) -> None:
            shown[step.frame] = _show(folder / f"shown-{step.frame}.jpg", step.aligned)

        source, options = find_stack(paths), Options(align=align, maps=True)
        report = fuse_stack(self.backend, source, folder, options, progress, observe)
        used, notes = {}, []
        for i, frame in enumerate(report["frames"]):
            name = Path(frame["file"]).name
            if frame["used"]:
                used[i] = name
                if frame["warning"]:
                    notes.append(f"{name}: {frame['warning']}.")
            else:
                notes.append(f"{name} was left out: {frame['reason']}.")
        if report["shuffled"]:
            notes.append(
                "By their names, the photographs are in no order of focus, which harms alignment: "
                "name them in the order in which they were taken."
            )
        files = {kind: folder / name for kind, name in report["files"].items()}
        image = read_photo(files["fused"]).rgb
        return Result(
            files["fused"],
            _show(folder / "shown.jpg", image),
            [(shown[i], name) for i, name in used.items()],
            (
                _show(folder / "origin.png", read_photo(files["depth"]).rgb),
                files.get("guidance"),
                files.get("boundary"),
            ),
            _summary(image, report["seconds"], used, len(report["frames"]), notes),
        )


def _summary(
    fused: np.ndarray,
    seconds: float,
    names: dict[int, str],
    count: int,
    notes: Sequence[str] = (),
) -> str:
    """The outcome and its message; ``names`` are of the photographs that were used
    of ``count``."""
    height, width = fused.shape[:2]
    palette = colored(np.arange(count), count).tolist()
    marks = "".join(
        f'<span><i style="background: rgb{tuple(palette[i])}"></i>{html.escape(name)}</span>'
        for i, name in names.items()
    )
    lines = [
        f"{len(names)} photographs fused in {seconds:.2f} s: {width}×{height} pixels, "
        f"{DEPTHS[str(fused.dtype)]}.",
        *map(html.escape, notes),
    ]
    return "".join(f"<p>{line}</p>" for line in lines) + f'<p class="legend">{marks}</p>'


def _show(path: Path, image: np.ndarray) -> Path:
    """Write a preview: 8 bits, no larger than shown.

    Args:
        image: (H, W, 3) or (H, W), uint8, uint16 or floating point in [0, 1].
    """
    if image.dtype != np.uint8:
        full = np.iinfo(image.dtype).max if image.dtype == np.uint16 else 1
        image = np.rint(np.clip(image / np.float32(full), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(image)
    picture.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    with atomic_path(path) as temporary:
        picture.save(temporary, quality=QUALITY)
    return path
