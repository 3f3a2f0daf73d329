"""Registration against known motions, and what common areas and warps must always satisfy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from conftest import ROOT, texture
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic_stacks import Motion, sharp_photographs, stack
from fusion.align import Registration, common_area, register, warp
from fusion.motion import reduce
from utils.images import read_photo

SIZE = HEIGHT, WIDTH = 240, 320
STILL = Registration(np.eye(3), np.ones(3))
TURN = np.radians(0.8)
MOTIONS = {
    "translation": [[1, 0, 6.3], [0, 1, -4.6], [0, 0, 1]],
    "similarity": [
        [1.02 * np.cos(TURN), -1.02 * np.sin(TURN), 3.2],
        [1.02 * np.sin(TURN), 1.02 * np.cos(TURN), -5.7],
        [0, 0, 1],
    ],
    "affine": [[1.02, 0.01, 2.5], [-0.005, 0.985, 3.1], [0, 0, 1]],
    "homography": [[1.01, 0.01, -3.4], [-0.01, 0.99, 4.2], [2e-5, -3e-5, 1]],
}


def photograph(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth enough texture to be sampled between its pixels."""
    return cv2.GaussianBlur(texture(seed, *size), (0, 0), 1.2)


def seen(image: np.ndarray, matrix: Sequence) -> np.ndarray:
    """The frame in which pixel ``matrix``·p shows what ``image`` shows at p."""
    matrix = np.asarray(matrix, float)
    return cv2.warpPerspective(
        image, matrix, image.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def corner_error(found: np.ndarray, true: Sequence, size: tuple[int, int] = SIZE) -> float:
    """Mean distance of the corners, pixels."""
    height, width = size
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], float)
    places = [cv2.perspectiveTransform(corners, np.asarray(m, float)) for m in (found, true)]
    return float(np.hypot(*(places[0] - places[1])[0].T).mean())


@pytest.mark.parametrize("motion", MOTIONS)
def test_each_motion_model_finds_a_motion_of_its_kind(motion):
    image = photograph()
    reference, moved = register([image, seen(image, MOTIONS[motion])], motion, reference=0)
    np.testing.assert_array_equal(reference.matrix, np.eye(3))
    assert corner_error(moved.matrix, MOTIONS[motion]) < 0.05


def test_a_similarity_has_no_shear_though_the_motion_has():
    image = photograph()
    found = register([image, seen(image, MOTIONS["affine"])], "similarity", reference=0)[1].matrix
    assert found[0, 0] == pytest.approx(found[1, 1], abs=1e-9)
    assert found[0, 1] == pytest.approx(-found[1, 0], abs=1e-9)
    assert corner_error(found, MOTIONS["affine"]) < 6  # the nearest that there is


@pytest.mark.parametrize("name", ["cat", "coffee", "rocket"])
def test_photographs_from_a_tripod_are_not_moved(name):
    """Made without motion; what registration finds is its error, and must not soften them."""
    pair = [read_photo(ROOT / "data/samples" / f"{name}-{mark}.png").rgb for mark in "AB"]
    assert all(np.array_equal(found.matrix, np.eye(3)) for found in register(pair))


def test_motions_are_chained_to_the_middle_frame():
    image = photograph()
    steps = [[[1, 0, 5.0 * (i - 2)], [0, 1, -3.0 * (i - 2)], [0, 0, 1]] for i in range(5)]
    found = register([seen(image, step) for step in steps])
    assert all(corner_error(f.matrix, step) < 0.1 for f, step in zip(found, steps, strict=True))


def stack_errors(spread: float, change: Callable, background: int | None = None) -> list[float]:
    """Corner errors of the frames of a stack of three layers, each frame changed."""
    made = stack(
        11,
        (480, 640),
        3,
        3,
        photographs=sharp_photographs(),
        background=background,
        spread=spread,
        motion=Motion(12),
    )
    found = register([change(i, frame) for i, frame in enumerate(made.frames)])
    errors = []
    for f, true in zip(found, made.matrices, strict=True):
        if f.matrix is not None:
            errors.append(corner_error(f.matrix, true, (480, 640)))
        else:  # focused on a plain background
            assert background is not None and f.reason == "it is blurred everywhere"
    assert len(errors) >= 2
    return errors


