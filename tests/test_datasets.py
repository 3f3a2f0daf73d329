"""Datasets by draw: the same data whatever the workers, processes and interruptions."""

from __future__ import annotations

from multiprocessing import active_children

import cv2
import numpy as np
import pytest
import torch

from data.datasets import (
    Batch,
    Draw,
    DrawSampler,
    Mixture,
    StoredDataset,
    draw_loader,
    in_order,
)
from defocus.sample import SampleGenerator
from defocus.scene import SceneConfig, SceneGenerator
from utils.errors import UserError


def batches(dataset, sampler, workers=0) -> list[Batch]:
    return list(draw_loader(dataset, sampler, workers, pin=False))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, y)
        for a, b in zip(one, other, strict=True)
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture(params=["generated", "stored"], scope="module")
def dataset(request, generator, stored):
    if request.param == "generated":
        return Mixture(generator, None, 0.5, seed=1)
    return StoredDataset(stored(), crop=16, seed=2)


def test_the_number_of_workers_does_not_change_the_data(dataset):
    alone = batches(dataset, DrawSampler(2, 0, 3))
    assert len(alone) == 3 and alone[0].photographs.shape[:3] == (2, 2, 3)
    for workers in (1, 2):
        assert same(batches(dataset, DrawSampler(2, 0, 3), workers), alone)


def test_processes_share_the_draws_of_one(dataset):
    alone = batches(dataset, DrawSampler(4, 0, 3))
    parts = [batches(dataset, DrawSampler(2, 0, 3, rank, 2)) for rank in (0, 1)]
    joined = [
        Batch(*(torch.cat(planes) for planes in zip(a, b, strict=True)))
        for a, b in zip(*parts, strict=True)
    ]
    assert same(joined, alone)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_draw_comes_once(world):
    samplers = [DrawSampler(5, 2, 9, rank, world) for rank in range(world)]
    draws = sorted(draw.number for sampler in samplers for batch in sampler for draw in batch)
    assert draws == list(range(2 * 5 * world, 9 * 5 * world))
    assert [len(sampler) for sampler in samplers] == [7] * world
    assert len(DrawSampler(5, 9, 9)) == len(DrawSampler(5, 10, 9)) == 0


@pytest.fixture(scope="module")
def mixture(generator) -> Mixture:
    config = SceneConfig(size=32, photographs=[2, 5], radius=3, pair_step=[0.7, 3], step=[0.7, 1])
    scenes = SceneGenerator(config, generator.photographs, seed=3)
    return Mixture(generator, scenes, share=0.3, seed=5)


def test_a_mixture_has_its_share_of_pairs_and_scenes_of_any_number(mixture):
    counts = [mixture.count(step) for step in range(2000)]
    assert counts.count(None) / 2000 == pytest.approx(0.3, abs=0.05)
    for count in range(2, 6):
        assert counts.count(count) / 2000 == pytest.approx(0.7 / 4, abs=0.04)


def test_samples_of_a_step_have_equally_many_photographs_and_a_step_about_as_many(mixture):
    for batch, count in zip(
        draw_loader(mixture, DrawSampler(4, 0, 12, count=mixture.count), 0, pin=False),
        map(mixture.count, range(12)),
        strict=True,
    ):
        assert batch.photographs.shape[1] == batch.guidance.shape[1] == (count or 2)
        assert 8 - (count or 2) < batch.photographs.shape[:2].numel() <= 8


def test_a_resumed_run_goes_on_with_the_next_draw(dataset):
    whole = batches(dataset, DrawSampler(2, 0, 4))
    assert same(
        batches(dataset, DrawSampler(2, 0, 2)) + batches(dataset, DrawSampler(2, 2, 4)), whole
    )


def test_the_seed_decides(generator, stored):
    root = stored()
    one, two = (batches(StoredDataset(root, 16, seed), DrawSampler(5, 0, 1)) for seed in (0, 1))
    assert not same(one, two)
    other = SampleGenerator(generator.config, generator.photographs, seed=4)
    first, second = (Mixture(g, None, 1, 0)[Draw(0)].photographs for g in (generator, other))
    assert not torch.equal(first, second)


