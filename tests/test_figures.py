"""The documentation's figures: what they show is what they say, nothing runs off the sheet."""

import numpy as np
import pytest
import torch
from PIL import Image

from defocus.sample import Sample
from drawing import cascade, figure3, figure6, sample_pairs
from drawing.canvas import Canvas, to_image
from models.build import build, save_weights

MODEL = {
    "initial": {"name": "InitialFusion", "args": {"channels": 4, "blocks": 1}},
    "boundary": {"name": "BoundaryFusion", "args": {"channels": 4, "blocks": 1}},
}


def assert_margin_is_white(image: Image.Image, width: int = 4) -> None:
    pixels = np.asarray(image)
    for edge in (pixels[:width], pixels[-width:], pixels[:, :width], pixels[:, -width:]):
        assert (edge == 255).all()
    assert (pixels[width:-width, width:-width] < 128).any()


def test_figure3_shows_the_four_models():
    side = 120
    truth, one, two, alpha = (p[:, 8] for p in figure3.panels(side, sigma=6.0).values())
    blue, yellow = truth[:, 20], truth[:, 60]
    left, right = side // 3, side * 2 // 3
    # One-parameter: yellow leaks into both blue slabs, the middle one stays.
    assert (one[0, [left - 1, right]] > blue[0] + 0.1).all()
    torch.testing.assert_close(one[:, left:right], truth[:, left:right])
    # Two-parameter: dark outside, bright inside, on both sides.
    assert (two[2, [left - 1, right]] < 0.7 * blue[2]).all()
    assert (two[2, [left, right - 1]] > yellow[2] + 0.1).all()
    # Alpha-matte: slab 1 spreads over slab 2, slab 3 stops sharply behind it.
    assert alpha[2, left] > yellow[2] + 0.1 and alpha[0, left - 1] > blue[0] + 0.1
    torch.testing.assert_close(alpha[:, right - 4 : right], truth[:, right - 4 : right])
    torch.testing.assert_close(
        alpha[:, right : right + 4], truth[:, right : right + 4], atol=1e-5, rtol=0
    )


def test_figure3_is_written(tmp_path):
    path = tmp_path / "figures" / "figure3.png"
    assert figure3.main(["--output", str(path)]) == 0
    assert_margin_is_white(Image.open(path))
    assert path.stat().st_size < 1e6


@pytest.fixture(scope="module")
def sample() -> Sample:
    size = figure6.SIZE
    generator = torch.Generator().manual_seed(1)
    *photographs, truth = torch.rand(3, 3, size, size, generator=generator)
    guidance = (torch.arange(size) < 100).float().expand(1, size, size).clone()
    guidance[:, 200:230, 100:130] = 0.5
    return Sample(torch.stack(photographs), truth, torch.stack([guidance, 1 - guidance]), {})


def test_figure6_encloses_the_boundary(sample, tmp_path):
    y, x = figure6.window(sample)
    assert y <= 200 and y + figure6.WINDOW >= 230
    assert x <= 100 and x + figure6.WINDOW >= 130
    sheet = figure6.figure([sample, sample])
    assert_margin_is_white(sheet)
    # G and 1 − G are complements, to the grey level.
    step, gap = figure6.SIDE + figure6.GAP, figure6.GAP
    pixels = np.asarray(sheet).astype(int)[gap + 4 : gap + 196]
    g, complement = (pixels[:, gap + k * step + 4 : gap + k * step + 196] for k in (4, 5))
    assert (np.abs(g + complement - 255) <= 1).all()


def test_figure6_by_default_needs_nothing_but_scikit_image(tmp_path):
    path = tmp_path / "figure6.png"
    assert figure6.main(["--output", str(path)]) == 0
    assert_margin_is_white(Image.open(path))


def test_diagram_shows_what_the_weights_make(tmp_path, capsys):
    torch.manual_seed(0)
    weights, path = tmp_path / "tiny.safetensors", tmp_path / "cascade.png"
    save_weights(weights, build(MODEL).state_dict(), MODEL)
    assert cascade.main(["--weights", str(weights), "--output", str(path)]) == 0
    assert_margin_is_white(Image.open(path))
    assert cascade.main(["--weights", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors" in capsys.readouterr().err
    alone = MODEL | {"boundary": None}
    save_weights(weights, build(alone).state_dict(), alone)
    assert cascade.main(["--weights", str(weights)]) == 2
    assert "tiny.safetensors have no boundary sub-net" in capsys.readouterr().err


def test_canvas_keeps_pictures_exact():
    pixels = torch.randint(0, 256, (3, 40, 60), generator=torch.Generator().manual_seed(1)) / 255
    canvas = Canvas(50, 40, scale=2)
    canvas.picture(to_image(pixels), 10, 10, 30, 20)
    shown = np.asarray(canvas.finish())[21:59, 21:79]  # within the hairline
    np.testing.assert_array_equal(shown, np.asarray(to_image(pixels))[1:-1, 1:-1])


def test_sample_pairs_follow_the_model():
    foreground, matte, background, radius = sample_pairs.coffee()
    near, far, truth = sample_pairs.photograph(foreground, matte, background, radius)
    assert near.shape == far.shape == truth.shape == (3, 384, 512)
    opaque = torch.from_numpy(matte) == 1
    assert 0.01 < opaque.float().mean() < 0.5
    # Sharp up to the noise where focused; blurred elsewhere.
    assert (near - truth).abs()[:, opaque].mean() < 1.5 * sample_pairs.NOISE
    corner = (slice(None), slice(0, 60), slice(0, 60))  # no lettering near it
    assert (far - truth)[corner].abs().mean() < 1.5 * sample_pairs.NOISE
    assert (near - truth)[:, ~opaque].abs().mean() > 4 * sample_pairs.NOISE


def test_sample_pairs_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_pairs, "SCENES", {"cat": sample_pairs.cat})
    assert sample_pairs.main(["--output", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cat-A.png", "cat-B.png", "cat-Truth.png"]
    assert {Image.open(path).size for path in tmp_path.iterdir()} == {(512, 384)}
