"""Weights as safetensors: what is written comes back, what does not fit is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from models import WEIGHTS
from models.build import build, load_model, save_weights
from tests.conftest import NETS, ROOT
from utils.errors import UserError
from utils.images import read_photo

OTHER = NETS | {
    "boundary": {"name": "SetBoundaryFusion", "args": {"widths": [6, 6], "blocks": [1, 1]}}
}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "deep" / "net.safetensors"
    net = build(NETS).to(memory_format=torch.channels_last)  # as the trainer holds them
    save_weights(path, net.state_dict(), NETS)
    return path, net


def test_round_trip_with_and_without_the_config(weights):
    path, net = weights
    for model in (None, NETS):
        loaded = load_model(path, model)
        assert not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())
        assert loaded.state_dict().keys() == net.state_dict().keys()
        for name, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, net.state_dict()[name]), name
    assert [p.name for p in path.parent.iterdir()] == ["net.safetensors"]


def test_weights_of_another_config_are_refused(weights):
    path, _ = weights
    for other in (OTHER, NETS | {"boundary": None}):
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


def test_equal_weights_give_equal_files(weights, tmp_path):
    path, net = weights
    save_weights(tmp_path / "again.safetensors", net.state_dict(), NETS)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(weights, value):
    path, net = weights
    state = net.state_dict()
    state["initial.score.weight"][0, 0, 0, 0] = value
    save_weights(path, state, NETS)
    with pytest.raises(UserError, match="initial.score.weight holds values that are not finite"):
        load_model(path)


@pytest.mark.parametrize("model", ["[]", "3", "null", '"x"', '{"initial": 3}', "{"])
def test_metadata_that_is_no_config_is_refused(weights, model):
    path, net = weights
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(weights, path, {"model": model})
    with pytest.raises(UserError, match="says unreadably which model it is for"):
        load_model(path)


def test_weights_that_do_not_say_their_model_need_a_config(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_file(build(NETS).state_dict(), path)
    with pytest.raises(UserError, match="does not say which model"):
        load_model(path)
    assert load_model(path, NETS) is not None


def test_nothing_half_written_where_weights_cannot_go(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        save_weights(tmp_path / "file" / "net.safetensors", build(NETS).state_dict(), NETS)


@pytest.fixture(scope="module")
def sample() -> torch.Tensor:
    """A pair (1, 2, 3, 256, 256) of the samples."""
    folder = ROOT / "data/samples"
    pair = [torch.from_numpy(read_photo(folder / f"cat-{x}.png").rgb) for x in "AB"]
    return torch.stack(pair)[None, :, :256, :256].permute(0, 1, 4, 2, 3) / 255


def test_features_of_the_shipped_weights_stay_small(sample):
    model, largest = load_model(WEIGHTS), []
    for layer in model.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda *call: largest.append(call[2].abs().max().item()))
    for photographs in (sample, 1 - sample, (4 * sample - 1.5).clamp(0, 1), (sample > 0.5).float()):
        model(photographs)
    assert max(largest) < 1000


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_shipped_weights_fuse_the_same_in_half_precision(sample, kind):
    """Within one grey level on 99.9 % of the values, the sub-nets in half precision and what
    blends in full, as the engine has it on a GPU."""
    model, half = load_model(WEIGHTS), load_model(WEIGHTS).to(kind)
    grey = [(net(sample).fused.clamp(0, 1) * 255).round() for net in (half, model)]
    assert ((grey[0] - grey[1]).abs() <= 1).float().mean() > 0.999
