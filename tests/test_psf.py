"""Point spread functions against geometry, blurring against scipy's convolution."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal

from defocus.psf import blur, crop, disk, gaussian, polygon

LENSES = {
    "gaussian": gaussian,
    "disk": disk,
    "pentagon": lambda radius: polygon(radius, 5, 0.4),
    "octagon": lambda radius: polygon(radius, 8),
}


def variance(psf: torch.Tensor) -> tuple[float, float]:
    """Second moments about the centre along y and x."""
    axis = torch.arange(len(psf)) - len(psf) // 2
    return float((psf.sum(1) * axis**2).sum()), float((psf.sum(0) * axis**2).sum())


def onto(psf: torch.Tensor, side: int) -> torch.Tensor:
    """Embedded in a larger square, so that PSFs of different reach compare."""
    margin = (side - len(psf)) // 2
    return torch.nn.functional.pad(psf, (margin,) * 4)


@given(st.sampled_from(sorted(LENSES)), st.floats(0, 12))
@settings(max_examples=60, deadline=None)
def test_energy_is_kept(lens, radius):
    psf = LENSES[lens](radius)
    assert psf.shape[0] == psf.shape[1] and psf.shape[0] % 2 == 1
    assert psf.min() >= 0
    assert float(psf.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("radius", [3.0, 4.5, 7.3, 12.0])
def test_disk_has_the_second_moment_of_a_disk(radius):
    # r²/4 along each axis, and that of the pixels that the edge is averaged over.
    for moment in variance(disk(radius)):
        assert moment == pytest.approx(radius**2 / 4, rel=0.01, abs=0.15)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.4, 4.5])
def test_gaussian_has_its_variance(sigma):
    for moment in variance(gaussian(sigma)):  # cut at 3 σ, it lacks up to 2.7 %
        assert 0.97 * sigma**2 <= moment <= 1.001 * sigma**2


@pytest.mark.parametrize("radius", [6.0, 9.0])
def test_polygon_has_the_second_moment_of_a_polygon(radius):
    # Regular n-gon of circumradius r: r²/12·(2 + cos(2π/n)) along each axis.
    for blades in (4, 6, 8):
        expected = radius**2 / 12 * (2 + math.cos(2 * math.pi / blades))
        for moment in variance(polygon(radius, blades, 0.3)):
            assert moment == pytest.approx(expected, rel=0.03, abs=0.15)


@pytest.mark.parametrize("lens", ["disk", "pentagon", "octagon"])
@pytest.mark.parametrize("radius", [0.3, 1.0, 2.0, 2.5, 5.0])
def test_radius_is_continuous(lens, radius):
    step = 1e-3
    before, after = (onto(LENSES[lens](r), 15) for r in (radius, radius + step))
    assert (before - after).abs().max() < 5 * step


@pytest.mark.parametrize("lens", sorted(LENSES))
def test_radius_zero_is_the_unit_impulse(lens):
    assert LENSES[lens](0.0).tolist() == [[1.0]]
    tiny = LENSES[lens](1e-2)
    assert float(tiny[len(tiny) // 2, len(tiny) // 2]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("blades", [3, 5, 6, 9])
def test_polygon_repeats_under_its_rotation(blades):
    turned = polygon(6.0, blades, 0.2 + 2 * math.pi / blades)
    torch.testing.assert_close(polygon(6.0, blades, 0.2), turned, atol=1e-5, rtol=0)


def test_square_aperture_looks_the_same_after_a_quarter_turn():
    square = polygon(6.0, 4, 0.3)
    torch.testing.assert_close(square, torch.rot90(square), atol=1e-5, rtol=0)
    assert (square - polygon(6.0, 4, 0.3 + math.pi / 4)).abs().max() > 1e-3


def test_polygon_of_many_blades_is_a_disk():
    torch.testing.assert_close(polygon(7.0, 200), disk(7.0), atol=2e-4, rtol=0)


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_blur_is_convolution_with_a_replicated_border(height, width, reach, seed):
    rng = np.random.default_rng(seed)
    image, psf = rng.random((2, height, width)), rng.random((2 * reach + 1,) * 2)  # not symmetric
    psf /= psf.sum()
    blurred = blur(torch.from_numpy(image), torch.from_numpy(psf)).numpy()
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    for plane, full, own in zip(image, padded, blurred, strict=True):
        np.testing.assert_allclose(own, signal.convolve2d(full, psf, "valid"), atol=1e-12)
        np.testing.assert_allclose(own, ndimage.convolve(plane, psf, mode="nearest"), atol=1e-12)


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 6), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_margin_leaves_out_the_border(height, width, reach, margin):
    shape = (2, height + 2 * margin, width + 2 * margin)
    rng = np.random.default_rng(height)
    image, psf = (
        torch.from_numpy(rng.random(shape)),
        torch.from_numpy(rng.random((2 * reach + 1,) * 2)),
    )
    blurred = blur(image, psf, margin)
    assert blurred.shape == (2, height, width)
    whole = blur(image, psf)[:, margin : margin + height, margin : margin + width]
    torch.testing.assert_close(blurred, whole, atol=1e-12, rtol=1e-12)
    assert torch.equal(
        crop(image, margin), image[:, margin : margin + height, margin : margin + width]
    )


@pytest.mark.parametrize("lens", sorted(LENSES))
def test_blur_keeps_light_and_constants(lens):
    psf = LENSES[lens](3.3)
    spot = torch.zeros(1, 64, 64)
    spot[:, 24:40, 28:36] = torch.rand(16, 8, generator=torch.Generator().manual_seed(1))
    assert float(blur(spot, psf).sum()) == pytest.approx(float(spot.sum()), rel=1e-5)
    constant = torch.full((3, 20, 31), 0.37)
    torch.testing.assert_close(blur(constant, psf), constant, atol=1e-6, rtol=0)


def test_blur_is_differentiable():
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(2, 5, 6, dtype=torch.double, generator=generator, requires_grad=True)
    psf = torch.rand(3, 3, dtype=torch.double, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(blur, (image, psf))


def test_leading_dimensions_are_independent():
    images = torch.rand(2, 4, 3, 17, 19, generator=torch.Generator().manual_seed(3))
    blurred = blur(images, disk(2.6))
    assert blurred.shape == images.shape
    torch.testing.assert_close(blurred[1, 2], blur(images[1, 2], disk(2.6)), atol=1e-6, rtol=0)


def test_no_psf_returns_the_image():
    image = torch.rand(3, 8, 8)
    assert blur(image, None) is image


@pytest.mark.parametrize("radius", [-0.1, math.nan])
def test_impossible_radius_is_refused(radius):
    for lens in LENSES.values():
        with pytest.raises(ValueError, match="must be 0 or more"):
            lens(radius)
    with pytest.raises(ValueError, match="at least 3 blades"):
        polygon(2.0, 2)
