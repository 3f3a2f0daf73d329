"""The generated set on disk is the run's validation set, and its baselines are what they say."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

import evaluate
from configs.schema import load_config
from data.build import validation_sets
from evaluation import synthetic
from models.build import build, save_weights
from utils.errors import UserError
from utils.images import read_photo


@pytest.fixture
def config(tmp_path, photographs):
    """A config file of four samples of 64×64 from tiny photographs."""
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data: {{photographs: {photographs}, workers: 0}}\n"
        "validation: {fraction: 0.5, samples: 4, seed: 5, defocus: {size: 64, sigma: [1, 2]}}\n"
        "model:\n"
        "  initial: {name: InitialFusion, args: {channels: 4, blocks: 1}}\n"
        "  boundary: null\n"
    )
    return path


def image(path) -> np.ndarray:
    return read_photo(path).rgb


def test_the_set_on_disk(tmp_path, config):
    folder = synthetic.write_set(config, [], tmp_path / "set")
    dataset = validation_sets(load_config(config), 4)["pairs"]
    for number in range(4):
        name = f"sample-{number:04d}"
        sample = dataset[number]
        planes = (p.permute(1, 2, 0).numpy() for p in (*sample.photographs, sample.truth))
        planes = [(p * 255).round().astype(np.uint8) for p in planes]
        stored = [
            image(folder / "sources" / f"{name}-A.png"),
            image(folder / "sources" / f"{name}-B.png"),
            image(folder / "truth" / f"{name}.png"),
        ]
        np.testing.assert_array_equal(stored, planes)
        band = image(folder / "band" / f"{name}.png")[..., 0]
        np.testing.assert_array_equal(band > 0, sample.guidance[0, 0].numpy() == 0.5)
        oracle = image(folder / "oracle" / f"{name}.png")
        assert ((oracle == stored[0]).all(2) | (oracle == stored[1]).all(2)).all()
        errors = [((plane.astype(int) - stored[2]) ** 2).sum(2) for plane in (oracle, *stored[:2])]
        np.testing.assert_array_equal(errors[0], np.minimum(*errors[1:]))


def test_it_is_generated_once(tmp_path, config):
    folder = synthetic.write_set(config, [], tmp_path / "set")
    truth = folder / "truth" / "sample-0000.png"
    before = truth.stat().st_mtime_ns, truth.read_bytes()
    synthetic.write_set(config, [], folder)
    assert (truth.stat().st_mtime_ns, truth.read_bytes()) == before
    synthetic.write_set(config, ["validation.seed=6", "validation.samples=2"], folder)
    assert truth.read_bytes() != before[1]
    assert len(list((folder / "truth").iterdir())) == 2


def test_a_broken_link_among_the_photographs_is_no_photograph(tmp_path, config, photographs):
    shutil.copytree(photographs, tmp_path / "photographs")
    overrides = [f"data.photographs={tmp_path / 'photographs'}", "validation.samples=1"]
    folder = synthetic.write_set(config, overrides, tmp_path / "set")
    written = (folder / "manifest.json").read_text()
    (tmp_path / "photographs" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    synthetic.write_set(config, overrides, folder)
    assert (folder / "manifest.json").read_text() == written


def test_needs_photographs(tmp_path, config):
    with pytest.raises(UserError, match="photographs"):
        synthetic.write_set(config, ["data.photographs="], tmp_path / "set")


def test_from_the_command_line(tmp_path, config, capsys):
    torch.manual_seed(0)
    model = asdict(load_config(config).model)
    weights = tmp_path / "weights.safetensors"
    save_weights(weights, build(model).state_dict(), model)
    options = ["--synthetic", "--config", config, "--weights", weights, "--workers", 1]
    options += ["--out", tmp_path / "out", "--cache", tmp_path / "cache"]
    assert evaluate.main([*map(str, options)]) == 0
    head, *rows = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| "))
    assert "PSNR ↑ | PSNR (FDB) ↑ | SSIM ↑ | SSIM (FDB) ↑" in head
    names = [row.split("|")[1].strip() for row in rows[1:-1]]
    assert names == ["source A", "source B", "oracle selection", "MMF-Net (ours)"]
    metrics = json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]
    mean = metrics["PSNR"]["mean"]
    assert mean["oracle selection"] > max(mean["source A"], mean["source B"])
    folder = tmp_path / "out" / "work" / "synthetic"
    values = [
        cv2.PSNR(image(folder / "truth" / f.name), image(f))
        for f in sorted((folder / "oracle").iterdir())
    ]
    assert mean["oracle selection"] == pytest.approx(np.mean(values), abs=1e-6)