def test_stored_planes_stay_aligned_through_crops_and_flips(stored):
    dataset = StoredDataset(stored(), crop=16, seed=0)
    flips, corners = set(), set()
    for draw in range(40):
        planes = dataset[draw]
        images = (*planes.photographs, planes.truth)
        image1, image2, truth = ((plane * 255).round().long() for plane in images)
        assert torch.equal(image2, image1 + 50) and torch.equal(truth, image1 + 100)
        rows, columns = image1[0], image1[1]
        expected = torch.tensor([0.0, 0.5, 0.5, 1.0])[(rows // 3 + columns // 5) % 4]
        assert torch.equal(planes.guidance[:, 0], torch.stack([expected, 1 - expected]))
        # a crop of the picture, turned over or not
        down, right = (rows[1, 0] - rows[0, 0]).item(), (columns[0, 1] - columns[0, 0]).item()
        assert {abs(down), abs(right)} == {1}
        assert torch.equal(rows, rows[0, 0] + down * torch.arange(16)[:, None].expand(16, 16))
        assert torch.equal(columns, columns[0, 0] + right * torch.arange(16).expand(16, 16))
        flips.add((down, right))
        corners.add((rows.min().item(), columns.min().item()))
    assert len(flips) == 4
    assert len(corners) > 30 and max(max(corner) for corner in corners) <= 40 - 16


def test_an_epoch_goes_through_every_sample_once_in_an_order_of_its_own(stored):
    dataset = StoredDataset(stored(samples=6), crop=16, seed=0)
    drawn = [int((dataset[draw].photographs[0, 2, 0, 0] * 255).round()) for draw in range(18)]
    epochs = [tuple(drawn[i : i + 6]) for i in (0, 6, 12)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(epochs)) == 3
    assert (
        int((dataset[4].photographs[0, 2, 0, 0] * 255).round()) == drawn[4]
    )  # whatever came before


def test_without_a_crop_items_are_whole_and_in_order_of_their_numbers(stored):
    dataset = StoredDataset(stored(samples=11))
    assert dataset.names == [str(i + 1) for i in range(11)]  # 10 and 11 after 9
    first = dataset[0]
    assert [tuple(plane.shape) for plane in first] == [(2, 3, 40, 40), (3, 40, 40), (2, 1, 40, 40)]
    assert all(plane.dtype == torch.float32 for plane in first)
    first = (batch.photographs[:, 0, 2, 0, 0] for batch in in_order(dataset, 4))
    numbers = [plane.mul(255).round().int().tolist() for plane in first]
    assert numbers == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


BREAKS = {
    "InputR/2_R.png": lambda path: path.unlink(),
    "FusionGT/2_FR.png": cut,
    "InputL/2_L.png": lambda path: path.write_bytes(b""),
    "FusionMapT/2_G.png": lambda path: path.write_text("no image"),
    "FusionMapT/2_G.png ": lambda path: cv2.imwrite(str(path), np.zeros((40, 39), np.uint8)),
    "FusionMapT": lambda path: [file.unlink() for file in path.iterdir()],
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_files_are_named_by_any_process(stored, name):
    root = stored(samples=2)
    path = root / name.strip()
    BREAKS[name](path)
    dataset = StoredDataset(root, crop=16)
    for workers in (0, 1):
        with pytest.raises(UserError) as error:
            batches(dataset, DrawSampler(2, 0, 1), workers)
        message = str(error.value)
        assert str(path) in message
        assert "\n" not in message and "Traceback" not in message
        assert not active_children()  # at once, not when the garbage is collected


def test_samples_smaller_than_the_crop_and_empty_folders(stored, tmp_path):
    with pytest.raises(UserError, match="40×40, smaller than the crop of 64; lower data.defocus"):
        StoredDataset(stored(), crop=64)[0]
    with pytest.raises(UserError, match="python -m data.generate"):
        StoredDataset(tmp_path)
