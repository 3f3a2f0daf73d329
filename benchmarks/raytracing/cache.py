"""Rendered stacks on disk: each is rendered once; interrupted renders resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from defocus.sources import Photographs
from evaluation.tables import write_text
from utils.errors import UserError
from utils.images import read_photo, write_png

if TYPE_CHECKING:  # needs numba, which scores do without
    from benchmarks.raytracing.lens import Lens

FORMAT = 1  # of the files; those of another one are rendered again
SCALE = 256  # of disparities in disparity.png
SEEN = (0.1, 99.9)  # percentiles of the depth that the photographs are focused between


@dataclass(frozen=True)
class Class:
    """Stacks of one size."""

    name: str  # megapixels
    size: tuple[int, int]  # (H, W) in pixels
    scenes: int
    frames: int  # photographs of a scene
    steps: tuple[float, float]  # range of the blur radius, px, where the next photograph is sharp


CLASSES = (
    Class("0.4", (560, 720), 12, 8, (1.0, 2.2)),
    Class("1.2", (952, 1264), 6, 8, (1.6, 3.4)),
    Class("6", (2128, 2832), 2, 10, (2.4, 3.4)),
)


@dataclass(frozen=True)
class Motion:
    """How the camera moves from photograph to photograph."""

    breathing: float = 0.0  # relative change of magnification from the first to the last
    shake: float = 0.0  # px, at a width of 720, by rotation; half of it by parallax at mid-depth


@dataclass(frozen=True)
class Stack:
    """A stack on disk."""

    home: Path  # holds frames/001.png …, truth.png, disparity.png, about.json
    kind: Class
    seed: int  # of the scene

    @property
    def name(self) -> str:
        """In tables."""
        return self.home.name

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
        """Files not rendered yet, the disparity first."""
        return [p for p in (self.disparity, self.truth, *self.frames) if not p.exists()]


def stacks(
    folder: Path, classes: Sequence[Class], motion: Motion, scenes: int | None = None
) -> Iterator[Stack]:
    """The stacks of some sizes, rendered or not; at most ``scenes`` of each size."""
    moved = "".join(f"-{name}{value:g}" for name, value in asdict(motion).items() if value)
    for kind in classes:
        for seed in range(1, 1 + min(kind.scenes, scenes or kind.scenes)):
            yield Stack(folder / f"{kind.name}-{seed:02d}{moved}", kind, seed)


def render_all(wanted: Sequence[Stack], photographs: Path, motion: Motion) -> None:
    """Render the missing files of some stacks, with a progress bar.

    Raises:
        UserError: no photographs; numba is not installed; or a folder cannot be written to.
    """
    for stack in wanted:
        _prepare(stack, photographs, motion)
    areas = [math.prod(stack.kind.size) * len(stack.missing()) for stack in wanted]
    if not sum(areas):
        return
    source = Photographs(photographs)
    pictures = [source[i] for i in range(len(source))]
    with tqdm(total=sum(areas) / 1e6, unit="MP", disable=None, smoothing=0.05) as bar:
        for stack in wanted:
            bar.set_description(stack.name)
            for path, pixels in _render(stack, pictures, motion, lambda n: bar.update(n / 1e6)):
                write_png(path, pixels)


def _prepare(stack: Stack, photographs: Path, motion: Motion) -> None:
    """Delete files that were rendered of another scene."""
    about = {"format": FORMAT, "photographs": photographs.resolve().name, "seed": stack.seed}
    about |= asdict(stack.kind) | asdict(motion)
    del about["scenes"]  # does not change a stack
    note = stack.home / "about.json"
    text = json.dumps(about, indent=1) + "\n"
    if not note.exists() or note.read_text() != text:
        for path in (stack.disparity, stack.truth, *stack.frames):
            path.unlink(missing_ok=True)
        write_text(note, text)


def _render(
    stack: Stack, pictures: Sequence[np.ndarray], motion: Motion, progress: Callable[[int], object]
) -> Iterator[tuple[Path, np.ndarray]]:
    """The missing files and their pixels."""
    missing = stack.missing()
    if not missing:
        return
    try:
        from benchmarks.raytracing.lens import Lens
        from benchmarks.raytracing.render import TRUTH, depths, eight_bit, render
        from benchmarks.raytracing.scene import WIDE, compose
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        raise UserError("scenes are rendered by numba, not installed: pip install numba") from error
    size, seed = stack.kind.size, (FORMAT, round(float(stack.kind.name) * 10), stack.seed)
    scene, focal = compose(seed, size, pictures), WIDE * size[1]
    depth = depths(scene, focal, size)
    lenses = _lenses(stack, depth, focal, seed, motion)
    for path in missing:
        if path == stack.disparity:
            disparity = focal * lenses[0].radius / depth * SCALE
            yield path, np.clip(disparity, 0, 65535).astype(np.uint16)
            progress(math.prod(size))
        elif path == stack.truth:
            pinhole = Lens(focal, 0.0, 1.0)
            yield path, eight_bit(render(scene, pinhole, size, 0, TRUTH, progress)[0])
        else:
            number = stack.frames.index(path)
            light = render(scene, lenses[number], size, 1 + number, progress=progress)[0]
            yield path, eight_bit(light)


def _lenses(
    stack: Stack, depth: np.ndarray, focal: float, seed: tuple[int, ...], motion: Motion
) -> list[Lens]:
    """One for each photograph, focused from near to far at equal steps of blur, so that every
    depth is nearly in focus in one of them; the aperture sets the width of the steps."""
    from benchmarks.raytracing.lens import Lens

    rng, kind = np.random.default_rng((*seed, 1)), stack.kind
    far, near = np.percentile(1 / depth, SEEN)
    step = rng.uniform(*kind.steps)
    radius = step * (kind.frames - 1) / (focal * (near - far))
    blades, rotation = int(rng.choice((0, 0, 5, 6, 7, 9))), rng.uniform(0, 2 * math.pi)
    middle, depth = kind.frames // 2, 2 / (near + far)
    lenses = []
    for number, focus in enumerate(1 / np.linspace(near, far, kind.frames)):
        away = (number - middle) / (kind.frames - 1)
        shake = rng.normal(0, motion.shake * kind.size[1] / 720 / math.sqrt(2), (2, 2))
        turn, move = shake if number != middle else np.zeros((2, 2))
        aperture = (radius, focus, blades, rotation)
        hand = tuple(turn), tuple(move / 2 * depth / focal)
        lenses.append(Lens(focal * (1 + motion.breathing * away), *aperture, *hand))
    return lenses
