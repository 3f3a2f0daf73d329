"""The cascade: the layers of figure 5, and what holds by construction."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from configs.schema import load_config
from models.boundary_fusion import BoundaryFusion, SetBoundaryFusion
from models.build import build, main
from models.initial_fusion import Guidance, InitialFusion, SetInitialFusion, decide, leads
from models.layers import LIMIT, ResBlock, SetConv, SetResBlock
from models.mmfnet import MMFNet
from tests.conftest import ROOT
from utils.errors import UserError


def configured(name: str, device: str = "cpu") -> MMFNet:
    torch.manual_seed(0)
    with torch.device(device):
        return build(asdict(load_config(ROOT / "configs" / f"{name}.yaml").model)).eval()


def images(height: int, width: int, count: int = 2, seed: int = 0) -> torch.Tensor:
    """Random photographs of 8-bit values, (1, N, 3, H, W)."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, count, 3, height, width), generator=rng) / 255


class Fixed(nn.Module):
    """In place of the initial fusion sub-net: the same guidance map of two photographs always."""

    select = staticmethod(InitialFusion.select)

    def __init__(self, first: torch.Tensor):
        super().__init__()
        self.answer = Guidance(torch.stack([first, 1 - first], 1))

    def forward(self, photographs: torch.Tensor) -> Guidance:
        return self.answer


class FixedResidual(nn.Module):
    """In place of the boundary fusion sub-net: the same residual always."""

    residual = staticmethod(BoundaryFusion.residual)

    def __init__(self, answer: torch.Tensor):
        super().__init__()
        self.answer = answer

    def forward(self, photographs: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        return self.answer


def conv(inputs: int, outputs: int) -> int:
    """Parameters of a 3×3 convolution."""
    return 9 * inputs * outputs + outputs


@pytest.mark.parametrize(
    ("name", "width", "blocks", "unscaled", "total"),
    [("paper", 64, 9, 9, 1_043_908), ("released", 128, 16, 4, 5_218_372)],
)
def test_paper_configs_have_the_layers_of_the_paper(name, width, blocks, unscaled, total):
    model = configured(name, "meta")
    initial = conv(6, 64) + (4 * 2 + 1) * conv(64, 64) + conv(64, 1)
    boundary = conv(7, width) + (blocks * 2 + 1) * conv(width, width) + conv(width, 3)
    for net, layers, parameters in (
        (model.initial, 3 + 4 * 2, initial),
        (model.boundary, 3 + blocks * 2, boundary),
    ):
        kinds = [module for module in net.modules() if not list(module.children())]
        assert all(isinstance(kind, nn.Conv2d) for kind in kinds)  # no norm, nothing else learned
        assert len(kinds) == layers
        assert sum(p.numel() for p in net.parameters()) == parameters
    assert initial + boundary == total
    scales = [m.scale for m in model.boundary.modules() if isinstance(m, ResBlock)]
    assert scales == [1.0] * unscaled + [0.1] * (blocks - unscaled)


def test_the_command_counts_parameters(capsys):
    assert main([str(ROOT / "configs/paper.yaml")]) == 0
    assert "cascade: 1,043,908 parameters" in capsys.readouterr().out


def test_paper_configs_start_as_the_released_code():
    """Kaiming normal with a = 0.1: variance 2 / (1 + a²) / fan-in; biases at zero."""
    for layer in configured("paper").modules():
        if isinstance(layer, nn.Conv2d):
            assert not layer.bias.any()
            if layer.weight.numel() > 10_000:
                fan = layer.in_channels * 9
                assert layer.weight.var().item() == pytest.approx(2 / 1.01 / fan, rel=0.05)


def test_residual_block_is_conv_relu_conv_scaled_and_added():
    torch.manual_seed(0)
    block, x = ResBlock(3, scale=0.1), torch.randn(1, 3, 8, 9)
    first = F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1).clamp_min(0)
    second = F.conv2d(first, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), x + 0.1 * second)


def test_paper_nets_are_head_blocks_tail_last():
    torch.manual_seed(0)
    photographs = images(16, 18)
    image1, image2 = photographs[:, 0], photographs[:, 1]
    initial, boundary = InitialFusion(4, blocks=2), BoundaryFusion(4, blocks=1)
    x = torch.cat([image1, image2], 1)
    g = initial.last(initial.tail(initial.body[1](initial.body[0](initial.head(x)))))
    fusion = MMFNet(initial, boundary)(photographs)
    blend = g * image1 + (1 - g) * image2
    features = boundary.body[0](boundary.head(torch.cat([x, g], 1)))
    residual = boundary.last(boundary.tail(features))
    torch.testing.assert_close(fusion.guidance[:, 0], g)  # no sigmoid
    torch.testing.assert_close(fusion.initial, blend)
    torch.testing.assert_close(fusion.fused, blend + (1 - (2 * g - 1).abs()) * residual)
    initial.sigmoid = True
    torch.testing.assert_close(initial(photographs).guidance[:, 0], 1 / (1 + (-g).exp()))


