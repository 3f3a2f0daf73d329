"""Figures show what and where they say."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from PIL import Image

from evaluation import charts, figures
from evaluation.matching import Case
from evaluation.tables import summarise
from tests.conftest import texture
from utils.images import write_png


@pytest.fixture(scope="module")
def scene():
    """(truth, two sources sharp left and right of column 80), all (144, 160, 3) uint8."""
    truth = texture(1)
    blurred = cv2.GaussianBlur(truth, (0, 0), 2.5)
    left = np.arange(160)[:, None] < 80
    return truth, [np.where(left, truth, blurred), np.where(left, blurred, truth)]


def written(folder, **images) -> Case:
    """A pair on disk: sources ``a`` and ``b``, one fused image, perhaps the truth."""
    paths = {name: folder / f"{name}.png" for name in images}
    for name, image in images.items():
        write_png(paths[name], image)
    return Case("x", (paths["a"], paths["b"]), {"m": paths["fused"]}, paths.get("truth"))


def test_boundary_is_where_the_sharper_source_changes(scene):
    columns = np.flatnonzero(figures.boundary(scene[1]).any(axis=0))
    assert columns.size and 70 <= columns.min() and columns.max() <= 90


def test_insets_are_on_the_boundary_where_results_differ(scene):
    truth, sources = scene
    wrong = truth.copy()
    wrong[100:112, 74:86] = 0  # on the FDB
    wrong[20:60, 10:50] = 255  # far from it
    first, second = figures.choose_insets(sources, [truth, wrong])
    assert abs(first.x - 80) < 12 and abs(first.y - 106) < 12
    assert abs(second.x - 80) < 12
    assert abs(first.y - second.y) >= first.size


def test_insets_stay_inside():
    shape = (144, 160, 3)
    assert figures.read_inset("0,0,20", shape) == figures.Inset(10, 10, 20)
    inset = figures.read_inset("159,143,21", shape)
    assert figures._cut(np.zeros(shape), inset).shape == (21, 21, 3)


def test_sources_without_a_boundary():
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert len(figures.choose_insets([flat, flat], [])) == 1


def _pixel(picture: Image.Image, x: float, y: float) -> tuple[int, ...]:
    return picture.getpixel((round(x), round(y)))


def test_differences(scene):
    """Equal parts are grey; where a result is lighter than the source, so is the picture."""
    _, sources = scene
    lighter = sources[0].copy()
    lighter[:72] = np.clip(lighter[:72].astype(int) + 40, 0, 255)
    picture = figures.differences({"source A": sources[0]}, {"x": lighter})
    left, top = figures.GAP, figures.GAP + figures.LABEL
    height = round(figures.CELL * 144 / 160)
    assert _pixel(picture, left + 60, top + height * 0.75) == (128, 128, 128)
    assert min(_pixel(picture, left + 60, top + height * 0.25)) > 140


def test_comparison_enlarges_the_insets(scene):
    _, sources = scene
    red = sources[0].copy()
    red[30:50, 40:60] = (255, 0, 0)
    images = {"a": sources[0], "b": sources[1], "red": red}
    picture = figures.comparison(images, [figures.Inset(50, 40, 20)])
    left = figures.GAP + 2 * (figures.CELL + figures.GAP)
    top = figures.GAP + figures.LABEL + round(figures.CELL * 144 / 160) + figures.GAP / 2
    for x, y in ((0.2, 0.3), (0.2, 0.8), (0.8, 0.8)):  # away from the arrow
        assert _pixel(picture, left + x * figures.CELL, top + y * figures.CELL) == (255, 0, 0)


def test_deep_and_shallow_images_of_equal_pixels_are_drawn_alike(scene, tmp_path):
    truth, (a, b) = scene
    drawn = []
    for scale in (np.uint8(1), np.uint16(257)):
        case = written(tmp_path, a=a * scale, b=b, fused=truth * scale)
        figures.write([case], [], ["80,72"], tmp_path)
        drawn.append([(tmp_path / f"x-{n}.jpg").read_bytes() for n in ("insets", "differences")])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("known", [True, False])
def test_the_truth_stands_beside_the_sources(scene, tmp_path, known):
    truth, (a, b) = scene
    case = written(tmp_path, a=a, b=b, fused=truth, **{"truth": truth} if known else {})
    figures.write([case], [], ["80,72"], tmp_path)
    cells = 4 if known else 3
    insets, differences = (Image.open(tmp_path / f"x-{n}.jpg") for n in ("insets", "differences"))
    assert insets.width == cells * (figures.CELL + figures.GAP) + figures.GAP
    contrast = np.std(np.asarray(differences.convert("L"), float)[60:180, 60:200])
    assert contrast < 1 if known else contrast > 5  # the result is the truth, not source A


def test_a_truth_of_another_size_is_named_and_left_out(tmp_path):
    image = texture(0, 48, 56)
    case = written(tmp_path, a=image, b=image, fused=image, truth=image[:40])
    (problem,) = figures.write([case], [], None, tmp_path)
    assert re.search("a.png is 56×48, .*truth.png is 56×40", problem)
    assert Image.open(tmp_path / "x-insets.jpg").width == 3 * (figures.CELL + figures.GAP) + 14


def test_charts():
    scores = {
        (f"p{i}", method): dict.fromkeys(("AG", "LIF"), value + 0.1 * i)
        for method, value in (("low", 1.0), ("high", 2.0))
        for i in range(3)
    }
    columns = summarise(scores, ["low", "high"], ["AG", "LIF"])
    picture = charts.heat_map(columns)
    row = 2 * (40 + charts.ROW * np.arange(2) + 4)  # near the cells' upper rim, beside the text
    column = 2 * (charts.NAMES + charts.CELL * np.arange(2) + 6)
    seen = [[picture.getpixel((int(x), int(y))) for x in column] for y in row]
    good, bad = charts.GOOD, charts.BAD
    # Both methods share the rank over all metrics, so they stand in the given order.
    assert seen == [[bad, good], [good, bad]]
    assert charts.box_plots(columns).width == 2 * (charts.NAMES + charts.PANEL) + 20


def test_a_long_name_is_written_whole():
    """In small letters: it leaves the rim white, as a short one does."""
    name = "a method of which the name goes on and on and on"
    scores = {("p", method): {"AG": 1.0} for method in ("short", name)}
    columns = summarise(scores, ["short", name], ["AG"])
    for draw in (charts.heat_map, charts.box_plots):
        picture = np.asarray(draw(columns))
        assert (picture[:, :6] == 255).all() and (picture[:, :60] < 128).any()


def test_boxes_compare_methods_on_the_same_pair():
    """What all methods share on a pair is taken out; an infinite value is left out."""
    steps = np.array([0.0, 100.0, 5.0, -40.0])
    values = {"low": steps, "middle": steps + 1, "high": steps + [3, 3, np.inf, 3]}
    scores = {
        (f"p{i}", method): {"PSNR": value}
        for method, row in values.items()
        for i, value in enumerate(row)
    }
    (column,) = summarise(scores, list(values), ["PSNR"])
    deviations = charts._deviations(column)
    np.testing.assert_allclose(deviations["high"], [2, 2, 2])
    np.testing.assert_allclose(deviations["middle"], [0, 0, 0.5, 0])
    assert charts.box_of(np.array([1.0, 2, 3, 4, 100]))[2] == [100]
    charts.box_plots([column])