def as_it_is(number: int, frame: np.ndarray) -> np.ndarray:
    return frame


def through_a_microscope(number: int, frame: np.ndarray) -> np.ndarray:
    """Black around a round field that stays where it is."""
    return cv2.bitwise_and(frame, cv2.circle(np.zeros_like(frame), (320, 240), 230, (255,) * 3, -1))


def overexposed(number: int, frame: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(frame, alpha=1.8 if number == 0 else 1)


@pytest.mark.parametrize(("spread", "limit"), [(3, 0.05), (6, 0.1), (12, 0.2)])
def test_focus_sweeps_are_registered_whatever_their_blur(spread, limit):
    """Radii up to twice the spread."""
    assert max(stack_errors(spread, as_it_is)) < limit


@pytest.mark.parametrize("radius", [17, 20, 24])
def test_two_frames_are_registered_though_one_is_blurred_wherever_the_other_is_sharp(radius):
    made = stack(
        5, (768, 1024), 2, 2, photographs=sharp_photographs(), spread=radius, motion=Motion()
    )
    found = register(made.frames, reference=1)[0].matrix
    assert corner_error(found, made.matrices[0], (768, 1024)) < 0.3


@pytest.mark.parametrize("background", [0, 255])
def test_plain_backgrounds_are_no_obstacle(background):
    assert max(stack_errors(3, as_it_is, background)) < 0.2


@pytest.mark.parametrize("change", [through_a_microscope, overexposed])
def test_round_fields_and_clipped_frames_are_no_obstacle(change):
    assert max(stack_errors(3, change)) < 0.2


def test_large_frames_are_registered_as_exactly_as_small_ones():
    """Coarser pictures than the frame are compared: the motion is that of the frame."""
    image = cv2.resize(photograph(size=(480, 640)), (1920, 1440), interpolation=cv2.INTER_CUBIC)
    turned = cv2.getRotationMatrix2D((960, 720), 0.5, 1.01)
    true = np.vstack([turned + [[0, 0, 9.4], [0, 0, -7.7]], [0, 0, 1]])
    found = register([image, seen(image, true)], reference=0)[1]
    assert corner_error(found.matrix, true, (1440, 1920)) < 0.1


@pytest.mark.parametrize("gains", [(1.2, 1.2, 1.2), (0.85, 1.0, 1.1)])
def test_exposure_and_white_balance_are_recovered(gains):
    image = photograph() // 2 + 20
    moved = seen(image, MOTIONS["similarity"])
    other = np.clip(moved / np.array(gains), 0, 255).round().astype(np.uint8)
    first, found = register([image, other], reference=0)
    np.testing.assert_allclose(found.gain / first.gain, gains, rtol=0.01)
    assert corner_error(found.matrix, MOTIONS["similarity"]) < 0.1


def test_exposure_stays_where_it_is_not_asked_for_or_equal():
    image = photograph()
    darker = (image * 0.8).round().astype(np.uint8)
    for found in (*register([image, darker], exposure=False), *register([image, image])):
        np.testing.assert_array_equal(found.gain, 1)


@pytest.mark.parametrize("seed", [1, 2])
def test_blur_is_no_exposure(seed):
    """A lens spreads light: the mean of values as stored rises where something is blurred."""
    for registration in register(stack(seed, (240, 360), 3, 5).frames):
        np.testing.assert_allclose(registration.gain, 1, atol=0.004)  # a grey level


@pytest.mark.parametrize("wrong", [0, 2, 4])
def test_one_dark_frame_changes_no_other_and_is_named(wrong):
    image = photograph() // 2 + 20
    frames = [image] * 5
    frames[wrong] = (image * 0.6).round().astype(np.uint8)
    found = register(frames)
    for i, registration in enumerate(found):
        gain = 1 / 0.6 if i == wrong else 1
        np.testing.assert_allclose(registration.gain, gain, rtol=0.01)
        assert (registration.warning is not None) == (i == wrong)
    assert "darker" in found[wrong].warning


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda frame: frame * np.array([1.2, 1, 0.8]), "white balance"),
        (lambda frame: 255 * (frame / 255) ** 1.8 * 1.5, "gamma"),
        (lambda frame: np.hstack([frame[:, :200], photograph(7)[:, 200:]]), "belong"),
    ],
)
def test_a_frame_that_differs_is_named_and_no_other(change, word):
    ramp = np.linspace(0.3, 0.9, WIDTH)[:, None]
    frames = [(photograph() * ramp).astype(np.uint8)] * 5
    frames[1] = np.clip(change(frames[1]), 0, 255).round().astype(np.uint8)
    found = register(frames)
    assert word in found[1].warning
    assert [i for i, registration in enumerate(found) if registration.warning] == [1]