def test_paper_net_takes_pairs_alone():
    with pytest.raises(ValueError, match="2 photographs, not 3"):
        InitialFusion(4, 1)(images(16, 16, 3))


@pytest.mark.parametrize("count", [0, 1])
def test_what_is_no_set_of_photographs_is_named(count):
    net = MMFNet(SetInitialFusion([4, 4]), None)
    with pytest.raises(ValueError, match=r"N ≥ 2.*these are \(2, 3, 16, 16\), torch.float32"):
        net(torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match=rf"\(1, {count}, 3, 16, 16\)"):
        net(torch.zeros(1, count, 3, 16, 16))
    with pytest.raises(ValueError, match="torch.uint8"):
        net(torch.zeros(1, 2, 3, 16, 16, dtype=torch.uint8))


def test_set_convolution_is_linear_in_each_photograph_and_their_mean():
    """Against the definition, written out for each photograph."""
    torch.manual_seed(0)
    layer, x = SetConv(3, 5), torch.randn(2, 4, 3, 8, 9)
    for i in range(4):
        own = F.conv2d(x[:, i], layer.own.weight, layer.own.bias, padding=1)
        expected = own + F.conv2d(x.mean(1), layer.common.weight)
        torch.testing.assert_close(layer(x)[:, i], expected)


