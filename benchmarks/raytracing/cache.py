"""Rendered stacks on disk: each is rendered once; interrupted renders resume."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from defocus.sources import Photographs, images_in
from utils.atomic import write_file
from utils.errors import UserError
from utils.images import read_photo

FORMAT = 1  # of the files; those of another one are rendered again
SCALE = 256  # of disparities in disparity.png


class SizeClass(NamedTuple):
    """Stacks of one size."""

    name: str  # its megapixels
    size: tuple[int, int]  # (H, W) in pixels
    scenes: int
    frames: int  # photographs of a scene
    steps: tuple[float, float]  # range of the blur radius, px, where the next photograph is sharp


CLASSES = (
    SizeClass("0.4", (560, 720), 12, 8, (1.0, 2.2)),
    SizeClass("1.2", (952, 1264), 6, 8, (1.6, 3.4)),
    SizeClass("6", (2128, 2832), 2, 10, (2.4, 3.4)),
)


class Motion(NamedTuple):
    """How the camera moves from photograph to photograph."""

    breathing: float = 0.0  # relative change of magnification from the first to the last
    shake: float = 0.0  # px, at a width of 720, by rotation; half of it by parallax at mid-depth

    @property
    def name(self) -> str:
        """Such as breathing0.02-shake1; empty without motion."""
        return "-".join(f"{name}{value:g}" for name, value in self._asdict().items() if value)


class Stack(NamedTuple):
    """A stack on disk."""

    home: Path  # holds the files below and about.json
    kind: SizeClass
    seed: int  # of the scene
    motion: Motion

    @property
    def frames(self) -> list[Path]:
        return [self.home / "frames" / f"{i:03d}.png" for i in range(1, self.kind.frames + 1)]

    @property
    def truth(self) -> Path:
        return self.home / "truth.png"

    @property
    def disparity(self) -> Path:
        """16 bits: 256 times the blur radius in pixels of each point when infinity is in focus;
        the difference of two is the blur of one when the other is in focus."""
        return self.home / "disparity.png"

    def read_disparity(self) -> np.ndarray:
        """(H, W) float32, in pixels."""
        return read_photo(self.disparity).rgb[..., 0].astype(np.float32) / SCALE

    def missing(self) -> list[Path]:
        """Files not rendered yet."""
        return [p for p in (self.disparity, self.truth, *self.frames) if not p.exists()]


def stacks(
    folder: Path, classes: Sequence[SizeClass], motion: Motion, scenes: int | None = None
) -> Iterator[Stack]:
    """The stacks of some sizes, rendered or not; at most ``scenes`` of each size."""
    moved = f"-{motion.name}" if motion.name else ""
    for kind in classes:
        for seed in range(1, 1 + min(kind.scenes, scenes or kind.scenes)):
            yield Stack(folder / f"{kind.name}-{seed:02d}{moved}", kind, seed, motion)


def render_all(wanted: Sequence[Stack], photographs: Path) -> None:
    """Render the missing files of some stacks, with a progress bar; raises :class:`UserError` if
    there are no photographs, numba is not installed, or a folder cannot be written to."""
    names = [path.name for path in images_in(photographs)]
    for stack in wanted:
        _clear(stack, photographs, names)
    wanted = [stack for stack in wanted if stack.missing()]
    if not wanted:
        return
    try:
        from benchmarks.raytracing.render import photograph
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        raise UserError("scenes are rendered by numba, not installed: pip install numba") from error
    pictures = list(Photographs(photographs))
    pixels = sum(math.prod(stack.kind.size) * len(stack.missing()) for stack in wanted)
    with tqdm(total=pixels / 1e6, unit="MP", disable=None, smoothing=0.05) as bar:
        for stack in wanted:
            bar.set_description(stack.home.name)
            photograph(stack, pictures, lambda n: bar.update(n / 1e6))


def _clear(stack: Stack, photographs: Path, names: Sequence[str]) -> None:
    """Delete files that were rendered of another scene, or of photographs of other ``names``."""
    about = {"format": FORMAT, "photographs": photographs.resolve().name, "seed": stack.seed}
    about |= stack.kind._asdict() | stack.motion._asdict()
    del about["scenes"]  # does not change a stack
    former = json.dumps(about, indent=1) + "\n"  # without names: of the same folder, so believed
    about["digest"] = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    note, text = stack.home / "about.json", json.dumps(about, indent=1) + "\n"
    if not note.exists() or note.read_text(encoding="utf-8") not in (text, former):
        for path in (stack.disparity, stack.truth, *stack.frames):
            path.unlink(missing_ok=True)
        write_file(note, text)
