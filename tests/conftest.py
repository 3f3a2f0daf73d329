"""Tiny photographs and a tiny cascade made on the fly, and what several tests share."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: threads would queue
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest
import torch

from defocus.sample import DefocusConfig, SampleGenerator
from defocus.sources import Photographs
from models.build import build, save_weights

# A shell's background jobs (`pytest &`) begin with Ctrl-C ignored, and so would what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
SMOKE = str(ROOT / "configs" / "smoke.yaml")
NETS = {
    "initial": {"name": "SetInitialFusion", "args": {"widths": [4, 6]}},
    "boundary": {
        "name": "SetBoundaryFusion",
        "args": {"widths": [4, 6], "blocks": [1, 1]},
    },
}
# Files of long tests are begun first: at the end a worker would be alone with them.
LONG = ("readme", "distributed", "docs", "training", "batch", "faults", "ablation")
# By their hashes, fraction 0.3 holds out 2, 3, 4 and 7 of these names.
PHOTOGRAPHS = [f"photo-{i}" for i in range(8)]
FIRST_FRAME = """
import shutil, sys
from pathlib import Path
frames, output = map(Path, sys.argv[1:])
shutil.copyfile(sorted(frames.iterdir())[0], output / "fused.png")
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


def first_frame(stacks: Sequence[Path], output: Path, align: bool) -> list[list[str]]:
    """Command lines of a program whose result is the first frame of a stack."""
    return [[sys.executable, "-c", FIRST_FRAME, str(stack), str(output)] for stack in stacks]


def texture(seed: int, height: int = 144, width: int = 160) -> np.ndarray:
    """(H, W, 3) uint8: coloured noise at several scales, sharp enough for `defocus.sources`."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for scale in (1, 4, 16):
        coarse = rng.standard_normal((height // scale + 2, width // scale + 2, 3), np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(128 + 30 * image, 0, 255).astype(np.uint8)


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """What takes longer fails."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> str:
    """A cascade of :data:`NETS` as it begins its training."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, build(NETS).state_dict(), NETS)
    return str(path)


@pytest.fixture(scope="session")
def onnx_weights(weights) -> str:
    """The same as a graph."""
    pytest.importorskip("onnxruntime")
    from models import export

    path = Path(weights).with_suffix(".onnx")
    assert export.main(["--onnx", str(path), "--weights", weights]) == 0
    return str(path)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """A folder of eight photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed, name in enumerate(PHOTOGRAPHS):
        cv2.imwrite(str(folder / f"{name}.png"), texture(seed))
    return folder


@pytest.fixture(scope="session")
def cutouts(tmp_path_factory) -> Path:
    """A folder of RGBA cut-outs, two of each photograph."""
    folder = tmp_path_factory.mktemp("cutouts")
    for seed, name in enumerate(PHOTOGRAPHS):
        for k in range(2):
            image = cv2.cvtColor(texture(100 + 2 * seed + k, 80, 90), cv2.COLOR_BGR2BGRA)
            image[..., 3] = cv2.circle(np.zeros((80, 90), np.uint8), (45, 40), 30, 255, -1)
            cv2.imwrite(str(folder / f"{name}__{k}.png"), image)
    return folder


@pytest.fixture(scope="session")
def generator(photographs) -> SampleGenerator:
    """Small samples of every PSF."""
    config = DefocusConfig(size=32, sigma=[0.7, 1.5])
    return SampleGenerator(config, Photographs(photographs), seed=3)


@pytest.fixture(scope="session")
def stored(tmp_path_factory) -> Callable[..., Path]:
    """Write a dataset in the layout of the released code whose pixels tell where they are.

    Red is the row, green the column, blue the sample; the guidance map is a function of both.
    """

    def write(samples: int = 5, size: int = 40) -> Path:
        root = tmp_path_factory.mktemp("stored")
        rows, columns = np.mgrid[:size, :size].astype(np.uint8)
        guidance = np.choose((rows // 3 + columns // 5) % 4, [0, 127, 128, 255]).astype(np.uint8)
        for i in range(samples):
            image = np.dstack([np.full_like(rows, i), columns, rows])  # OpenCV stores BGR
            planes = {"InputL/{}_L": image, "InputR/{}_R": image + 50}
            planes |= {"FusionGT/{}_FR": image + 100, "FusionMapT/{}_G": guidance}
            for name, plane in planes.items():
                path = root / f"{name.format(i + 1)}.png"
                path.parent.mkdir(exist_ok=True)
                cv2.imwrite(str(path), plane)
        return root

    return write
