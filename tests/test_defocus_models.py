"""The imaging models against rays traced one by one, and in the cases that have plain answers."""

import itertools

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from defocus.color import to_linear, to_srgb
from defocus.guidance import defocused_share, guidance_map
from defocus.models import (
    all_in_focus,
    background_in_focus,
    foreground_in_focus,
    layers_in_focus,
    one_parameter,
    two_layers,
    two_parameter,
)
from defocus.psf import crop, disk, gaussian, polygon
from models.mmfnet import boundary_map

PSF = polygon(2.7, 5, 0.3)  # without the symmetry that would hide a mirrored kernel


def scene(seed: int = 0, side: int = 13, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Foreground, background, soft matte."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, side, side), (3, side, side), (1, side, side)]
    return [torch.rand(shape, generator=generator, dtype=dtype) for shape in shapes]


def trace(layers: list[tuple[Tensor, Tensor]], psfs: list[Tensor | None]) -> Tensor:
    """Sum over the aperture: each ray meets the layers in turn, each where its offset takes it.

    All layers out of focus share the lens, so one PSF at most; rays beyond the border meet the
    border's pixel.
    """
    color = layers[0][0]
    _, height, width = color.shape
    lens = next(psf for psf in psfs if psf is not None)
    reach = len(lens) // 2
    image = torch.zeros_like(color)
    for y, x, dy, dx in itertools.product(
        range(height), range(width), range(-reach, reach + 1), range(-reach, reach + 1)
    ):
        light, passed = torch.zeros(3), 1.0
        for (layer, matte), psf in zip(layers, psfs, strict=True):
            v, u = (y, x) if psf is None else (y - dy, x - dx)
            v, u = min(max(v, 0), height - 1), min(max(u, 0), width - 1)
            alpha = matte[0, v, u]
            light = light + passed * alpha * layer[:, v, u]
            passed = passed * (1 - alpha)
        image[:, y, x] += lens[reach + dy, reach + dx] * light
    return image


def test_alpha_matte_models_equal_rays():
    foreground, background, matte = scene(side=7)
    layers = [(foreground, matte), (background, torch.ones_like(matte))]
    lens = polygon(1.6, 5, 0.3)
    near = foreground_in_focus(foreground, background, matte, lens)
    torch.testing.assert_close(near, trace(layers, [None, lens]), atol=1e-5, rtol=0)
    far = background_in_focus(foreground, background, matte, lens)
    torch.testing.assert_close(far, trace(layers, [lens, None]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", [foreground_in_focus, background_in_focus])
def test_clear_and_opaque_mattes(model):
    foreground, background, matte = scene()
    clear = model(foreground, background, torch.zeros_like(matte), PSF)
    opaque = model(foreground, background, torch.ones_like(matte), PSF)
    sharp = model is foreground_in_focus
    blurred = layers_in_focus([background if sharp else foreground], [], [PSF])
    expected = (blurred, foreground) if sharp else (background, blurred)
    torch.testing.assert_close(clear, expected[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(opaque, expected[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("model", [foreground_in_focus, background_in_focus])
def test_in_focus_everywhere_is_the_truth(model):
    foreground, background, matte = scene()
    truth = all_in_focus(foreground, background, matte)
    torch.testing.assert_close(model(foreground, background, matte, None), truth)
    torch.testing.assert_close(model(foreground, background, matte, disk(0.0)), truth)


@pytest.mark.parametrize("psfs", [(None, PSF), (PSF, None), (None, None)])
@pytest.mark.parametrize("margin", [1, 4])  # less and more than the PSF reaches
def test_margin_is_left_out_and_blurs_in(psfs, margin):
    whole, inside = two_layers(*scene(), psfs), two_layers(*scene(), psfs, margin)
    for expected, found in zip(whole, inside, strict=True):
        torch.testing.assert_close(found, crop(expected, margin), atol=1e-6, rtol=0)


def test_constant_images_stay_constant():
    _, _, matte = scene()
    grey = torch.full((3, 13, 13), 0.42)
    mask = (matte > 0.5).float()
    for image in (
        foreground_in_focus(grey, grey, matte, PSF),
        background_in_focus(grey, grey, matte, PSF),
        layers_in_focus([grey] * 3, [matte, mask], [PSF, None, gaussian(1.2)]),
        one_parameter(grey, mask, PSF),
    ):
        torch.testing.assert_close(image, grey, atol=1e-6, rtol=0)


def test_two_layers_are_the_papers_equations():
    foreground, background, matte = scene()
    colors = [foreground, background]
    for psfs, expected in (
        ([None, PSF], foreground_in_focus(foreground, background, matte, PSF)),
        ([PSF, None], background_in_focus(foreground, background, matte, PSF)),
        ([None, None], all_in_focus(foreground, background, matte)),
    ):
        image = layers_in_focus(colors, [matte], psfs)
        torch.testing.assert_close(image, expected, atol=2e-7, rtol=0)
        opaque = [matte, torch.ones_like(matte)]
        assert torch.equal(layers_in_focus(colors, opaque, psfs), image)


def test_three_layers_equal_rays_where_mattes_do_not_mix():
    # A ray meets two blurred layers at the same offset, which the product of their spreads does
    # not know: with one layer out of focus, however many there are, the two must agree.
    first, third, matte = scene(4, side=7)
    second = scene(5, side=7)[0]
    ones = torch.ones_like(matte)
    edge = (torch.arange(7) < 4).float().expand(1, 7, 7)
    lens = disk(1.4)
    traced = trace([(first, matte), (second, edge), (third, ones)], [lens, None, None])
    image = layers_in_focus([first, second, third], [matte, edge], [lens, None, None])
    torch.testing.assert_close(image, traced, atol=1e-5, rtol=0)


def test_a_clear_layer_changes_nothing():
    foreground, background, matte = scene()
    clear = torch.zeros_like(matte)
    with_it = layers_in_focus(
        [foreground, foreground, background], [clear, matte], [PSF, PSF, None]
    )
    without = layers_in_focus([foreground, background], [matte], [PSF, None])
    torch.testing.assert_close(with_it, without, atol=1e-6, rtol=0)


def test_each_layer_is_sharp_in_one_photograph():
    side = 48
    generator = torch.Generator().manual_seed(6)
    colors = [torch.rand(3, side, side, generator=generator) for _ in range(3)]
    column = torch.arange(side)
    mattes = [(column < edge).float().expand(1, side, side) for edge in (16, 32)]
    lens = disk(3.0)
    settings = [[None if k == focus else lens for k in range(3)] for focus in range(3)]
    truth = layers_in_focus(colors, mattes, [None] * 3)
    for focus, psfs in enumerate(settings):
        image = layers_in_focus(colors, mattes, psfs)
        error = (image - truth).abs().amax((0, 1))
        # Away from the boundaries of the slabs only the one in focus is right.
        for slab in range(3):
            inside = error[16 * slab + 4 : 16 * slab + 12]
            assert (inside.max() < 1e-5) if slab == focus else (inside.min() > 1e-3)


def test_wrong_number_of_layers_is_refused():
    foreground, background, matte = scene()
    with pytest.raises(ValueError):
        layers_in_focus([foreground, background], [matte] * 3, [None, None])
    with pytest.raises(ValueError):
        layers_in_focus([foreground, background], [matte], [None])


def test_one_parameter_selects_and_leaks():
    image, _, matte = scene()
    ones, zeros = torch.ones_like(matte), torch.zeros_like(matte)
    assert torch.equal(one_parameter(image, ones, PSF), image)
    blurred = layers_in_focus([image], [], [PSF])
    torch.testing.assert_close(one_parameter(image, zeros, PSF), blurred, atol=1e-6, rtol=0)


def test_two_parameter_keeps_the_light_and_rims_the_boundary():
    side, half = 41, 20
    image = torch.ones(3, side, side) * 0.5
    mask = (torch.arange(side) >= half).float().expand(1, side, side)
    photographed = two_parameter(image, mask, disk(3.0))[0, half]
    assert float(photographed[half - 1]) < 0.4 < 0.6 < float(photographed[half])  # dark, bright
    inner = torch.zeros(3, side, side)
    inner[:, 12:28, 12:28] = 0.7
    total = float(two_parameter(inner, mask, disk(3.0)).sum())
    assert total == pytest.approx(float(inner.sum()), rel=1e-5)


def test_batches_and_single_scenes_agree():
    scenes = [scene(seed) for seed in range(3)]
    batch = [torch.stack(part) for part in zip(*scenes, strict=True)]
    for model in (foreground_in_focus, background_in_focus):
        together = model(*batch, PSF)
        for image, single in zip(together, scenes, strict=True):
            torch.testing.assert_close(image, model(*single, PSF), atol=1e-6, rtol=0)
        # One matte over a batch of layers.
        shared = model(batch[0], batch[1], scenes[0][2], PSF)
        torch.testing.assert_close(shared[0], together[0], atol=1e-6, rtol=0)


def test_models_are_differentiable():
    arguments = [part.requires_grad_() for part in scene(side=4, dtype=torch.double)]
    psf = disk(1.2).double().requires_grad_()
    for model in (foreground_in_focus, background_in_focus):
        assert torch.autograd.gradcheck(model, (*arguments, psf))


def test_everything_stays_on_the_device():
    with FakeTensorMode():
        foreground = torch.empty(2, 3, 24, 24, device="cuda")
        background, matte = torch.empty_like(foreground), torch.empty(2, 1, 24, 24, device="cuda")
        psf = disk(2.5).to("cuda")
        shares = (defocused_share([matte], psfs) for psfs in ([None, psf], [psf, None]))
        guidance = guidance_map(*shares)
        for result in (
            to_srgb(to_linear(foreground)),
            all_in_focus(foreground, background, matte),
            foreground_in_focus(foreground, background, matte, psf),
            background_in_focus(foreground, background, matte, psf),
            one_parameter(foreground, matte, psf),
            two_parameter(foreground, matte, psf),
            layers_in_focus([foreground, background], [matte], [psf, psf]),
            guidance,
            boundary_map(guidance),
        ):
            assert result.device.type == "cuda"
