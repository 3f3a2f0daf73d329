"""Rendering of surfaces against the model of flat layers and the laws of optics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from defocus import render, surfaces
from defocus.color import to_srgb
from defocus.guidance import VEIL, defocused_share, rightness
from defocus.mattes import procedural_matte
from defocus.models import all_in_focus, layers_in_focus, two_layers
from defocus.psf import blur, crop, disk, gaussian
from defocus.scene import SceneConfig, expand, glitter
from models.mmfnet import boundary_map

SIZE = 48


def scene(layers: int, reach: int, seed: int = 0):
    """Colours and mattes of noise, and both as `render.photograph` takes them."""
    side = render.padded_side(SIZE, reach)
    rng = np.random.default_rng(seed)
    colors = [torch.from_numpy(rng.random((3, side, side), np.float32)) for _ in range(layers)]
    kinds = ["blob", "polygon", "holes"]
    mattes = [
        torch.from_numpy(procedural_matte((side, side), rng, kinds))[None]
        for _ in range(layers - 1)
    ]
    near = [torch.cat([a * c, a]) for a, c in zip(mattes, colors, strict=False)]
    return colors, mattes, [*near, colors[-1]]


def inside(image):
    return crop(image, (image.shape[-1] - SIZE) // 2)


def test_two_flat_layers_are_the_papers_pair():
    (near, far), (matte,), layers = scene(2, 6)
    rendering = render.photograph(render.Scene(layers, [6.0, 0.0], [6.0, 0.0], disk), SIZE)
    h = disk(6.0)
    for psfs, photograph in zip([(None, h), (h, None)], rendering.photographs, strict=True):
        expected, _ = two_layers(near, far, matte, psfs)
        torch.testing.assert_close(photograph, inside(expected), atol=2e-6, rtol=0)
    torch.testing.assert_close(rendering.truth, inside(all_in_focus(near, far, matte)))
    guidance = rightness(*rendering[3:])
    shares = [defocused_share([matte], psfs) for psfs in ((None, h), (h, None))]
    first, second = (inside(share)[0] <= VEIL for share in shares)
    expected = torch.where(first == second, 0.5, first.float())
    settled = sum((inside(share)[0] - VEIL).abs() < 1e-6 for share in shares) == 0
    assert set(expected.unique().tolist()) == {0.0, 0.5, 1.0} and settled.float().mean() > 0.99
    assert torch.equal(guidance[0, 0][settled], expected[settled])
    assert torch.equal(guidance[1, 0][settled], 1 - expected[settled])


@pytest.mark.parametrize("lens", [disk, lambda radius: gaussian(radius / 2)])
def test_flat_layers_are_the_model_of_flat_layers(lens):
    depths, focus = [7.0, 3.2, 0.0], [8.0, 4.0, 1.5, 0.0]
    colors, mattes, layers = scene(3, 12)
    rendering = render.photograph(render.Scene(layers, depths, focus, lens), SIZE)
    settings_ = [[lens(abs(d - f)) if d != f else None for d in depths] for f in focus]
    for photograph, psfs in zip(rendering.photographs, settings_, strict=True):
        expected = layers_in_focus(colors, mattes, psfs)
        torch.testing.assert_close(photograph, inside(expected), atol=3e-6, rtol=0)
    best = [lens(min(abs(d - f) for f in focus)) for d in depths]
    truth = layers_in_focus(colors, mattes, best)
    torch.testing.assert_close(rendering.truth, inside(truth), atol=3e-6, rtol=0)
    torch.testing.assert_close(rendering.shares.sum(1), torch.ones(4, SIZE, SIZE))
    torch.testing.assert_close(rendering.true_shares.sum(0), torch.ones(SIZE, SIZE))


@given(st.permutations(range(4)), st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_photographs_in_another_order_are_the_same(order, seed):
    rng = np.random.default_rng(seed)
    _, _, layers = scene(2, 12, seed)
    depths = [5.0 + surfaces.relief(SIZE, 3.0, 0.5, rng), 1.3]
    focus = [6.1, 4.0, 2.2, 0.0]
    one = render.photograph(render.Scene(layers, depths, focus, disk), SIZE)
    other = render.photograph(render.Scene(layers, depths, [focus[i] for i in order], disk), SIZE)
    assert torch.equal(one.photographs[order], other.photographs)
    assert torch.equal(one.truth, other.truth)
    guidance, exchanged = (rightness(*r[3:]) for r in (one, other))
    assert torch.equal(guidance[order], exchanged)


@given(st.floats(0.0, 9.0))
@settings(max_examples=20, deadline=None)
def test_interpolated_blur_keeps_light_and_has_the_width_of_its_radius(radius):
    side = render.padded_side(SIZE, 12)
    point = torch.zeros(3, side, side)
    point[:, side // 2, side // 2] = 1
    uneven = torch.full((SIZE, SIZE), radius)
    uneven[0, 0], uneven[0, 1] = 9, 0  # so that it is no flat layer
    rendering = render.photograph(render.Scene([point], [uneven], [0.0], disk), SIZE)
    image = rendering.photographs[0, 0].double()
    assert float(image.sum()) == pytest.approx(1, abs=1e-4)
    axis = torch.arange(SIZE, dtype=torch.float64)
    variance = (image.sum(0) * (axis - SIZE // 2).square()).sum()
    exact = disk(radius).double().sum(0)
    exact = (exact * (torch.arange(len(exact)) - len(exact) // 2).square()).sum()
    assert float(variance) == pytest.approx(float(exact), rel=0.05, abs=0.06)


def test_a_slant_is_right_up_to_the_middle_between_two_focus_positions():
    _, _, layers = scene(1, 12)
    depth = torch.linspace(0, 6, SIZE).expand(SIZE, SIZE)
    focus = [0.5, 2.0, 4.1, 5.3]
    rendering = render.photograph(render.Scene(layers, [depth], focus, disk), SIZE)
    guidance = rightness(*rendering[3:])
    middles = [(a + b) / 2 for a, b in zip(focus, focus[1:], strict=False)]
    expected = np.searchsorted(middles, depth[0].numpy())
    assert (guidance.amax(0) == 1).all()
    assert np.array_equal(guidance[:, 0, 5].argmax(0), expected)
    sharper = np.abs(depth[0].numpy() - np.array(focus)[expected])
    np.testing.assert_allclose(rendering.radii.amin((0, 1))[5], sharper, atol=1e-6)


@pytest.mark.parametrize("uneven", [False, True])
def test_the_truth_lacks_the_blur_that_is_to_be_restored(uneven):
    """Variances add: the truth, blurred by what was restored, is the best photograph."""
    _, _, layers = scene(1, 30)
    depth = torch.full((SIZE, SIZE), 2.0)
    depth[0, 0] += 0.5 * uneven
    focus, lens = [0.0, 4.5], lambda radius: gaussian(radius / 2)
    scene_ = render.Scene(layers, [depth if uneven else 2.0], focus, lens, restored=1.2)
    rendering = render.photograph(scene_, SIZE)
    exact = blur(layers[0], lens(1.6))
    tolerance = 0.01 if uneven else 1e-5  # an uneven blur is interpolated
    torch.testing.assert_close(
        rendering.truth[:, 9:-9, 9:-9], inside(exact)[:, 9:-9, 9:-9], atol=tolerance, rtol=0
    )
    again = inside(blur(blur(layers[0], lens(1.6)), lens(1.2)))
    assert (again - rendering.photographs[0]).abs()[:, 9:-9, 9:-9].max() < 0.01


def test_between_two_planes_of_focus_the_truth_is_sharp():
    _, _, layers = scene(1, 12)
    depth = torch.linspace(0, 6, SIZE).expand(SIZE, SIZE)
    focus = [0.0, 1.8, 6.0]
    rendering = render.photograph(render.Scene(layers, [depth], focus, disk, restored=1.0), SIZE)
    best = rendering.radii.amin((0, 1))
    sharp = best <= 1
    difference = (rendering.truth - inside(layers[0])).abs().amax(0)
    assert difference[sharp].max() < 1e-6 < difference[best > 1.2].max()
    boundary = boundary_map(rightness(*rendering[3:]))[0]
    lacking = best - (best.square() - 1).clamp(0).sqrt()
    assert torch.equal(boundary == 1, lacking > 0.5) and 0.2 < boundary.mean() < 0.8


def test_speculars_clip_after_the_blur():
    """A point 30 times as bright as white becomes a flat white image of the aperture."""
    side = render.padded_side(SIZE, 8)
    light = torch.zeros(3, side, side)
    corner = torch.zeros(1, side, side)
    corner[:, side // 2, side // 2] = 1
    bright = SceneConfig(specular_stops=[4.9, 4.9], specular_radius=[2.0, 2.0])
    glitter(light, corner, 1, bright, np.random.default_rng(3))
    brightest = light.amax((1, 2))
    assert 14 < brightest.min() and brightest.max() < 30.1
    rendering = render.photograph(render.Scene([light], [8.0], [0.0, 8.0], disk), SIZE)
    blurred, sharp = (to_srgb(image).amin(0) for image in rendering.photographs)
    white = int((blurred == blurred.max()).sum())
    assert blurred.max() == pytest.approx(1, abs=1e-5)
    assert math.pi * 7**2 < white < math.pi * 10**2
    seen = int((blurred > 1e-3).sum())
    assert seen < math.pi * 11**2  # the aperture and, around it, what is left of the point
    spread = float(light.sum((1, 2)).max()) / (math.pi * 8**2)  # above white, flat once clipped
    assert float(rendering.photographs[0].amax()) == pytest.approx(spread, rel=0.02)
    assert (sharp > 1e-3).sum() < math.pi * 3.5**2


def test_floating_lights_belong_to_their_layer_and_hide_what_is_behind():
    """A light beside a layer is opaque where its disk is, of its own colour, and nothing else is
    changed."""
    light, matte = torch.full((3, 60, 60), 0.2), torch.zeros(1, 60, 60)
    config = SceneConfig(specular_stops=[2.0, 2.0], specular_radius=[3.0, 3.0])
    glitter(light, matte, 1, config, np.random.default_rng(1), floating=1)
    assert float(matte.sum()) == pytest.approx(math.pi * 3**2, rel=0.02)
    lit = matte[0] > 0
    assert float(light[:, ~lit].min()) == float(light[:, ~lit].max()) == pytest.approx(0.2)
    assert float(light[:, lit].min()) >= 2.0 and light[0, lit].unique().numel() == 1


@pytest.mark.parametrize("radius", [0.4, 1.0, 3.0])
def test_floating_lights_are_as_bright_before_their_layer_as_beside_it(radius):
    config = SceneConfig(specular_stops=[2.0, 2.0], specular_radius=[radius, radius])

    def total(opaque: float) -> torch.Tensor:
        light, matte = torch.zeros(3, 60, 60), torch.full((1, 60, 60), opaque)
        glitter(light, matte, 1, config, np.random.default_rng(1), floating=1)
        return (light * matte).sum((1, 2))

    torch.testing.assert_close(total(1.0), total(0.0), rtol=1e-5, atol=1e-5)


def test_highlights_leave_what_is_not_white():
    light = torch.tensor([[0.2, 0.84, 0.925, 1.0]]).expand(3, 1, 4)
    expanded = expand(light, 3.0)[0, 0].tolist()
    assert expanded == pytest.approx([0.2, 0.84, 0.925 * 2.75, 8.0], rel=1e-5)
    colored = expand(torch.tensor([1.0, 0.5, 0.25]).view(3, 1, 1), 2.0)
    assert colored.flatten().tolist() == pytest.approx([4.0, 2.0, 1.0], rel=1e-5)


@given(st.integers(2, 8), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_surfaces_do_not_interpenetrate_and_blur_is_bounded(count, seed):
    rng = np.random.default_rng(seed)
    focus = surfaces.focus_positions(count, (0.7, 24.0), 24.0, rng)
    steps = -np.diff(focus)
    assert (steps > 0).all() and sum(steps) <= 24 + 1e-6
    assert steps.max() / steps.min() <= surfaces.JITTER**2 + 1e-6
    means = surfaces.mean_depths(4, focus, False, 2.0, rng)
    assert means == sorted(means, reverse=True)
    tilted = [m + surfaces.relief(16, rng.uniform(0, 20), 3.0, rng) for m in means[:3]]
    depths = surfaces.stack_up([*tilted, means[3]], focus, 24.0)
    for near, far in zip(depths, depths[1:], strict=False):
        assert (torch.as_tensor(near) >= torch.as_tensor(far)).all()
    assert render.largest_radius(depths, focus) <= 24 + 1e-4


@given(st.integers(2, 8), st.integers(2, 5), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_close_layers_are_half_a_step_apart_or_more(count, number, seed):
    rng = np.random.default_rng(seed)
    focus = surfaces.focus_positions(count, (0.7, 24.0), 24.0, rng)
    means = surfaces.mean_depths(number, focus, False, 0.0, rng, close=True)
    span, gaps = focus[0] - focus[-1], -np.diff(means)
    assert focus[0] + 1e-6 >= means[0] and means[-1] >= focus[-1] - 1e-6
    assert gaps.max() <= span / (number - 1) + 1e-6
    assert gaps.min() >= min(0.5 * span / (count - 1), span / (number - 1)) - 1e-6


def test_relief_spans_the_slant():
    for seed in range(5):
        depth = surfaces.relief(33, 4.0, 0.0, np.random.default_rng(seed))
        assert float(depth.max() - depth.min()) == pytest.approx(4, rel=1e-5)
        torch.testing.assert_close(depth, -depth.flip(0, 1), atol=1e-5, rtol=0)
        assert depth.diff(n=2, dim=0).abs().max() < 1e-5
