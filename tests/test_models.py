"""The cascade: the layers of figure 5, and what holds by construction."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.boundary_fusion import BoundaryFusion, PairBoundaryFusion
from models.build import build
from models.initial_fusion import InitialFusion, PairInitialFusion
from models.layers import ResBlock
from models.mmfnet import MMFNet
from utils.config import load_config, to_dict
from utils.errors import UserError

ROOT = Path(__file__).parents[1]


def configured(name: str, device: str = "cpu") -> MMFNet:
    torch.manual_seed(0)
    with torch.device(device):
        return build(to_dict(load_config(ROOT / "configs" / f"{name}.yaml").model)).eval()


def images(height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two random pictures of 8-bit values, (1, 3, H, W)."""
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, 256, (1, 3, height, width), generator=rng) / 255 for _ in "12")


class Fixed(nn.Module):
    """In place of a sub-net: the same answer always."""

    def __init__(self, answer: torch.Tensor):
        super().__init__()
        self.answer = answer

    def forward(self, *_) -> torch.Tensor:
        return self.answer


def conv(inputs: int, outputs: int) -> int:
    """Parameters of a 3×3 convolution."""
    return 9 * inputs * outputs + outputs


@pytest.mark.parametrize(
    ("name", "width", "blocks", "unscaled"), [("paper", 64, 9, 9), ("released", 128, 16, 4)]
)
def test_paper_configs_have_the_layers_of_the_paper(name, width, blocks, unscaled):
    model = configured(name, "meta")
    initial = conv(6, 64) + 4 * 2 * conv(64, 64) + conv(64, 1)
    boundary = conv(7, width) + blocks * 2 * conv(width, width) + conv(width, 3)
    for net, layers, parameters in (
        (model.initial, 2 + 4 * 2, initial),
        (model.boundary, 2 + blocks * 2, boundary),
    ):
        kinds = [module for module in net.modules() if not list(module.children())]
        assert all(isinstance(kind, nn.Conv2d) for kind in kinds)  # no norm, nothing else learned
        assert len(kinds) == layers
        assert sum(p.numel() for p in net.parameters()) == parameters
    scales = [m.scale for m in model.boundary.modules() if isinstance(m, ResBlock)]
    assert scales == [1.0] * unscaled + [0.1] * (blocks - unscaled)


def test_residual_block_is_conv_relu_conv_scaled_and_added():
    torch.manual_seed(0)
    block, x = ResBlock(3, scale=0.1), torch.randn(1, 3, 8, 9)
    first = F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1).clamp_min(0)
    second = F.conv2d(first, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), x + 0.1 * second)


def test_paper_nets_are_head_blocks_tail():
    torch.manual_seed(0)
    image1, image2 = images(16, 18)
    initial, boundary = InitialFusion(4, blocks=2), BoundaryFusion(4, blocks=1)
    x = torch.cat([image1, image2], 1)
    logits = initial.tail(initial.body[1](initial.body[0](initial.head(x))))
    fusion = MMFNet(initial, boundary)(image1, image2)
    g = 1 / (1 + (-logits).exp())
    blend = g * image1 + (1 - g) * image2
    residual = boundary.tail(boundary.body[0](boundary.head(torch.cat([x, g], 1))))
    torch.testing.assert_close(fusion.guidance, g)
    torch.testing.assert_close(fusion.initial, blend)
    torch.testing.assert_close(fusion.fused, blend + (1 - (2 * g - 1).abs()) * residual)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (33, 46), (16, 65)])
def test_exchanging_the_sources_turns_the_logits_and_keeps_the_fusion(height, width):
    image1, image2 = images(height, width)
    model = configured("mmfnet")
    fusion, swapped = model(image1, image2), model(image2, image1)
    assert torch.equal(swapped.logits, -fusion.logits)
    assert fusion.logits.std() > 1e-4  # the maps are not empty
    torch.testing.assert_close(swapped.guidance, 1 - fusion.guidance, rtol=0, atol=1e-6)
    torch.testing.assert_close(swapped.fused, fusion.fused, rtol=0, atol=1e-6)
    model = model.double()
    fusion, swapped = (
        model(image1.double(), image2.double()),
        model(image2.double(), image1.double()),
    )
    torch.testing.assert_close(swapped.fused, fusion.fused, rtol=0, atol=1e-13)


