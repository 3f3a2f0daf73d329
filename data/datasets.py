"""PyTorch datasets: samples generated on the fly, and samples stored by `data.generate`.

Training reads a dataset by *draw*, the running number of a sample in the whole training. A draw
depends on the seed and its number alone, so the number of workers or processes changes nothing, and
a resumed run continues exactly where it stopped.
"""

import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from defocus.materials import Generator
from defocus.matting import Unusable
from defocus.sample import SampleGenerator
from defocus.scene import SceneGenerator
from defocus.sources import read_image
from utils.errors import UserError
from utils.process import end_with_parent, keep_freed_memory


class Batch(NamedTuple):
    """Photographs (B, N, 3, H, W) and truth (B, 3, H, W), RGB, and guidance G* (B, N, 1, H, W), see
    :class:`models.initial_fusion.Guidance`; float32 in [0, 1]. Items of a dataset have no B."""

    photographs: Tensor
    truth: Tensor
    guidance: Tensor


class Draw(NamedTuple):
    number: int  # of the sample, counted over the whole training
    count: int | None = None  # of its photographs; None for a pair of the two-layer model


@dataclass
class GeneratedDataset(Dataset):
    """Samples made on the fly; ``length`` only limits what ``len`` says."""

    generator: Generator
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        return Batch(*self.generator[index][:3])


@dataclass
class Mixture(Dataset):
    """Training samples by draw: pairs of the two-layer model, and scenes in any number of
    photographs. ``share`` of the steps, chosen by ``seed``, learn from pairs."""

    pairs: SampleGenerator
    scenes: SceneGenerator | None
    share: float
    seed: int

    def count(self, step: int) -> int | None:
        """Photographs in each sample of a step; None for pairs."""
        rng = np.random.default_rng([self.seed, step, 2])
        if rng.random() < self.share or not self.scenes:
            return None
        low, high = self.scenes.config.photographs
        return int(rng.integers(low, high + 1))

    def __getitem__(self, draw: Draw) -> Batch:
        number, count = draw
        sample = self.pairs[number] if count is None else self.scenes.sample(number, count)
        return Batch(*sample[:3])


class StoredDataset(Dataset):
    """A folder in the layout of the released code: InputL, InputR, FusionGT, FusionMapT.

    By draw it goes through all samples in an order shuffled anew each epoch, with random flips and
    crops of ``crop`` pixels, all by ``seed``. Without a crop, item i is sample i, whole. Raises
    :class:`UserError` without samples, or (on reading) for a file missing, broken or too small.
    """

    def __init__(self, root: str | Path, crop: int | None = None, seed: int = 0):
        self.root, self.crop, self.seed = Path(root), crop, seed
        names = (path.stem.removesuffix("_L") for path in self.root.glob("InputL/*_L.png"))
        self.names = sorted(names, key=lambda name: (len(name), name))
        maps = sorted(self.root.glob("FusionMapT/*_*.png"), reverse=True)
        self.maps = {path.stem.rpartition("_")[0]: path for path in maps}
        self.epoch, self.order = -1, np.empty(0)
        if not self.names:
            missing = f"no samples N_L.png in {self.root / 'InputL'}"
            raise UserError(f"{missing}; write some with python -m data.generate")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | Draw) -> Batch:
        draw = index.number if isinstance(index, Draw) else index
        pixels = self._read(self.names[draw]) if self.crop is None else self._cropped(draw)
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)) / 255)
        photographs, truth, guidance = planes.split([6, 3, 1])
        return Batch(photographs.unflatten(0, (2, 3)), truth, torch.stack([guidance, 1 - guidance]))

    def _cropped(self, draw: int) -> np.ndarray:
        epoch, position = divmod(draw, len(self.names))
        if self.epoch != epoch:
            rng = np.random.default_rng([self.seed, epoch, 1])
            self.epoch, self.order = epoch, rng.permutation(len(self.names))
        pixels = self._read(self.names[self.order[position]])
        rng = np.random.default_rng([self.seed, draw])
        height, width = pixels.shape[:2]
        if min(height, width) < self.crop:
            small = f"samples in {self.root} are {width}×{height}, smaller than the crop"
            raise UserError(f"{small} of {self.crop}; lower data.defocus.size")
        top, left = (int(rng.integers(n - self.crop + 1)) for n in (height, width))
        pixels = pixels[top : top + self.crop, left : left + self.crop]
        for axis in (1, 0):
            if rng.random() < 0.5:
                pixels = np.flip(pixels, axis)
        return pixels

    def _read(self, name: str) -> np.ndarray:
        """Photographs, truth and guidance map, (H, W, 3 + 3 + 3 + 1) float32 from 0 to 255."""
        if name not in self.maps:
            raise UserError(f"{self.root / 'FusionMapT'} has no guidance map {name}_*.png")
        colored = f"InputL/{name}_L.png", f"InputR/{name}_R.png", f"FusionGT/{name}_FR.png"
        files = [(self.root / file, cv2.IMREAD_COLOR) for file in colored]
        planes: list[np.ndarray] = []
        for path, flags in (*files, (self.maps[name], cv2.IMREAD_GRAYSCALE)):
            try:
                planes.append(read_image(path, flags))
                if planes[-1].shape[:2] != planes[0].shape[:2]:
                    raise Unusable("not of the same size as the other images of its sample")
            except Unusable as reason:
                message = f"{path}: {reason}; delete sample {name} or generate it again"
                raise UserError(message) from reason
        # 8 bits have no middle: 127 or 128 stands for the 0.5 of the FDB.
        planes[3] = np.where(np.abs(planes[3] - 127.5) < 1, 127.5, planes[3])[..., None]
        return np.concatenate(planes, axis=2, dtype=np.float32)


