"""Weights as safetensors: what is written comes back, what does not fit is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from models.build import build, load_model, save_weights
from utils.errors import UserError

MODEL = {
    "initial": {"name": "PairInitialFusion", "args": {"widths": [4, 6]}},
    "boundary": {"name": "PairBoundaryFusion", "args": {"half": 4, "quarter": 6}},
}
OTHER = MODEL | {"boundary": {"name": "PairBoundaryFusion", "args": {"half": 6, "quarter": 6}}}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "deep" / "net.safetensors"
    net = build(MODEL).to(memory_format=torch.channels_last)  # as the trainer holds them
    save_weights(path, net.state_dict(), MODEL, step="7")
    return path, net


def test_round_trip_with_and_without_the_config(weights):
    path, net = weights
    for model in (None, MODEL):
        loaded = load_model(path, model)
        assert not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())
        assert loaded.state_dict().keys() == net.state_dict().keys()
        for name, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, net.state_dict()[name]), name
    assert [p.name for p in path.parent.iterdir()] == ["net.safetensors"]


def test_weights_of_another_config_are_refused(weights):
    path, _ = weights
    for other in (OTHER, MODEL | {"boundary": None}):
        with pytest.raises(UserError, match="do not fit the given config, they were trained with"):
            load_model(path, other)


@pytest.mark.parametrize("broken", ["missing", "empty", "cut short", "pickle", "folder", "text"])
def test_a_file_that_is_no_whole_safetensors_file_is_named(weights, broken):
    path, net = weights
    data = path.read_bytes()
    path.unlink()
    if broken == "pickle":
        torch.save(net.state_dict(), path)
    elif broken == "folder":
        path.mkdir()
    elif broken != "missing":
        contents = {"empty": b"", "cut short": data[: len(data) // 2], "text": b"hello " * 50}
        path.write_bytes(contents[broken])
    with pytest.raises(UserError) as error:
        load_model(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_that_do_not_say_their_model_need_a_config(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_file(build(MODEL).state_dict(), path)
    with pytest.raises(UserError, match="does not say which model"):
        load_model(path)
    assert load_model(path, MODEL) is not None


def test_nothing_half_written_where_weights_cannot_go(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        save_weights(tmp_path / "file" / "net.safetensors", build(MODEL).state_dict(), MODEL)
