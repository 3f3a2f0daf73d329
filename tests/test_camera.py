"""Camera effects and the sRGB curve against formulas and the standard's values."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defocus import camera
from defocus.color import to_linear, to_srgb


def waves(side: int = 64, shift: tuple[float, float] = (0, 0), magnification: float = 1.0):
    """A smooth pattern (3, side, side) known at every real coordinate."""
    axis = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / magnification
    y, x = axis[:, None] - shift[1] / magnification, axis - shift[0] / magnification
    planes = [torch.sin(0.2 * x + k) * torch.cos(0.15 * y - k) for k in range(3)]
    return (0.5 + 0.4 * torch.stack(planes)).float()


@pytest.mark.parametrize(
    ("srgb", "linear"),
    [
        (0.0, 0.0),
        (0.02, 0.0015479876),
        (0.04045, 0.0031308050),
        (0.2, 0.0331047666),
        (0.5, 0.2140411405),
        (0.7353569831, 0.5),
        (1.0, 1.0),
    ],
)
def test_srgb_standard(srgb, linear):
    """IEC 61966-2-1."""
    encoded, light = (torch.tensor(value, dtype=torch.double) for value in (srgb, linear))
    assert float(to_linear(encoded)) == pytest.approx(linear, abs=1e-8)
    assert float(to_srgb(light)) == pytest.approx(srgb, abs=1e-7)


@given(st.floats(0, 1), st.floats(0, 1))
def test_srgb_round_trip_and_order(a, b):
    values = torch.tensor(sorted([a, b]), dtype=torch.double)
    torch.testing.assert_close(to_srgb(to_linear(values)), values, atol=1e-6, rtol=0)
    darker, lighter = to_linear(values)
    assert darker <= lighter


def test_srgb_clips_and_has_a_finite_slope_everywhere():
    assert to_srgb(torch.tensor([-0.5, 1.7])).tolist() == [0.0, pytest.approx(1.0)]
    values = torch.linspace(0, 1, 101, requires_grad=True)
    for curve in (to_linear, to_srgb):
        (slope,) = torch.autograd.grad(curve(values).sum(), values)
        assert slope.isfinite().all() and slope[1:-1].min() > 0
    inside = torch.tensor([0.001, 0.02, 0.4, 0.9], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(to_linear, inside)
    assert torch.autograd.gradcheck(to_srgb, inside)


@pytest.mark.parametrize("shot", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_noise_has_the_variance_of_its_formula(level, shot):
    image = torch.full((3, 128, 128), level)
    noisy = camera.add_noise(image, 0.02, shot, np.random.default_rng(1))
    expected = 0.02**2 * (1 - shot + shot * level / 0.5)
    # 49,152 values: the standard error of a variance is 0.64 %, of the mean 1e-4.
    assert float(noisy.var()) == pytest.approx(expected, rel=0.03)
    assert float(noisy.mean()) == pytest.approx(level, abs=5e-4)
    assert torch.equal(image, torch.full_like(image, level))


def test_noise_depends_on_its_generator_alone():
    image = waves(16)
    first, again, other = (
        camera.add_noise(image, 0.01, 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(camera.add_noise(image, 0.0, 0.5, np.random.default_rng(1)), image)


@pytest.mark.parametrize(("shot", "ratio"), [(0.0, 10.28), (1.0, 1.394)])
def test_noise_of_light_in_the_dark(shot, ratio):
    """At sRGB 0.05 the curve is 10.28 times as steep as at 0.5, and the light 54.4 times less."""
    deviations = []
    for value in (0.5, 0.05):
        light = to_linear(torch.full((3, 256, 256), value))
        noisy = camera.add_light_noise(light, 0.002, shot, np.random.default_rng(1))
        assert float((noisy - light).mean()) == pytest.approx(0, abs=1e-5)
        deviations.append(float(to_srgb(noisy).std()))
    assert deviations[0] == pytest.approx(0.002, rel=0.01)
    # The curve bends within the noise, by more in the dark.
    assert deviations[1] / deviations[0] == pytest.approx(ratio, rel=0.04)


@pytest.mark.parametrize("shift", [(3.0, -2.0), (0.4, 0.7), (-0.5, 0.0)])
def test_misregistration_moves_by_the_shift(shift):
    moved = camera.misregister(waves(), shift, 1.0)
    inside = (slice(None), slice(5, -5), slice(5, -5))
    # OpenCV places samples to 1/32 pixel; the steepest slope of the pattern is 0.08 a pixel.
    torch.testing.assert_close(moved[inside], waves(shift=shift)[inside], atol=4e-3, rtol=0)


@pytest.mark.parametrize("magnification", [0.99, 1.02])
def test_breathing_magnifies_about_the_centre(magnification):
    grown = camera.misregister(waves(), (0.0, 0.0), magnification)
    inside = (slice(None), slice(3, -3), slice(3, -3))
    expected = waves(magnification=magnification)
    torch.testing.assert_close(grown[inside], expected[inside], atol=4e-3, rtol=0)


def test_jpeg_error_falls_with_quality():
    image = waves() + 0.05 * torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    errors = [
        float((camera.compress_jpeg(image, quality) - image).square().mean())
        for quality in (10, 50, 80, 100)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 4 * errors[-1] > 0
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 16, 16)
    torch.testing.assert_close(camera.compress_jpeg(red, 95), red, atol=0.02, rtol=0)


@given(st.lists(st.floats(-2, 3), min_size=1, max_size=8))
def test_quantize_gives_8_bit_values(values):
    levels = camera.quantize(torch.tensor(values)).numpy() * 255
    clipped = np.clip(np.array(values, np.float32), 0, 1) * 255
    assert np.allclose(levels, np.round(levels), atol=1e-4)
    assert (np.abs(levels - clipped) <= 0.5 + 1e-4).all()