def test_set_residual_block_is_bounded_whatever_comes_in():
    torch.manual_seed(0)
    block, x = SetResBlock(4), torch.randn(1, 3, 4, 8, 9)
    block.conv1.own.weight.data *= 100
    seen = []
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            block(1e6 * x)
            block(1e9 * x)
    for activations in seen:
        torch.testing.assert_close(activations, seen[0])  # strength makes no difference
        assert activations.max() == LIMIT


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (33, 46), (16, 65)])
def test_reordering_the_photographs_reorders_the_guidance_and_keeps_the_fusion(
    height, width, count
):
    photographs = images(height, width, count).double()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1)).roll(1)
    model = configured("mmfnet").double()
    fusion, moved = model(photographs), model(photographs[:, order])
    assert fusion.scores.std() > 1e-4  # the maps are not empty
    torch.testing.assert_close(moved.scores, fusion.scores[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(moved.guidance, fusion.guidance[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(moved.fused, fusion.fused, rtol=0, atol=1e-5)


def test_guidance_sums_to_one_and_decides():
    scores = torch.tensor([3.0, 1.0, -2.0]).reshape(1, 3, 1, 1, 1)

    def guidance(neither: float) -> torch.Tensor:
        return decide(scores, torch.full((1, 1, 1, 1), neither)).flatten()

    torch.testing.assert_close(guidance(-50.0), torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(guidance(50.0), torch.tensor([0.51, 0.49, 0]))
    assert guidance(0.3).sum().item() == pytest.approx(1)
    assert torch.equal(decide(0 * scores, torch.zeros(1, 1, 1, 1)).flatten(), torch.ones(3) / 3)


def test_the_boundary_sub_net_is_told_which_of_two_wrong_photographs_is_the_better():
    scores = torch.tensor([1.0, 3.0, -2.0]).reshape(1, 3, 1, 1, 1)
    for neither in (-50.0, 0.0, 50.0):
        guidance = decide(scores, torch.full((1, 1, 1, 1), neither))
        assert torch.equal(leads(guidance).flatten(), torch.tensor([0.0, 1, 0]))
    equal = decide(scores[:, [0, 0, 2]], torch.full((1, 1, 1, 1), 50.0))
    assert torch.equal(leads(equal).flatten(), torch.tensor([1.0, 1, 0]))


def test_rounding_does_not_decide_whether_a_third_counts_among_the_least_wrong():
    behind = torch.linspace(0, 0.03, 3001, dtype=torch.float64).float()  # steps of 1e-5
    scores = torch.stack([torch.zeros(3001), torch.zeros(3001), -behind])[None, :, None, None]
    guidance = decide(scores, torch.full((1, 1, 1, 3001), 50.0))[0, :, 0, 0]
    assert guidance[2, 0] == pytest.approx(1 / 3) and guidance[2, -1] < 0.01
    assert guidance.diff(dim=1).abs().max() < 1e-3


@pytest.mark.parametrize("neither", [-50.0, 50.0])
def test_initial_fusion_is_a_selection_on_the_boundary_too(neither):
    """Of each pixel the photograph with the largest score alone; equals share it."""
    photographs = images(16, 16, 3)
    scores = torch.rand(1, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    scores = scores.argsort(1).float()
    scores[:, :2, :, 0] = 9  # the first row
    guidance = decide(scores, torch.full((1, 1, 16, 16), neither))
    initial, _ = MMFNet(SetInitialFusion([4, 4]), None).blend(photographs, guidance, None)
    best = scores.argmax(1, keepdim=True).expand(-1, -1, 3, -1, -1)
    expected = photographs.gather(1, best)[:, 0]
    expected[:, :, 0] = photographs[:, :2, :, 0].mean(1)
    torch.testing.assert_close(initial, expected)


def test_a_mix_of_one_brings_the_halves_back():
    photographs = images(16, 16, 3)
    scores = torch.randn(1, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    guidance = decide(scores, torch.full((1, 1, 16, 16), 50.0))
    coefficients = torch.zeros(1, 8, 16, 16)
    coefficients[:, 4] = 1
    net = MMFNet(SetInitialFusion([4, 4]), SetBoundaryFusion([4, 6], [1, 1]))
    _, fused = net.blend(photographs, guidance, coefficients)
    # The boundary map is 0.98 there.
    torch.testing.assert_close(fused, (guidance * photographs).sum(1), rtol=0, atol=0.01)


def test_a_network_that_learns_decides_less_clearly():
    """With the gradients of 10 a network that begins from nothing diverged."""
    net = SetInitialFusion([4, 4])
    photographs = torch.rand(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for learns, factor in ((True, 4.0), (False, 10.0)):
        guidance, scores, neither = net.train(learns)(photographs)
        assert torch.equal(guidance, decide(scores, neither, factor))
        assert not torch.equal(guidance, decide(scores, neither, 14.0 - factor))


def test_where_the_guidance_map_decides_the_output_is_a_copy_whatever_the_residual():
    photographs = images(20, 21)
    first = (torch.arange(20 * 21).reshape(1, 1, 20, 21) % 3 == 0).expand(1, 3, -1, -1)
    residual = FixedResidual(torch.full((1, 3, 20, 21), 1e6))
    fusion = MMFNet(Fixed(first[:, :1].float()), residual)(photographs)
    expected = torch.where(first, photographs[:, 0], photographs[:, 1])
    torch.testing.assert_close(fusion.fused, expected, rtol=0, atol=1.2e-7)
    assert torch.equal(fusion.fused, fusion.initial)


def test_the_residual_acts_in_full_where_the_guidance_map_is_undecided():
    photographs = images(16, 16)
    residual = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    fusion = MMFNet(Fixed(torch.full((1, 1, 16, 16), 0.5)), FixedResidual(residual))(photographs)
    assert torch.equal(fusion.boundary, torch.ones(1, 1, 16, 16))
    torch.testing.assert_close(fusion.fused, photographs.mean(1) + residual)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_equal_photographs_come_back_unchanged(count):
    """Where all agree, no weights of ours can change them."""
    net, photographs = configured("mmfnet"), images(45, 70)
    same = photographs[:, :1].expand(-1, count, -1, -1, -1)
    with torch.no_grad():
        fusion = net(photographs)
        assert (fusion.fused - fusion.initial).abs().max() > 1 / 255
        torch.testing.assert_close(net(same).fused, same[:, 0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (16, 37), (31, 18), (50, 33)])
@pytest.mark.parametrize(
    ("nets", "count"),
    [
        ((InitialFusion(4, 1, sigmoid=True), BoundaryFusion(4, 2)), 2),
        ((SetInitialFusion([4, 4, 4, 4, 4]), SetBoundaryFusion([4, 6], [1, 1])), 2),
        ((SetInitialFusion([4, 4, 4]), SetBoundaryFusion([4, 6], [1, 1])), 5),
        ((SetInitialFusion([4, 6]), None), 3),
    ],
    ids=["paper", "pair", "stack", "initial only"],
)
def test_any_size_from_16_pixels(size, nets, count):
    photographs = images(*size, count).expand(2, -1, -1, -1, -1)
    fusion = MMFNet(*nets)(photographs)
    assert fusion.fused.shape == fusion.initial.shape == (2, 3, *size)
    assert fusion.guidance.shape == (2, count, 1, *size)
    assert fusion.boundary.shape == (2, 1, *size)
    for plane in fusion[:4]:
        assert plane.isfinite().all()
    for plane in (fusion.guidance, fusion.boundary):
        assert 0 <= plane.min() and plane.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("boundary", "words"),
    [
        ({"name": "SetBoundryFusion"}, ["model.boundary.name", "did you mean SetBoundaryFusion"]),
        (
            {"name": "BoundaryFusion", "args": {"blok": 3}},
            ["model.boundary.args", "'blok'", "did you mean blocks"],
        ),
        ({"name": "BoundaryFusion", "args": {"blocks": "many"}}, ["model.boundary.args", "many"]),
        (
            {"name": "SetBoundaryFusion", "args": {"widths": [4, 6], "blocks": [1]}},
            ["model.boundary.args", "[1]"],
        ),
    ],
)
def test_wrong_names_and_arguments_are_named(boundary, words):
    with pytest.raises(UserError) as error:
        build({"initial": {"name": "InitialFusion"}, "boundary": boundary})
    assert all(word in str(error.value) for word in words)
