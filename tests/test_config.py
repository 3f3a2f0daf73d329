"""Configs: every mistake is named with the way out, and what is merged over what."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from configs.schema import Config, load_config, to_yaml
from models.build import build
from tests.conftest import ROOT
from utils.errors import UserError

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "given.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("tran: {steps: 3}", "tran", "train"),
        ("train: {stesp: 3}", "train.stesp", "train.steps"),
        ("data: {defocus: {simga: [1, 2]}}", "data.defocus.simga", "data.defocus.sigma"),
        (
            "validation: {defocus: {noise: {probabilty: 1}}}",
            "validation.defocus.noise.probabilty",
            "validation.defocus.noise.probability",
        ),
        ("model: {boundary: {nam: x}}", "model.boundary.nam", "model.boundary.name"),
    ],
)
def test_unknown_keys_name_the_nearest_valid_one(written, text, key, nearest):
    with pytest.raises(UserError) as error:
        load_config(written(text))
    assert f"unknown key {key};" in str(error.value)
    assert f"did you mean {nearest}?" in str(error.value)
    assert "given.yaml" in str(error.value)


def test_unknown_keys_on_the_command_line(written):
    with pytest.raises(UserError, match="the command line: unknown key train.lrr; .* train.lr?"):
        load_config(written(""), ["train.lrr=3"])
    with pytest.raises(UserError, match="unknown key model.boundary.nam; .*model.boundary.name?"):
        load_config(written("model: {boundary: null}"), ["model.boundary.nam=X"])


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("train: {steps: many}", [], ["train.steps", "many"]),
        ("", ["train.steps=many"], ["train.steps", "many"]),
        ("", ["train.steps=2.5"], ["train.steps", "2.5"]),
        ("train: 3", [], ["train", "group of keys", "train.steps"]),
        ("data: {defocus: {noise: 1}}", [], ["data.defocus.noise.probability"]),
        ("", ["train.steps.x=3"], ["train.steps", "no keys below"]),
        ("data: {defocus: {sigma: [a, b]}}", [], ["data.defocus.sigma", "'a'"]),
        ("data: {defocus: {sigma: 3}}", [], ["data.defocus.sigma"]),
        ("data: {defocus: {sigma: [1, [2]]}}", [], ["data.defocus.sigma[1]", "[2]"]),
        ("model: {boundary: {args: 3}}", [], ["model.boundary.args"]),
        ("validation: {scenes: [1]}", [], ["validation.scenes is no list"]),
        ("model: {boundary: {args: [1]}}", [], ["model.boundary.args is no list"]),
        ("data: null", [], ["data"]),
        ("run: ${nowhere}", [], ["run", "nowhere"]),
        ("", ["train.steps"], ["'train.steps'", "key.sub=value"]),
        ("", ["train.steps=[1"], ["overrides"]),
        ("- 1\n- 2", [], ["given.yaml", "no keys"]),
        ("3", [], ["given.yaml"]),
        ("null: 3", [], ["given.yaml"]),
        ("train: [1", [], ["given.yaml", "not valid YAML"]),
        ("seed: 1\nseed: 2", [], ["given.yaml", "not valid YAML"]),
        ("a\tb: {", [], ["given.yaml"]),
    ],
)
def test_values_that_cannot_be(written, text, overrides, words):
    with pytest.raises(UserError) as error:
        load_config(written(text), overrides)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_unreadable_files(tmp_path):
    binary = tmp_path / "photo.yaml"
    binary.write_bytes(b"\xff\xd8\xff\xe0\x00")
    for path in (tmp_path / "none.yaml", tmp_path, binary):
        with pytest.raises(UserError, match=str(path)):
            load_config(path)


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(written):
    path = written("train: {lr: 0.5, batch: 3}\ndata: {defocus: {noise: {high: 0.1}}}")
    config = load_config(path, ["train.lr=0.25", "data.defocus.psfs=[disk]", "run=a=b"])
    assert (config.train.lr, config.train.batch) == (0.25, 3)
    assert config.train.steps == Config().train.steps
    assert config.data.defocus.psfs == ["disk"]
    assert config.data.defocus.noise.high == 0.1
    assert config.run == "a=b"


def test_a_path_may_begin_at_the_home_folder(written, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ma")
    config = load_config(written("run: ~/runs/a"), ["data.cutouts=~/cutouts"])
    assert (config.run, config.data.cutouts) == ("/home/ma/runs/a", "/home/ma/cutouts")


NET = "model: {boundary: {name: SetBoundaryFusion, args: {widths: [4, 4], blocks: [1, 1]}}}"


def test_arguments_of_a_net_merge_as_long_as_it_is_the_same_net(written):
    config = load_config(written(NET), ["model.boundary.args.blocks=[2,1]"])
    assert config.model.boundary.args == {"widths": [4, 4], "blocks": [2, 1]}
    same = load_config(written(NET), ["model.boundary.name=SetBoundaryFusion"])
    assert same.model.boundary.args == {"widths": [4, 4], "blocks": [1, 1]}


def test_another_net_drops_the_arguments_of_the_former(written):
    config = load_config(written(NET), ["model.boundary.name=BoundaryFusion"])
    assert config.model.boundary.args == {}
    build_args = ["model.boundary.name=BoundaryFusion", "model.boundary.args.channels=4"]
    config = load_config(written(NET), build_args)
    assert config.model.boundary.args == {"channels": 4}
    build(asdict(config.model))


def test_boundary_fusion_can_be_left_out_and_put_back(written):
    assert load_config(written(NET), ["model.boundary=null"]).model.boundary is None
    without = written("model: {boundary: null}")
    config = load_config(without, ["model.boundary.name=BoundaryFusion"])
    assert config.model.boundary.name == "BoundaryFusion"
    assert build(asdict(load_config(without).model)).boundary is None


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_builds_and_writes_itself(path, tmp_path):
    config = load_config(path)
    with torch.device("meta"):
        assert sum(p.numel() for p in build(asdict(config.model)).parameters()) > 0
    (tmp_path / "resolved.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "resolved.yaml") == config


def test_the_paper_s_settings():
    for name in ("paper", "released"):
        train = load_config(ROOT / "configs" / f"{name}.yaml").train
        assert (train.lr, train.weight_decay, train.batch) == (1e-4, 4e-4, 8)
        assert (train.loss, train.schedule, train.clip, train.ema) == ("paper", "paper", 0, 0)
