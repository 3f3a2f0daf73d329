"""Procedural mattes: bounds, determinism, and the thin structure they exist for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defocus import outlines
from defocus.mattes import KINDS, procedural_matte, usual_kinds

SIZES = [(16, 16), (16, 40), (53, 37), (128, 128), (96, 160)]


def draw(kind: str, seeds: int, size: tuple[int, int] = (256, 256)) -> list[np.ndarray]:
    return [procedural_matte(size, np.random.default_rng(seed), [kind]) for seed in range(seeds)]


def half_widths(mask: np.ndarray) -> np.ndarray:
    """Distance of every foreground pixel's centre to the background, px."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def thin_fraction(matte: np.ndarray, diameter: int) -> float:
    """Share of the foreground that a morphological opening by a disk removes."""
    pad = diameter  # the frame edge must not erode a shape that goes on outside
    mask = cv2.copyMakeBorder((matte > 0.5).astype(np.uint8), *[pad] * 4, cv2.BORDER_REPLICATE)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk)[pad:-pad, pad:-pad]
    return 1 - opened.sum() / (matte > 0.5).sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_every_kind_gives_a_matte_of_the_size_asked_for(kind, size):
    for seed in range(4):
        matte = KINDS[kind](size, np.random.default_rng(seed))
        assert matte.shape == size
        assert matte.dtype == np.float32
        assert 0 <= matte.min() and matte.max() <= 1  # also false for NaN


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(16, 150),
    width=st.integers(16, 150),
    kind=st.sampled_from([None, *KINDS]),
)
@settings(max_examples=150, deadline=None)
def test_coverage_is_between_3_and_90_percent_or_less_of_wires(seed, height, width, kind):
    kinds = None if kind is None else [kind]
    matte = procedural_matte((height, width), np.random.default_rng(seed), kinds)
    assert matte.dtype == np.float32
    assert 0 <= matte.min() and matte.max() <= 1
    assert (0.003 if kind == "wires" else 0.03) <= matte.mean() <= 0.90


def test_wires_are_thin_and_few():
    """Nowhere wider than the widest wire, and most of the frame is free; pairs draw none."""
    for matte in draw("wires", 20):
        assert thin_fraction(matte, 11) > 0.95 and matte.mean() < 0.2
    assert "wires" in KINDS and "wires" not in usual_kinds()


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_a_kind_that_always_fails_ends_in_a_half_plane(monkeypatch, constant):
    monkeypatch.setitem(KINDS, "blob", lambda size, rng: np.full(size, constant, dtype=np.float32))
    for seed in range(30):
        size = SIZES[seed % len(SIZES)]
        matte = procedural_matte(size, np.random.default_rng(seed), ["blob"])
        assert 0.03 <= matte.mean() <= 0.90
        for mask in (matte > 0.5, matte < 0.5):  # a line cuts the frame into two connected parts
            assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_fixes_the_matte_whatever_the_global_generator(kind):
    np.random.seed(1)
    first = procedural_matte((96, 128), np.random.default_rng(5), [kind])
    np.random.seed(2)
    again = procedural_matte((96, 128), np.random.default_rng(5), [kind])
    other = procedural_matte((96, 128), np.random.default_rng(6), [kind])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_all_usual_kinds_are_drawn_about_equally_often(monkeypatch):
    drawn = []
    for name in list(KINDS):

        def record(size, rng, name=name):
            drawn.append(name)
            return np.full(size, 0.5, np.float32)

        monkeypatch.setitem(KINDS, name, record)
    rng = np.random.default_rng(0)
    for _ in range(100 * len(usual_kinds())):
        procedural_matte((16, 16), rng)
    counts = [drawn.count(name) for name in usual_kinds()]
    assert min(counts) > 60 and max(counts) < 140  # 100 ± 4 standard deviations


@pytest.mark.parametrize("size", [(128, 128), (256, 256), (512, 512)])
def test_grille_bars_are_at_most_8_px_at_any_resolution(size):
    for matte in draw("grille", 12, size):
        depth = half_widths(matte > 0.5)
        # A circle that leaves the frame is not held by bars: the frame hides its other side.
        framed = np.zeros(np.add(size, 2), bool)
        framed[1:-1, 1:-1] = True
        depth[depth > half_widths(framed)[1:-1, 1:-1]] = 0
        # Bars of width w crossing at the angle φ ≥ 50° hold a circle of radius w / 2 cos(φ / 2)
        # ≤ 0.71 w; one pixel for rasterisation and the slight bend.
        assert depth.max() <= 0.71 * 8 + 1
        ridge = depth[(depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3))))]
        assert np.median(ridge) <= 8 / 2 + 0.5


@pytest.mark.parametrize(
    ("kind", "at_least"), [("grille", 0.95), ("strokes", 0.1), ("foliage", 0.3), ("text", 0.3)]
)
def test_thin_kinds_are_thin_and_blobs_are_not(kind, at_least):
    thin = np.median([thin_fraction(matte, 13) for matte in draw(kind, 15)])
    compact = np.median([thin_fraction(matte, 13) for matte in draw("blob", 15)])
    assert thin > at_least
    assert compact < 0.03


