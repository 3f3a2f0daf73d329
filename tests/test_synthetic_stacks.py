"""Generated focus stacks: their truth is what the imaging model says, their motions are exact."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import pytest

from benchmarks.synthetic_stacks import Motion, SyntheticStack, sharp_photographs, stack
from defocus.sources import Photographs

SIZE = (120, 160)


@pytest.fixture(scope="module")
def made() -> Callable[..., SyntheticStack]:
    """:func:`stack` of the default photographs, read once."""
    return partial(stack, photographs=sharp_photographs())


@pytest.fixture(scope="module")
def still(made) -> SyntheticStack:
    return made(3, SIZE, layers=3, frames=5, spread=3.0)


def difference(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - two).max(2)


def test_equal_seeds_give_equal_stacks_and_others_do_not(made, still):
    again = made(3, SIZE, layers=3, frames=5, spread=3.0)
    other = made(4, SIZE, layers=3, frames=5, spread=3.0)
    np.testing.assert_array_equal(still.truth, again.truth)
    np.testing.assert_array_equal(still.frames[1], again.frames[1])
    assert (still.truth != other.truth).mean() > 0.5


def test_outside_the_band_one_frame_is_right_and_inside_mostly_none(still):
    """The band of the α-matte model, against the pixels themselves."""
    errors = np.stack([difference(frame, still.truth) for frame in still.frames]).min(0)
    assert (errors[~still.band] <= 1).mean() > 0.999
    assert (errors[still.band] > 1).mean() > 0.5


def test_away_from_edges_a_layer_is_sharp_in_its_own_frame(still):
    for layer, number in enumerate((0, 2, 4)):
        here = (still.depth == layer) & ~still.band & ~still.edges(6)
        if here.any():
            assert difference(still.frames[number], still.truth)[here].max() <= 1


def test_edges_reach_so_far_from_where_the_depth_changes():
    depth = np.zeros((9, 30), np.uint8)
    depth[:, 15:] = 1
    flat = SyntheticStack([], depth, depth, depth > 0, [])
    np.testing.assert_array_equal(np.flatnonzero(flat.edges(3)[4]), np.arange(12, 19))
    assert not flat._replace(depth=np.zeros((9, 30), np.uint8)).edges().any()


def test_motions_are_within_their_limits_and_the_reference_does_not_move(made):
    motion = Motion(shift=5, rotation=1, scale=0.02)
    moved = made(1, SIZE, layers=3, frames=6, motion=motion)
    middle = np.array([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2, 1])
    np.testing.assert_array_equal(moved.matrices[3], np.eye(3))
    for matrix in moved.matrices:
        assert np.hypot(*(matrix @ middle - middle)[:2]) <= 5
        scale = np.sqrt(np.linalg.det(matrix[:2, :2]))
        assert abs(scale - 1) <= 0.02
        assert abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) <= 1


def test_a_moved_frame_is_the_still_one_seen_through_its_matrix(made):
    """Warped back with OpenCV, a moved frame equals the frame of the same scene that did not."""
    arguments = {"seed": 5, "size": (200, 240), "layers": 2, "frames": 2}
    moved = made(**arguments, motion=Motion(shift=6, rotation=1, scale=0.03))
    frame, matrix = moved.frames[0], moved.matrices[0]
    back = cv2.warpPerspective(
        frame, matrix, (240, 200), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
    # The reference frame shows the same scene in the same place, focused on the other layer.
    inner = (slice(25, -25), slice(25, -25))
    here = (moved.depth == 0) & ~moved.band
    errors = difference(back, moved.truth)[inner][here[inner]]
    unmoved = difference(frame, moved.truth)[inner][here[inner]]
    assert here[inner].mean() > 0.05
    assert np.median(errors) <= 2 and np.median(unmoved) > 5 * np.median(errors)


def test_gains_multiply_the_stored_values(made):
    plain = made(7, SIZE, layers=2, frames=3)
    bright = made(7, SIZE, layers=2, frames=3, exposure=0.3)
    np.testing.assert_array_equal(bright.frames[1], plain.frames[1])
    before, after = np.float64(plain.frames[2]), np.float64(bright.frames[2])
    sure = (before > 50) & (after < 255)
    gains = [np.median((after / before)[..., c][sure[..., c]]) for c in range(3)]
    assert np.abs(after - np.clip(before * gains, 0, 255)).max() < 2  # both are rounded
    assert 0.01 < np.abs(np.log2(gains)).max() <= 0.31


def test_a_plain_background_changes_nothing_else(made):
    one, two = made(7, SIZE, layers=2, frames=2), made(7, SIZE, layers=2, frames=2, background=9)
    np.testing.assert_array_equal(one.band, two.band)
    far = (two.depth == 1) & ~two.edges(12)
    assert (two.truth[far] == 9).all() and (one.truth[far] != 9).any()


def test_tiles_leave_no_trace(made, monkeypatch):
    whole = made(9, (150, 130), layers=3, frames=3)
    monkeypatch.setattr("benchmarks.synthetic_stacks.TILE", 48)
    tiled = made(9, (150, 130), layers=3, frames=3)
    assert difference(whole.frames[1], tiled.frames[1]).max() <= 1  # rounding
    np.testing.assert_array_equal(whole.band, tiled.band)


def test_pictures_larger_than_the_photographs_stay_sharp(photographs):
    """The detail of a mosaic is that of the photographs, which enlarging them would lose."""
    source = Photographs(photographs)
    large = stack(2, (400, 500), layers=2, frames=2, photographs=source)
    detail = [cv2.Laplacian(x, cv2.CV_64F).var() for x in (large.truth, source[0])]
    assert 0.7 < detail[0] / detail[1] < 1.4


def test_the_default_photographs_are_those_in_focus():
    assert sharp_photographs().photographs == ["cat-Truth", "coffee-Truth", "rocket-Truth"]


@pytest.mark.parametrize(("layers", "frames"), [(1, 3), (4, 3)])
def test_a_layer_needs_a_frame(made, layers, frames):
    with pytest.raises(ValueError, match="2 layers"):
        made(0, SIZE, layers=layers, frames=frames)