def test_frames_of_a_good_stack_are_not_warned_of():
    made = stack(3, (240, 320), 3, 5, photographs=sharp_photographs(), motion=Motion(6))
    assert not any(registration.warning for registration in register(made.frames))


def test_frames_that_are_mostly_blurred_are_registered():
    """Each frame shows only a strip sharp, and what is sharp in it is blurred in all others."""
    image = photograph(3, (480, 640))
    blurred = cv2.GaussianBlur(image, (0, 0), 5)
    shifts, frames = [(0, 0), (4.4, -2.3), (-6.2, 5.5), (8.1, 3.7)], []
    for i, (x, y) in enumerate(shifts):
        frame = blurred.copy()
        strip = slice(i * 120, (i + 1) * 120)
        frame[strip] = image[strip]
        frames.append(seen(frame, [[1, 0, x], [0, 1, y], [0, 0, 1]]))
    found = register(frames, reference=0)
    for registration, (x, y) in zip(found, shifts, strict=True):
        true = [[1, 0, x], [0, 1, y], [0, 0, 1]]
        assert corner_error(registration.matrix, true, (480, 640)) < 0.3


def test_a_frame_blurred_everywhere_is_left_out_with_a_reason():
    image = photograph()
    frames = [image, cv2.GaussianBlur(image, (0, 0), 9), image]
    good, bad, last = register(frames)
    assert bad.matrix is None and bad.reason == "it is blurred everywhere"
    assert good.reason is last.reason is None and good.matrix is not None


def test_a_frame_of_another_scene_is_left_out_and_the_chain_goes_on():
    image = photograph(1)
    found = register([image, photograph(2), seen(image, MOTIONS["translation"])], reference=0)
    assert found[1].matrix is None
    assert "match its neighbours" in found[1].reason or "be aligned" in found[1].reason
    assert corner_error(found[2].matrix, MOTIONS["translation"]) < 0.1


def test_a_middle_frame_of_another_scene_is_no_reference():
    image = photograph(1)
    found = register([image, photograph(2), seen(image, MOTIONS["translation"])])
    assert [registration.matrix is None for registration in found] == [False, True, False]


@pytest.mark.parametrize("each", [1, 2])
def test_strange_frames_before_a_stack_do_not_keep_it_out(each):
    strange, image = (photograph(seed) for seed in range(1, 4) for _ in range(each)), photograph(0)
    found = register([*strange, image, image, image])
    left_out = [registration.matrix is None for registration in found]
    assert left_out == [True] * 3 * each + [False] * 3


def test_without_the_reference_no_frame_has_a_place():
    flat, image = np.full((*SIZE, 3), 128, np.uint8), photograph()
    found = register([flat, image, image], reference=0)
    assert all(registration.matrix is None and registration.reason for registration in found)


def test_a_frame_that_moved_too_far_is_left_out():
    image = photograph(1)
    far = [[1.4, 0, -60], [0, 1.4, -50], [0, 0, 1]]
    assert register([image, seen(image, far)], reference=0)[1].matrix is None


def test_frames_without_any_detail_are_left_out():
    flat = np.full((*SIZE, 3), 128, np.uint8)
    assert sum(registration.matrix is None for registration in register([flat, flat])) >= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 300))