@dataclass
class DrawSampler:
    """The draws of process ``rank`` of ``world`` in the steps from ``start`` to before ``stop``.

    A batch is ``batch`` pairs, or fewer samples of more photographs, so that a step takes about as
    long; ``count`` says how many photographs, see :meth:`Mixture.count`.
    """

    batch: int
    start: int
    stop: int
    rank: int = 0
    world: int = 1
    count: Callable[[int], int | None] = lambda step: None

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.start, self.stop):
            first = (step * self.world + self.rank) * self.batch
            count = self.count(step)
            size = max(1, 2 * self.batch // (count or 2))
            yield [Draw(number, count) for number in range(first, first + size)]


class _Loader(DataLoader):
    """Errors of workers in one sentence, as if raised in this process."""

    def __iter__(self) -> Iterator[Batch]:
        try:
            yield from super().__iter__()
        except UserError as error:  # its message is a traceback
            _let_go(error)
            last = str(error).strip().splitlines()[-1]
            raise UserError(last.rpartition("UserError: ")[2]) from None
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            _let_go(error)
            killed = "a worker was killed, likely for want of memory"
            raise UserError(f"{killed}; take fewer than {self.num_workers} workers") from error


def _let_go(error: Exception) -> None:
    """End the workers whose error it is. Its frames refer to them in a circle, which the garbage
    collector would find later: perhaps in a worker of the next loader, where that is a fault."""
    traceback.clear_frames(error.__traceback__)


def draw_loader(dataset: Dataset, sampler: DrawSampler, workers: int, pin: bool) -> DataLoader:
    """Batches of draws, made by ``workers`` processes of one thread each."""
    return _Loader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        worker_init_fn=_start_worker,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
    )


def in_order(dataset: Dataset, batch: int | None, workers: int = 0) -> DataLoader:
    """Batches of a dataset, or its items if ``batch`` is None, from the first to the last, once."""
    return _Loader(dataset, batch, num_workers=workers, worker_init_fn=_start_worker)


def _start_worker(_number: int) -> None:
    # Ctrl-C reaches the workers too, but they are needed until what they made has been saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # So does the SIGTERM of a job scheduler, but a second one is the parent's.
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
