"""Detail of frames that blur has made different, against the disks of the defocus model."""

import numpy as np
import pytest
import torch
from conftest import texture
from hypothesis import given, settings
from hypothesis import strategies as st

from defocus.psf import blur, disk
from fusion.detail import Blur, Plane, correlate, find_blurs, make_level, match

INNER = (slice(40, -40),) * 2


def plane(values: np.ndarray) -> Plane:
    return Plane(values, np.ones_like(values))


def light(seed: int = 0) -> np.ndarray:
    return texture(seed, 240, 320)[..., 1].astype(np.float32) / 255


def defocused(values: np.ndarray, radius: float) -> np.ndarray:
    return blur(torch.from_numpy(values)[None], disk(radius))[0].numpy()


def correlation(one: Plane, two: Plane) -> np.ndarray:
    return correlate(make_level(one).even, make_level(two).even)[0]


@pytest.mark.parametrize("radius", [4.3, 7, 9.1])
def test_the_blur_of_a_frame_is_found_and_given_to_the_other(radius):
    sharp, soft = plane(light()), plane(defocused(light(), radius))
    (found, *_) = find_blurs(sharp, soft)
    assert found.which == 0 and found.radius == pytest.approx(radius, rel=0.1)
    before = correlation(sharp, soft)
    one, two, near = match(sharp, soft, [found])
    assert near[INNER].mean() > 0.9 > before[INNER].mean() + 0.1
    assert (near >= before).all()
    assert np.array_equal(two.even[INNER], make_level(soft).even[INNER])  # that is not blurred


def test_each_place_is_blurred_for_itself():
    """The left half is sharp in one frame, the right half in the other."""
    sharp, soft = light(), defocused(light(), 6)
    left = np.arange(sharp.shape[1]) < sharp.shape[1] // 2
    planes = [plane(np.where(side, sharp, soft)) for side in (left, ~left)]
    found = find_blurs(*planes)
    assert {which for which, _ in found[:2]} == {0, 1}
    near = match(*planes, found)[2]
    assert min(near[40:-40, 40:120].mean(), near[40:-40, 200:-40].mean()) > 0.9


@pytest.mark.parametrize("radius", [0, 5])
def test_frames_that_are_alike_are_not_blurred(radius):
    same = plane(defocused(light(), radius) if radius else light())
    assert find_blurs(same, same) == []


@settings(max_examples=10, deadline=None)
@given(seeds=st.tuples(*[st.integers(0, 99)] * 2))
def test_a_swap_of_the_frames_swaps_their_detail(seeds):
    one, two = (plane(light(seed)) for seed in seeds)
    blurs = [Blur(0, 3.0), Blur(1, 6.0)]
    first, second, near = match(one, two, blurs)
    turned = [Blur(1 - which, radius) for which, radius in blurs]
    other_second, other_first, other_near = match(two, one, turned)
    assert np.allclose(near, other_near, atol=1e-5)
    for mine, other in ((first, other_first), (second, other_second)):
        assert np.mean(np.abs(mine.even - other.even) < 1e-4) > 0.999  # but for equal pairs


@pytest.mark.parametrize("radius", [1.5, 3, 6, 11])
def test_a_disk_displaces_nothing_and_a_plain_area_stays_plain(radius):
    spot = np.zeros((81, 81), np.float32)
    spot[40, 40] = 1
    _, level, near = match(plane(defocused(spot, radius)), plane(spot), [Blur(1, radius)])
    assert near[30:51, 30:51].min() > 0.9
    even = level.even
    for turned in (even[::-1], even[:, ::-1], even.T):
        assert np.abs(turned - even).max() < 1e-3 * np.abs(even).max()
    flat = plane(np.full((81, 81), 0.5, np.float32))
    assert np.abs(match(flat, flat, [Blur(0, radius)])[0].even).max() < 1e-3