def test_where_the_guidance_map_decides_the_output_is_a_copy_whatever_the_residual():
    image1, image2 = images(20, 21)
    first = (torch.arange(20 * 21).reshape(1, 1, 20, 21) % 3 == 0).expand(1, 3, -1, -1)
    logits = torch.where(first[:, :1], 200.0, -200.0)
    fusion = MMFNet(Fixed(logits), Fixed(torch.full_like(image1, 1e6)))(image1, image2)
    assert torch.equal(fusion.fused, fusion.initial)
    assert torch.equal(fusion.fused[~first], image2[~first])
    # The last bit of a float may differ, in 8 or 16 bits nothing does.
    assert torch.equal(
        (fusion.fused * 65535).round(),
        (image2 + 0 * image1).where(~first, image1).mul(65535).round(),
    )
    torch.testing.assert_close(fusion.fused[first], image1[first], rtol=0, atol=1.2e-7)


def test_the_residual_acts_in_full_where_the_guidance_map_is_undecided():
    image1, image2 = images(16, 16)
    residual = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    fusion = MMFNet(Fixed(torch.zeros(1, 1, 16, 16)), Fixed(residual))(image1, image2)
    assert torch.equal(fusion.boundary, torch.ones(1, 1, 16, 16))
    torch.testing.assert_close(fusion.fused, (image1 + image2) / 2 + residual)


def test_equal_inputs_come_back_unchanged_outside_the_boundary():
    image, _ = images(24, 30)
    for initial in (InitialFusion(4, 1), PairInitialFusion([4, 6])):
        assert torch.equal(MMFNet(initial, None)(image, image).fused, image)
    logits = torch.where(torch.rand(1, 1, 24, 30) < 0.5, 200.0, -200.0)
    boundary = PairBoundaryFusion(4, 6, [1, 1, 1])
    assert torch.equal(MMFNet(Fixed(logits), boundary)(image, image).fused, image)


@pytest.mark.parametrize("size", [(16, 16), (16, 37), (31, 18), (50, 33)])
@pytest.mark.parametrize(
    "nets",
    [
        (InitialFusion(4, 1), BoundaryFusion(4, 2)),
        (PairInitialFusion([4, 4, 4, 4, 4]), PairBoundaryFusion(4, 6, [1, 1, 1])),
        (PairInitialFusion([4, 6]), None),
    ],
    ids=["plain", "pair", "initial only"],
)
def test_any_size_from_16_pixels(size, nets):
    image1, image2 = (image.expand(2, -1, -1, -1) for image in images(*size))
    fusion = MMFNet(*nets)(image1, image2)
    for plane, channels in zip(fusion, (3, 3, 1, 1, 1), strict=True):
        assert plane.shape == (2, channels, *size)
        assert plane.isfinite().all()
    for plane in (fusion.guidance, fusion.boundary):
        assert 0 <= plane.min() and plane.max() <= 1


@pytest.mark.parametrize(
    ("boundary", "words"),
    [
        ({"name": "PairBoundryFusion"}, ["model.boundary.name", "did you mean PairBoundaryFusion"]),
        (
            {"name": "BoundaryFusion", "args": {"blok": 3}},
            ["model.boundary.args", "'blok'", "did you mean blocks"],
        ),
        ({"name": "BoundaryFusion", "args": {"blocks": "many"}}, ["model.boundary.args", "many"]),
        ({"name": "PairBoundaryFusion", "args": {"blocks": [1]}}, ["model.boundary.args", "[1]"]),
    ],
)
def test_wrong_names_and_arguments_are_named(boundary, words):
    with pytest.raises(UserError) as error:
        build({"initial": {"name": "InitialFusion"}, "boundary": boundary})
    assert all(word in str(error.value) for word in words)


def test_equal_inputs_come_back_unchanged():
    """Where both sources agree, no weights of ours can change them."""
    net, (image, other) = configured("mmfnet"), images(45, 70)
    with torch.no_grad():
        assert (net(image, other).fused - net(image, other).initial).abs().max() > 1 / 255
        torch.testing.assert_close(net(image, image).fused, image, atol=1e-6, rtol=0)
