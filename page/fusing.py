"""Fuse uploads as the command line does, and draw the result for the browser."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.backends import Backend
from fusion.batch import frame_names
from fusion.fuse import Progress, Step
from fusion.fuse_files import fuse_stack
from fusion.outputs import Options, colorize, make_thumbnail
from fusion.stack_files import find_stack
from utils.atomic import atomic_path
from utils.images import Metadata, read_photo

SHOWN = 2000  # pixels: long side of a picture on the page; the download has full size
QUALITY = 92  # of JPEG
DEPTHS = {"uint8": "8 bit", "uint16": "16 bit", "float32": "floating point"}


@dataclass(frozen=True)
class Result:
    """Files of a finished fusion."""

    fused: Path  # at full size and depth, byte for byte what the command line writes
    shown: Path  # the same for the browser
    sources: list[tuple[Path, str]]  # each aligned photograph for the browser, and its name
    # The source of each pixel in colours; for two photographs also guidance and boundary map.
    maps: tuple[Path, Path | None, Path | None]
    summary: str  # HTML: size, time, warnings and the legend of the colours


def fuse_uploads(
    backend: Backend, paths: Sequence[Path], align: bool, folder: Path, progress: Progress
) -> Result:
    """Fuse photographs into a folder as ``run_inference.py --stack`` does; raises
    :class:`UserError` if they cannot be read or do not fit each other."""
    shown = {}

    def observe(step: Step, metadata: Metadata) -> None:
        path = folder / f"shown-{step.frame}.jpg"
        shown[step.frame] = _show(path, step.aligned, metadata.profile())

    options = Options(align=align, maps=True)
    source = find_stack(paths)
    if source.name == source.origin.parent.name:  # names have no common beginning
        source = source._replace(name="fused")  # not after the folder, which is the server's
    if len(paths) > 1:  # errors name it: not the first file, which may be right
        source = source._replace(origin=Path("these photographs"))
    report = fuse_stack(backend, source, folder, options, progress, observe)
    names = frame_names(report)
    files = {kind: folder / name for kind, name in report["files"].items()}
    origin = _show(folder / "origin.png", read_photo(files["depth"]).rgb)
    fused = read_photo(files["fused"])
    return Result(
        fused=files["fused"],
        shown=_show(folder / "shown.jpg", fused.rgb, fused.metadata.profile()),
        sources=[(path, names[i]) for i, path in shown.items()],
        maps=(origin, files.get("guidance"), files.get("boundary")),
        summary=_summary(report, names),
    )


def _summary(report: dict, names: Sequence[str]) -> str:
    """HTML of a stack's report, and the colour of each photograph."""
    palette = colorize(np.arange(len(names)), len(names)).tolist()
    notes, legend = [], []
    for name, frame, color in zip(names, report["frames"], palette, strict=True):
        if not frame["used"]:
            notes.append(f"{name} was left out: {frame['reason']}.")
            continue
        mark = f'<i style="background: rgb{tuple(color)}"></i>'
        legend.append(f"<span>{mark}{html.escape(name)}</span>")
        if frame["warning"]:
            notes.append(f"{name}: {frame['warning']}.")
    for unread in report["unread"]:
        notes.append(f"{Path(unread['file']).name} was left out: it cannot be read.")
    if report["shuffled"]:
        notes.append(
            "By their names, the photographs are in no order of focus, which harms alignment: "
            "name them in the order in which they were taken."
        )
    fused = (
        f"{len(legend)} photographs fused in {report['seconds']:.2f} s: "
        f"{report['width']}×{report['height']} pixels, {DEPTHS[report['type']]}."
    )
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in [fused, *notes])
    return f'{lines}<p class="legend">{"".join(legend)}</p>'


def _show(path: Path, image: np.ndarray, icc: bytes | None = None) -> Path:
    """Write an image (H, W, 3) of a colour profile, by default sRGB, for the browser."""
    with atomic_path(path) as temporary:
        make_thumbnail(image, SHOWN).save(temporary, quality=QUALITY, icc_profile=icc)
    return path
