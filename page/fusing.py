"""Uploads to results: what the command line does, and pictures of it for the browser."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from fusion.pairs import name_pair
from fusion.stack_files import find_stack
from models.build import load_model
from fusion.backends import WEIGHTS, load_cascade
from fusion.fuse import Progress, Step
from fusion.fuse_files import fuse_stack
from fusion.options import Options
from fusion.outputs import colored
from fusion.pairs import fuse_pair
from utils.device import choose_device
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
    """The trained cascade, with the same weights in the same form as the command line has.

    Args:
        weights: safetensors, by default the shipped.
        device: as ``--device`` has it.
    """

    def __init__(self, weights: Path = WEIGHTS, device: str = "auto"):
        model = load_model(weights).to(choose_device(device))
        self.model = model.to(memory_format=torch.channels_last)
        self.cascade = load_cascade(None if weights == WEIGHTS else weights, device)

    def fuse(self, paths: Sequence[Path], align: bool, folder: Path, progress: Progress) -> Result:
        """Fuse photographs into a folder as ``run_inference.py`` does.

        Two that need no alignment are a pair, anything else is a stack.

        Raises:
            UserError: they cannot be read or do not fit each other.
        """
        if len(paths) == 2 and not align:
            return self._fuse_pair(paths, folder, progress)
        return self._fuse_stack(paths, align, folder, progress)

    def _fuse_pair(self, paths: Sequence[Path], folder: Path, progress: Progress) -> Result:
        done = fuse_pair(self.model, name_pair(*paths), folder, maps=True)
        sources = [
            (_show(folder / f"shown-{i}.jpg", read_photo(paths[i]).rgb), paths[i].name)
            for i in progress(range(2), "showing")
        ]
        fused, guidance, boundary = (Path(done[k]) for k in ("fused", "guidance", "boundary"))
        index = (cv2.imread(str(guidance), cv2.IMREAD_GRAYSCALE) < 128).astype(np.uint16)
        image = read_photo(fused).rgb
        return Result(
            fused,
            _show(folder / "shown.jpg", image),
            sources,
            (_show(folder / "origin.png", colored(index, 2)), guidance, boundary),
            _summary(image, done["seconds"], {i: path.name for i, path in enumerate(paths)}, 2),
        )

    def _fuse_stack(
        self, paths: Sequence[Path], align: bool, folder: Path, progress: Progress
    ) -> Result:
        shown, decided = {}, {}

        def observe(step: Step) -> None:
            shown[step.frame] = _show(folder / f"shown-{step.frame}.jpg", step.aligned)
            if len(paths) == 2:
                for kind in ("guidance", "boundary"):
                    decided[kind] = _show(folder / f"{kind}.png", getattr(step, kind))

        source, options = find_stack(paths), Options(align=align, maps=True)
        report = fuse_stack(self.cascade, source, folder, options, progress, observe)
        used, left_out = {}, []
        for i, frame in enumerate(report["frames"]):
            name = Path(frame["file"]).name
            if frame["used"]:
                used[i] = name
            else:
                left_out.append(f"{name} was left out: {frame['reason']}.")
        decoded = sum("matrix" in frame for frame in report["frames"])
        fused, origin = (folder / report["files"][kind] for kind in ("fused", "depth"))
        image = read_photo(fused).rgb
        return Result(
            fused,
            _show(folder / "shown.jpg", image),
            [(shown[i], name) for i, name in used.items()],
            (
                _show(folder / "origin.png", read_photo(origin).rgb),
                decided.get("guidance"),
                decided.get("boundary"),
            ),
            _summary(image, report["seconds"], used, decoded, left_out),
        )


def _summary(
    fused: np.ndarray,
    seconds: float,
    names: dict[int, str],
    count: int,
    left_out: Sequence[str] = (),
) -> str:
    """What was done; ``names`` are of the photographs that were used of ``count``."""
    height, width = fused.shape[:2]
    palette = colored(np.arange(count), count).tolist()
    marks = "".join(
        f'<span><i style="background: rgb{tuple(palette[i])}"></i>{html.escape(name)}</span>'
        for i, name in names.items()
    )
    lines = [
        f"{len(names)} photographs fused in {seconds:.2f} s: {width}×{height} pixels, "
        f"{DEPTHS[str(fused.dtype)]}.",
        *map(html.escape, left_out),
    ]
    return "".join(f"<p>{line}</p>" for line in lines) + f'<p class="legend">{marks}</p>'


def _show(path: Path, image: np.ndarray) -> Path:
    """Write an image for the browser: 8 bits, no larger than is shown.

    Args:
        image: (H, W, 3) or (H, W), uint8, uint16 or floating point in [0, 1].
    """
    if image.dtype != np.uint8:
        full = np.iinfo(image.dtype).max if image.dtype == np.uint16 else 1
        image = np.rint(np.clip(image / np.float32(full), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(image)
    picture.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    picture.save(path, quality=QUALITY)
    return path
