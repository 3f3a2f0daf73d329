"""The engine against the cascade that it runs, and against rules with known answers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import texture
from focus_stacks import Sharpest

from fusion import backends as backends_module
from fusion import engine
from fusion.backends import OnnxBackend, TorchBackend
from fusion.engine import available_memory, fuse_group, group_size, needed_memory
from fusion.fuse import fuse
from fusion.windows import GRID, tiles
from models.build import build, load_model
from models.export import TOLERANCE

PAPER = {
    "initial": {"name": "InitialFusion", "args": {"channels": 6, "blocks": 2}},
    "boundary": {"name": "BoundaryFusion", "args": {"channels": 6, "blocks": 2}},
}
PAPER["initial"]["args"]["sigmoid"] = True


@pytest.fixture(scope="module")
def model(weights):
    return load_model(weights)


@pytest.fixture(scope="module")
def backends(weights, onnx_weights):
    return {"torch": TorchBackend(load_model(weights)), "onnx": OnnxBackend(onnx_weights)}


def scene(count: int, height: int = 131, width: int = 205) -> list[np.ndarray]:
    """Photographs that differ everywhere, each sharp somewhere."""
    return [texture(seed, height, width) for seed in range(count)]


def whole(model, photographs: list[np.ndarray]) -> np.ndarray:
    """What the cascade makes of the whole photographs at once."""
    x = torch.from_numpy(np.stack(photographs)).permute(0, 3, 1, 2)[None] / 255
    with torch.inference_mode():
        fused = model(x).fused[0].clamp(0, 1)
    return (255 * fused).round().byte().permute(1, 2, 0).numpy()


def steps(one: np.ndarray, two: np.ndarray) -> int:
    """By how many grey levels two pictures differ at most."""
    assert one.shape == two.shape and one.dtype == two.dtype
    return int(np.abs(one.astype(int) - two).max())


@pytest.fixture(params=["whole", "tiles", "half", "again"])
def scheme(request, monkeypatch):
    """How a picture is gone through; ``again`` looks at all of it at both resolutions."""
    monkeypatch.setattr(engine, "SQUARE", 128)
    if request.param == "tiles":
        monkeypatch.setattr(engine, "AT_ONCE", 3 * 160**2)
    if request.param in ("half", "again"):
        monkeypatch.setattr(engine, "WHOLE", 0)
    if request.param == "again":
        monkeypatch.setattr(engine, "VISIBLE", -1.0)
        monkeypatch.setattr(engine, "UNSURE", 1e-9)
    return request.param


@pytest.mark.parametrize("count", [2, 3, 5])
def test_it_is_the_cascade_whole_and_in_tiles(model, backends, scheme, count):
    """At half resolution too, where it is looked at again at full."""
    photographs = scene(count)
    results = [fuse(photographs, backend, align=False).image for backend in backends.values()]
    assert steps(*results) <= 1
    difference = np.abs(results[0].astype(int) - whole(model, photographs))
    # Looked at again, a box knows what is around its block by half resolution.
    share, most = {"half": (0.9, 100), "again": (0.1, 100)}.get(scheme, (0, 1))
    assert (difference > 1).mean() <= share and difference.max() <= most


def test_order_and_threads_make_no_difference(backends, scheme, monkeypatch):
    photographs = scene(4)
    expected = fuse(photographs, backends["onnx"], align=False)
    for threads in (1, 2, 4):
        monkeypatch.setattr(backends["onnx"], "threads", threads)
        for order in ([3, 0, 2, 1], [1, 2, 3, 0]):
            picture, _ = fuse_group(backends["onnx"], [photographs[i] for i in order], order)
            assert steps(picture.image, expected.image) <= 1
            assert (picture.index == expected.index).mean() > 0.999


def test_nets_of_the_paper_fuse_pairs(scheme):
    torch.manual_seed(1)
    model = build(PAPER).eval().requires_grad_(False)
    photographs = scene(2)
    image = fuse(photographs, TorchBackend(model), align=False).image
    most = 1 if scheme in ("whole", "tiles") else 100
    assert steps(image, whole(model, photographs)) <= most
    more = fuse(scene(3), TorchBackend(model), align=False)  # two by two
    assert set(np.unique(more.index)) == {0, 1, 2}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_equal_photographs_come_back_in_their_type(backends, scheme, dtype, count):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    frame = (texture(5, 90, 121) * dtype(scale)).astype(dtype)
    for backend in backends.values():
        fusion = fuse([frame] * count, backend, align=False)
        assert fusion.image.dtype == dtype
        np.testing.assert_allclose(fusion.image, frame, atol=1e-6 if dtype == np.float32 else 0)


def test_sixteen_bits_are_as_eight_and_finer(backends):
    photographs = scene(3)
    eight = fuse(photographs, backends["onnx"], align=False).image
    wide = [x.astype(np.uint16) * 257 for x in photographs]
    sixteen = fuse(wide, backends["onnx"], align=False).image
    floats = [x / np.float32(255) for x in photographs]
    exact = fuse(floats, backends["onnx"], align=False).image
    # As for an export: where photographs are all but tied, rounding of the input decides.
    differences = np.abs(sixteen / 65535 - exact)
    assert np.quantile(differences, 0.9999) < 0.51 / 65535 + 1e-4
    assert differences.max() < 0.51 / 65535 + TOLERANCE
    np.testing.assert_allclose(eight / 255, exact, atol=0.51 / 255)
    assert len(np.unique(sixteen)) > 300  # not 8 bits in 16


def strips(count: int, height: int, width: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Photographs that are sharp in a strip each, and which is sharp where."""
    sharp = texture(3, height, width)
    right = np.broadcast_to(np.arange(width) * count // width, (height, width))
    dull = np.full_like(sharp, 128)
    return [np.where((right == i)[..., None], sharp, dull) for i in range(count)], right


@pytest.mark.parametrize("whole_up_to", [0, engine.WHOLE])
@pytest.mark.parametrize("most", range(2, 9))
def test_groups_of_any_size_find_what_is_sharp(most, whole_up_to, monkeypatch):
    """Which photograph each pixel comes from, by the numbers given, through all groups."""
    monkeypatch.setattr(engine, "WHOLE", whole_up_to)
    monkeypatch.setattr("fusion.fuse.group_size", lambda *args: most)
    photographs, right = strips(9, 101, 640)
    fusion = fuse(photographs, Sharpest(), align=False)
    away = np.abs((np.arange(640) * 9 / 640) % 1 - 0.5) < 0.25  # of where strips meet
    assert np.array_equal(fusion.index[:, away], right[:, away])
    assert np.array_equal(fusion.image[:, away], texture(3, 101, 640)[:, away])
    assert (fusion.confidence[:, away] == 255).all()
    assert fusion.guidance is None


def test_the_boundary_sub_net_sees_photographs_with_weight_alone(monkeypatch):
    monkeypatch.setattr(engine, "AT_ONCE", 8 * 200**2)
    monkeypatch.setattr(engine, "SQUARE", 128)
    photographs, _ = strips(8, 128, 2048)
    backend = Sharpest(0.1)
    soft = backend.guide
    backend.guide = lambda x, _: 0.9 * soft(x) + 0.1 * np.roll(soft(x), 1, 0)
    fuse(photographs, backend, align=False)
    assert backend.asked and max(backend.asked) <= 4 and min(backend.asked) == 2


class Neither(Sharpest):
    """None of the photographs is right anywhere, and the residual is 0.2."""

    def guide(self, photographs: np.ndarray, alone: bool = False) -> np.ndarray:
        return np.full((len(photographs), *photographs.shape[2:]), 1 / len(photographs), np.float32)


@pytest.mark.parametrize("size", [(301, 395), (1037, 1201)])
def test_the_residual_acts_where_it_can_be_seen(size):
    near = np.full((*size, 3), 0.2, np.float32)
    far = near.copy()
    far[: size[0] // 2, 100:] = 0.6
    image = fuse([near, far], Neither(0.2), align=False).image
    np.testing.assert_allclose(image[: size[0] // 2 - GRID, 100 + GRID :], 0.4 + 0.2, atol=1e-6)
    if size[0] * size[1] > engine.WHOLE:  # not where the photographs are alike
        np.testing.assert_allclose(image[-(size[0] // 2 - 2 * engine.SQUARE) :], 0.2, atol=1e-6)


class Displaced(Sharpest):
    """The first photograph, whose red tells the column, is right up to ``edge``; at half resolution
    it seems so up to two columns before, with one beside them that is unsure."""

    edge = 401

    def guide(self, photographs: np.ndarray, alone: bool = False) -> np.ndarray:
        column = photographs[0, 0] * 1024
        if column[0, 1] - column[0, 0] > 1.5:  # half resolution
            first = np.select([column < self.edge - 5, column < self.edge - 3], [1.0, 0.5], 0.0)
        else:
            first = column < self.edge - 0.5
        return np.stack([first, 1 - first]).astype(np.float32)


def test_full_resolution_decides_beside_what_is_unsure_at_half():
    columns = np.broadcast_to(np.arange(1024, dtype=np.float32) / 1024, (1024, 1024))
    fine = np.indices(columns.shape).sum(0) % 2 * 0.5
    photographs = [np.dstack([columns, x, x]).astype(np.float32) for x in (fine, 0.5 - fine)]
    index = fuse(photographs, Displaced(), align=False).index
    assert np.array_equal(index, np.broadcast_to(np.arange(1024) >= Displaced.edge, index.shape))


@pytest.mark.parametrize("size", [(16, 16), (700, 33), (1300, 1001)])
@pytest.mark.parametrize("side", [1, 200, 5000])
def test_tiles_cover_every_pixel_once_on_the_grid(size, side):
    covered = np.zeros(size, int)
    for tile in tiles(size, side):
        covered[tile] += 1
        for part in tile:
            assert part.start % GRID == 0 and part.stop - part.start <= max(side, GRID)
    assert (covered == 1).all()


def test_groups_fit_the_memory(backends):
    size, dtype, backend = (3000, 4000), np.dtype(np.uint8), backends["onnx"]
    needed = [needed_memory(size, dtype, backend, count) for count in range(2, 9)]
    assert needed == sorted(needed)
    assert needed[0] < 250e6 + 30 * 12e6
    for count, memory in enumerate(needed, 2):
        most = group_size(size, dtype, backend, 100, memory)
        assert most <= count and group_size(size, dtype, backend, count, memory) == count
    assert group_size(size, dtype, backend, 10, needed[-1]) == 6  # 6, and 4 with what came out


class Counting:
    """A session that notes how many are at work at once."""

    def __init__(self):
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="photographs")]

    def run(self, _: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
        return [feed["photographs"][:, :1]]


@pytest.mark.parametrize("calls", [1, 3])
def test_no_more_is_computed_at_once_than_there_is_memory_for(onnx_weights, monkeypatch, calls):
    """What is larger than that goes alone."""
    session, backend = Counting(), OnnxBackend(onnx_weights)
    monkeypatch.setattr(backend, "_session", lambda *about: session)
    photographs = np.zeros((2, 3, 20, 30), np.float32)
    monkeypatch.setattr(backends_module, "AT_ONCE", calls * 2 * 20 * 30 - (calls == 1))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(backend.guide, [photographs] * 12))
    assert len(found) == 12 and session.most == calls


def test_memory_is_that_of_the_container_shared_by_its_processes(tmp_path, monkeypatch):
    def write(name: str, text: str) -> None:
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert available_memory(tmp_path) > 1 << 36  # not known
    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert available_memory(tmp_path) == 8_192_000
    write("sys/fs/cgroup/memory.max", "max\n")
    write("sys/fs/cgroup/memory.current", "3000000\n")
    write("sys/fs/cgroup/memory.stat", "anon 5\ninactive_file 1000000\nactive_file 7\n")
    assert available_memory(tmp_path) == 8_192_000
    write("sys/fs/cgroup/memory.max", "6000000\n")
    assert available_memory(tmp_path) == 4_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert available_memory(tmp_path) == 2_000_000


@pytest.mark.parametrize("size", [(10, 14), (9, 13)])
def test_halved_and_doubled_a_ramp_stays_where_it_is(size):
    """Both are of pixel areas: a picture must not move between the two resolutions."""
    ramp = np.add.outer(3 * np.arange(size[0]), 5 * np.arange(size[1])).astype(np.float32)
    back = engine.double(engine.halve(np.dstack([ramp] * 3)))[: size[0], : size[1], 0]
    np.testing.assert_allclose(back[2:-3, 2:-3], ramp[2:-3, 2:-3], atol=1e-4)