def test_no_plain_area_gives_anything_but_numbers(inner, outer, radius):
    """A box mean of squares of a plain area can come out below 0."""
    frame = np.full((*SIZE, 3), outer, np.uint8)
    cv2.circle(frame, (160, 120), radius, (inner,) * 3, -1)
    for level in reduce(frame).levels:
        assert np.isfinite(level.even).all() and np.isfinite(level.slope).all()


def test_sixteen_bits_are_registered_like_eight():
    image = photograph()
    moved = seen(image, MOTIONS["similarity"])
    eight = register([image, moved], reference=0)[1]
    sixteen = register([image.astype(np.uint16) * 257, moved.astype(np.uint16) * 257], reference=0)
    np.testing.assert_allclose(sixteen[1].matrix, eight.matrix, atol=1e-3)


def test_an_unknown_motion_is_named():
    with pytest.raises(ValueError, match="'spline' is unknown, choose of translation"):
        register([photograph(), photograph()], motion="spline")


def whole(image: np.ndarray) -> tuple[slice, slice]:
    return tuple(slice(0, n) for n in image.shape[:2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_warping_keeps_the_type_and_undoes_the_motion(dtype):
    image = photograph().astype(np.float32) / 255
    frame = seen(image, MOTIONS["similarity"])
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    stored = np.clip(frame * full, 0, full).astype(dtype)
    back = warp(stored, Registration(np.array(MOTIONS["similarity"]), np.ones(3)), whole(stored))
    assert back.dtype == dtype and back.shape == image.shape
    inner = (slice(20, -20), slice(20, -20))
    assert np.abs(back[inner] / full - image[inner]).max() < 0.03


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gains_multiply_and_clip_and_white_stays_white(dtype):
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (texture(0, 40, 50) / 255 * full).astype(dtype).clip(0, int(0.9 * full) or 0.9)
    image[0, 0], image[0, 1] = full, np.dtype(dtype).type(0.97 * full)
    gained = warp(image, Registration(np.eye(3), np.array([1.5, 1.0, 0.5])), whole(image))
    expected = np.clip(image.astype(np.float64) * (1.5, 1.0, 0.5), 0, full)
    assert gained.dtype == dtype
    assert (gained[0, 0] == full).all() and 0.5 < gained[0, 1, 2] / full < 0.97
    gained[0, :2], expected[0, :2] = 0, 0
    np.testing.assert_allclose(gained, expected, atol=0.5 if full > 1 else 1e-6)


def test_with_nothing_to_do_a_frame_is_not_copied():
    image = texture(0)
    warped = warp(image, STILL, whole(image))
    assert np.array_equal(warped, image) and np.shares_memory(warped, image)


def test_still_frames_have_all_in_common():
    assert common_area([STILL, STILL], (30, 40)) == (slice(0, 30), slice(0, 40))


def test_frames_left_out_do_not_count():
    out = Registration(None, np.ones(3), "it is blurred everywhere")
    assert common_area([STILL, out], (30, 40)) == (slice(0, 30), slice(0, 40))


def test_a_shift_cuts_its_own_border_and_no_more():
    shifted = Registration(np.array([[1, 0, 3.0], [0, 1, -2.0], [0, 0, 1]]), np.ones(3))
    # The frame's pixel (x + 3, y − 2) is the reference's (x, y): its last columns, first rows.
    assert common_area([STILL, shifted], (30, 40)) == (slice(2, 30), slice(0, 37))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-30, 30), st.floats(-30, 30), st.floats(-0.05, 0.05), st.floats(0.9, 1.1)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_frame_shows_all_of_the_common_area(motions):
    """Its corners lie in each frame, whatever the similarities; a convex area follows."""
    found = [STILL]
    for x, y, turn, scale in motions:
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        found.append(Registration(np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]]), np.ones(3)))
    rows, columns = common_area(found, SIZE)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    ys, xs = (rows.start, rows.stop - 1), (columns.start, columns.stop - 1)
    corners = np.array([[[x, y] for y in ys for x in xs]], float)
    for registration in found:
        places = cv2.perspectiveTransform(corners, registration.matrix)[0]
        assert (places >= -0.01).all()
        assert (places <= (WIDTH - 1 + 0.01, HEIGHT - 1 + 0.01)).all()
