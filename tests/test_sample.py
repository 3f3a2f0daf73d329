"""Samples: deterministic, in range, and what their parameters say they are."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from defocus.color import to_linear
from defocus.sample import MODELS, DefocusConfig, Effect, SampleGenerator
from defocus.sources import Photographs

PLAIN = DefocusConfig(size=48, sigma=[0.7, 2.0], linear_light=0.0, swap=0.0)
EVERYTHING = replace(
    PLAIN,
    linear_light=0.5,
    swap=0.5,
    residual_blur=Effect(0.5, 0.2, 0.7),
    noise=Effect(1.0, 0.005, 0.01),
    exposure=Effect(1.0, -0.05, 0.05),
    shift=Effect(1.0, 0.2, 0.7),
    breathing=Effect(1.0, -0.004, 0.004),
    jpeg=Effect(1.0, 80, 98),
)


@pytest.fixture(scope="module")
def photographs(photographs) -> Photographs:
    return Photographs(photographs)


def assert_same(one, other):
    for name in ("photographs", "truth", "guidance"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.parameters == other.parameters


def test_a_sample_depends_on_seed_and_index_alone(photographs):
    first, second = (SampleGenerator(EVERYTHING, photographs, seed=4) for _ in range(2))
    forwards = [first[index] for index in range(4)]
    for index in (3, 0, 2, 1):
        assert_same(second[index], forwards[index])
    assert not torch.equal(forwards[0].photographs, forwards[1].photographs)
    other = SampleGenerator(EVERYTHING, photographs, seed=5)
    assert not torch.equal(forwards[0].photographs, other[0].photographs)


@pytest.mark.parametrize("config", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_shapes_ranges_and_parameters(photographs, config):
    generator = SampleGenerator(config, photographs, seed=1)
    for index in range(6):
        sample = generator[index]
        for image in (*sample.photographs, sample.truth):
            assert image.shape == (3, 48, 48) and image.dtype == torch.float32
            torch.testing.assert_close(image * 255, (image * 255).round(), atol=1e-4, rtol=0)
            assert 0 <= image.min() and image.max() <= 1
        assert sample.guidance.shape == (2, 1, 48, 48)
        assert (sample.guidance.sum(0) == 1).all()
        assert set(sample.guidance.unique().tolist()) <= {0.0, 0.5, 1.0}
        parameters = sample.parameters
        assert json.loads(json.dumps(parameters)) == parameters
        assert parameters["index"] == index
        assert parameters["foreground"] != parameters["background"]
        for effect in ("noise", "shift", "exposure", "breathing", "jpeg"):
            assert (parameters[effect] is not None) == (config is EVERYTHING)


@pytest.mark.parametrize("model", MODELS)
def test_guidance_names_a_source_that_is_right(photographs, model):
    generator = SampleGenerator(replace(PLAIN, model=model), photographs, seed=2)
    pixels = 0
    for index in range(8):
        sample = generator[index]
        for image, guidance in zip(sample.photographs, sample.guidance, strict=True):
            error = (image - sample.truth).abs().amax(0)[guidance[0] == 1]
            pixels += len(error)
            # Half a level of light from the defocused layer, and both rounded to 8 bits.
            assert not len(error) or error.max() < 1.01 / 255
    assert pixels > 3 * 48 * 48


def test_swapped_order_is_the_same_scene(photographs):
    plain = SampleGenerator(PLAIN, photographs, seed=3)
    swapped = SampleGenerator(replace(PLAIN, swap=1.0), photographs, seed=3)
    for index in range(3):
        one, other = plain[index], swapped[index]
        assert torch.equal(one.photographs, other.photographs.flip(0))
        assert torch.equal(one.truth, other.truth)
        assert torch.equal(one.guidance, other.guidance.flip(0))


def test_the_truth_lies_in_the_middle_of_exposures(photographs):
    """Half of the stops to either photograph: a network that takes them in any order can know."""
    config = replace(PLAIN, exposure=Effect(1.0, 0.4, 0.4), zoom=[0.6, 0.6])
    generator = SampleGenerator(config, photographs, seed=2)
    stops = [[], []]
    for index in range(6):
        sample = generator[index]
        light = to_linear(sample.photographs), to_linear(sample.truth)
        bright = (sample.truth > 0.3).all(0) & (sample.photographs < 1).all(0).all(0)
        for found, photograph, guidance in zip(stops, light[0], sample.guidance, strict=True):
            found.append((photograph / light[1]).log2()[:, bright & (guidance[0] == 1)].flatten())
    assert torch.cat(stops[0]).median() == pytest.approx(-0.2, abs=0.01)
    assert torch.cat(stops[1]).median() == pytest.approx(0.2, abs=0.01)


def test_the_truth_lies_in_the_middle_of_shifts(photographs):
    sharp = replace(PLAIN, size=96, sharp_everywhere=1.0, sigma=[0.01, 0.01])
    config, window = replace(sharp, shift=Effect(1.0, 2.0, 2.0)), np.hanning(96)
    sample = SampleGenerator(config, photographs, seed=2)[0]
    truth, *images = (x.mean(0).numpy() for x in (sample.truth, *sample.photographs))
    window = np.outer(window, window).astype(np.float32)
    moved = np.array([cv2.phaseCorrelate(truth, image, window)[0] for image in images])
    assert np.hypot(*moved.T) == pytest.approx([1, 1], abs=0.2)
    assert moved.sum(0) == pytest.approx([0, 0], abs=0.2)


def test_one_image_sharp_everywhere(photographs):
    generator = SampleGenerator(replace(PLAIN, sharp_everywhere=1.0), photographs, seed=1)
    sample = generator[0]
    assert torch.equal(sample.photographs[0], sample.truth)
    assert not torch.equal(sample.photographs[1], sample.truth)
    assert sample.guidance[0].unique().tolist() == [1.0]


def test_a_layer_that_fills_the_frame(photographs):
    generator = SampleGenerator(replace(PLAIN, fill_frame=1.0), photographs, seed=1)
    seen = set()
    for index in range(6):
        sample = generator[index]
        (value,) = sample.guidance[0].unique().tolist()
        seen.add(value)
        assert torch.equal(sample.photographs[int(value == 0)], sample.truth)
    assert seen == {0.0, 1.0}


def test_residual_blur_softens_the_truth_too(photographs):
    sharp = SampleGenerator(PLAIN, photographs, seed=1)
    soft = SampleGenerator(replace(PLAIN, residual_blur=Effect(1.0, 0.6, 0.7)), photographs, seed=1)

    def detail(image):
        return float(image.diff(dim=-1).square().mean())

    for index in range(3):
        assert detail(soft[index].truth) < 0.95 * detail(sharp[index].truth)


def test_a_layer_that_neither_has_in_focus(photographs):
    """The truth has it as the better photograph does, which is right there by the guidance map."""
    config = replace(PLAIN, size=96, sigma=[2.0, 3.0], unfocused=Effect(1.0, 0.5, 0.6))
    seen = set()
    for index in range(12):
        sample = SampleGenerator(config, photographs, seed=6)[index]
        layer, sigma = (sample.parameters[k] for k in ("unfocused_layer", "unfocused"))
        assert 0.99 < sigma < 1.81
        which = int(layer == "background")
        right = sample.guidance[which, 0] == 1
        image, other = sample.photographs[which], sample.photographs[1 - which]
        if right.sum() > 200:
            seen.add(layer)
            assert (image - sample.truth).abs().amax(0)[right].max() < 1.01 / 255
            inside = right[:, 1:] & right[:, :-1]
            detail, less = (x.diff(dim=-1).square().mean(0)[inside].mean() for x in (image, other))
            assert less < 0.9 * detail
    assert seen == {"foreground", "background"}
    with pytest.raises(ValueError, match="unfocused"):
        SampleGenerator(replace(config, model="one_parameter"), photographs)


@pytest.mark.parametrize("model", ["one_parameter", "two_parameter"])
def test_other_models_share_scene_and_truth(photographs, model):
    generator = SampleGenerator(replace(PLAIN, model=model), photographs, seed=1)
    reference = SampleGenerator(PLAIN, photographs, seed=1)
    sample, expected = generator[0], reference[0]
    assert torch.equal(sample.truth, expected.truth)
    assert not torch.equal(sample.photographs[1], expected.photographs[1])


def test_unknown_names_are_refused(photographs):
    with pytest.raises(ValueError, match="unknown defocus model 'ray'"):
        SampleGenerator(replace(PLAIN, model="ray"), photographs)
    with pytest.raises(ValueError, match="unknown PSF 'bokeh'"):
        SampleGenerator(replace(PLAIN, psfs=["bokeh"]), photographs)
    with pytest.raises(ValueError, match="unknown matte 'fog', known: blob"):
        SampleGenerator(replace(PLAIN, mattes=["fog"]), photographs)


@pytest.mark.parametrize("key", ["sigma", "zoom"])
@pytest.mark.parametrize("ends", [[1.0], [-1.0, 1.0], [2.0, 1.0]])
def test_ranges_that_are_none_are_refused(photographs, key, ends):
    with pytest.raises(ValueError, match=f"{key} is a range"):
        SampleGenerator(replace(PLAIN, **{key: ends}), photographs)


def test_the_kind_of_matte_is_noted(photographs):
    generator = SampleGenerator(replace(PLAIN, mattes=["grille", "holes"]), photographs, seed=1)
    mattes = [generator[index].parameters["matte"] for index in range(12)]
    assert set(mattes) == {"grille", "holes"}
