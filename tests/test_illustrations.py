"""The pictures of docs/imaging-model.md show the physics that the page claims for them."""

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from defocus.color import to_linear
from defocus.guidance import BLURRIER
from defocus.render import depth_map
from drawing import imaging_model
from tests.test_figures import assert_margin_is_white


def test_light_is_kept_by_the_blur_of_light_alone():
    sharp, stored, light = (
        to_linear(panel).mean().item() for panel in imaging_model.light().values()
    )
    assert light == pytest.approx(sharp, rel=0.02)  # what crosses the border is not balanced
    assert stored < 0.97 * sharp  # the sRGB curve is concave: an average of values is too dark


@pytest.mark.parametrize("blades", [5, 6, 9])
def test_apertures_have_the_area_of_their_polygon(blades):
    shapes, _ = imaging_model.apertures(side=488)
    area = shapes[f"PSF: {blades} blades"].sum() / shapes["PSF: disk, wide open"].sum()
    assert area.item() == pytest.approx(
        blades * math.sin(2 * math.pi / blades) / (2 * math.pi), rel=0.02
    )


def test_a_layer_in_focus_is_true_where_nearer_ones_do_not_reach():
    layers, photographs = imaging_model.layers()
    mesh, fur = (layers[f"{name} layer"].amax(0).numpy() > 0 for name in ("nearest", "middle"))
    reach = 2 * round(imaging_model.STEP) + 3
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    spread = cv2.dilate((mesh | fur).astype(np.uint8), kernel) > 0
    truth, far = layers["sharp everywhere"], photographs["focused on the farthest layer"]
    assert (~spread).sum() > 500
    torch.testing.assert_close(far[:, ~spread], truth[:, ~spread], atol=2e-3, rtol=0)
    assert (far - truth).abs()[:, mesh].mean() > 0.05


def test_a_scene_is_coloured_by_the_photograph_focused_there():
    depth, *photographs, guidance, truth = (
        panel for row in imaging_model.scene() for panel in row.values()
    )
    generator, where = imaging_model.scenes(), (imaging_model.SCENE, len(photographs))
    drawn, *_ = generator.draw(*where)
    low, high = depth_map(drawn, imaging_model.SIDE).aminmax()
    surface = depth[0] * (high - low) + low
    away = torch.stack([(surface - focus).abs() for focus in drawn.focus])
    above_bars = torch.arange(imaging_model.SIDE)[:, None] < imaging_model.SIDE - imaging_model.BAR
    unnamed = (guidance != 1).any(0)
    for number, photograph in enumerate(photographs):
        color = photograph[:, -1:, -1:]
        here = (guidance == color).all(0)
        assert here.float().mean() > 0.01
        unnamed &= ~here
        assert (away[number] <= away.amin(0) + BLURRIER)[here].float().mean() > 0.99
        error = (photograph - truth).abs().mean(0)[here & above_bars]
        assert error.mean() < 0.01  # noise
    assert not unnamed.any()


def test_the_pictures_are_written(tmp_path):
    assert imaging_model.main(["--output", str(tmp_path)]) == 0
    for name in ("apertures", "light", "layers", "scene"):
        assert_margin_is_white(Image.open(tmp_path / f"{name}.png"))