def test_strokes_reach_below_one_pixel():
    """A line narrower than a pixel never reaches α = 1: local maxima stay fractional."""
    for matte in draw("strokes", 8):
        peak = (matte >= cv2.dilate(matte, np.ones((3, 3)))) & (matte > 0)
        assert ((matte < 0.75) & peak).sum() > 30


@pytest.mark.parametrize(("kind", "islands"), [("holes", 10), ("foliage", 8), ("grille", 10)])
def test_the_background_is_seen_through_openings(kind, islands):
    counts = [
        cv2.connectedComponents((matte < 0.5).astype(np.uint8), connectivity=4)[0] - 1
        for matte in draw(kind, 15)
    ]
    assert np.median(counts) >= islands


@pytest.mark.parametrize("kind", ["blob", "polygon", "foliage", "text", "holes"])
def test_edges_are_anti_aliased(kind):
    """About one fractional pixel for each pixel of contour, where a binary mask has none."""
    for matte in draw(kind, 6):
        mask = (matte > 0.5).astype(np.uint8)
        contour = mask - cv2.erode(mask, np.ones((3, 3), np.uint8))
        fractional = (matte > 0.02) & (matte < 0.98)
        assert fractional.sum() > 0.5 * contour.sum()


@pytest.mark.parametrize("font", outlines.FONTS)
@pytest.mark.parametrize("growth", [-6, 0, 5])
def test_letters_keep_their_proportions(font, growth):
    capitals = [np.concatenate(outlines.glyph(letter, font, growth)) for letter in "HEXT"]
    for points in capitals:
        assert points[:, 0].min() == 0
        assert points[:, 1].max() == pytest.approx(0, abs=0.06)  # stands on the base line
        assert 0.6 < np.ptp(points[:, 1]) < 1.1
        assert 0.3 < np.ptp(points[:, 0]) / np.ptp(points[:, 1]) < 1.3
    assert np.ptp([np.ptp(points[:, 1]) for points in capitals]) < 0.03
    outer, *counters = outlines.glyph("B", font, growth)
    assert len(counters) == 2


def test_soft_transitions_are_wider_than_those_of_a_blob():
    def fractional(matte: np.ndarray) -> float:
        return ((matte > 0.02) & (matte < 0.98)).sum() / (matte > 0.02).sum()

    soft = np.median([fractional(matte) for matte in draw("soft", 20)])
    hard = np.median([fractional(matte) for matte in draw("blob", 20)])
    assert soft > 4 * hard


@pytest.mark.parametrize("width", [0.5, 1.0, 3.0, 8.0])
def test_a_ribbon_covers_its_length_times_its_width(width):
    angle = 0.4
    line = np.linspace(-50, 50, 9)[:, None] * (np.cos(angle), np.sin(angle)) + (64, 60)
    canvas = outlines.Canvas((120, 128))
    canvas.fill(outlines.ribbons(line[None], width))
    assert canvas.matte().sum() == pytest.approx(100 * width, rel=0.12)


def test_a_polygon_is_placed_to_sub_pixel_accuracy():
    corners = np.array(((20.3, 30.6), (70.8, 22.1), (81.4, 90.2), (33.9, 77.7)))
    canvas = outlines.Canvas((100, 110))
    canvas.fill([corners])
    matte = canvas.matte().astype(np.float64)
    x, y = corners.T
    cross = x * np.roll(y, -1) - y * np.roll(x, -1)
    area = cross.sum() / 2
    centroid_x = ((x + np.roll(x, -1)) * cross).sum() / (6 * area)
    centroid_y = ((y + np.roll(y, -1)) * cross).sum() / (6 * area)
    rows, columns = np.mgrid[0.5:100, 0.5:110]
    assert (matte * columns).sum() / matte.sum() == pytest.approx(centroid_x, abs=0.05)
    assert (matte * rows).sum() / matte.sum() == pytest.approx(centroid_y, abs=0.05)
    assert matte.sum() == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("kind", ["blob", "polygon", "strokes", "text", "soft"])
def test_shapes_may_cross_the_frame_and_vary_in_scale(kind):
    found = draw(kind, 40, (128, 128))
    on_edge = [max(m[0].max(), m[-1].max(), m[:, 0].max(), m[:, -1].max()) > 0.5 for m in found]
    assert sum(on_edge) >= 5
    coverage = [matte.mean() for matte in found]
    assert max(coverage) > 3 * min(coverage)


@pytest.mark.parametrize("kinds", [["blob", "hedge"], []])
def test_unknown_kinds_are_refused_with_the_valid_names(kinds):
    with pytest.raises(ValueError) as error:
        procedural_matte((32, 32), np.random.default_rng(0), kinds)
    assert all(name in str(error.value) for name in KINDS)
    assert all(repr(name) in str(error.value) for name in kinds if name not in KINDS)
