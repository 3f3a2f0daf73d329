"""Scenes: what a sample depends on, what each effect does, and that it says what it did."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from defocus.sample import Effect, Sample
from defocus.scene import SceneConfig, SceneGenerator
from defocus.sources import Photographs, RGBACutouts
from models.mmfnet import boundary_map

SIZE = 48
PLAIN = SceneConfig(size=SIZE, pair_step=[2.0, 8.0], step=[0.7, 3.0], radius=12.0)
EFFECTS = {
    "beyond": Effect(1.0, 0.5, 2.0),
    "slant": Effect(1.0, 0.2, 1.0),
    "curve": Effect(1.0, 0.1, 0.3),
    "painted": Effect(1.0, 1, 2),
    "highlights": Effect(1.0, 2.0, 4.9),
    "speculars": Effect(1.0, 5.0, 10.0),
    "residual_blur": Effect(1.0, 0.3, 0.7),
    "shift": Effect(1.0, 0.3, 0.7),
    "breathing": Effect(1.0, 0.002, 0.004),
    "exposure": Effect(1.0, 0.04, 0.06),
    "noise": Effect(1.0, 0.005, 0.01),
    "jpeg": Effect(1.0, 80, 95),
}
EVERYTHING = replace(PLAIN, linear_light=0.7, fill_frame=0.2, sharp_everywhere=0.2, **EFFECTS)


@pytest.fixture(scope="module")
def make(photographs, cutouts):
    sources = Photographs(photographs), [RGBACutouts(cutouts)]
    return lambda config, seed=1: SceneGenerator(config, *sources, seed=seed)


def same(one: Sample, other: Sample) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("photographs", "truth", "guidance")
    )


@pytest.mark.parametrize("config", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_shapes_ranges_and_parameters(make, config, count):
    for index in range(4):
        sample = make(config).sample(index, count)
        assert sample.photographs.shape == (count, 3, SIZE, SIZE)
        assert sample.guidance.shape == (count, 1, SIZE, SIZE)
        for image in (*sample.photographs, sample.truth):
            assert image.shape == (3, SIZE, SIZE) and image.dtype == torch.float32
            torch.testing.assert_close(image * 255, (image * 255).round(), atol=1e-4, rtol=0)
            assert 0 <= image.min() and image.max() <= 1
        torch.testing.assert_close(sample.guidance.sum(0), torch.ones(1, SIZE, SIZE))
        parameters = sample.parameters
        assert json.loads(json.dumps(parameters)) == parameters
        assert (parameters["index"], parameters["photographs"]) == (index, count)
        assert len(parameters["focus"]) == count and parameters["largest_radius"] <= 12


def test_a_sample_depends_on_seed_index_and_count_alone(make):
    first, second = make(EVERYTHING, 4), make(EVERYTHING, 4)
    forwards = {(i, n): first.sample(i, n) for i in range(3) for n in (2, 4)}
    for (index, count), sample in reversed(forwards.items()):
        again = second.sample(index, count)
        assert same(again, sample) and again.parameters == sample.parameters
    assert not torch.equal(forwards[0, 2].truth, forwards[1, 2].truth)
    assert not torch.equal(forwards[0, 2].truth, make(EVERYTHING, 5).sample(0, 2).truth)


def test_the_number_of_photographs_is_drawn_from_its_range(make):
    generator = make(replace(PLAIN, photographs=[3, 5]))
    counts = [len(generator[index].photographs) for index in range(20)]
    assert set(counts) == {3, 4, 5}
    assert same(generator[0], generator.sample(0, counts[0]))
    with pytest.raises(ValueError, match="at least twice"):
        generator.sample(0, 1)


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_of_no_probability_or_no_strength_is_none(make, name):
    plain = make(replace(PLAIN, layers=[0, 1]))
    for effect in (replace(EFFECTS[name], probability=0.0), Effect(1.0, 0.0, 0.0)):
        other = make(replace(PLAIN, layers=[0, 1], **{name: effect}))
        assert all(same(plain.sample(i, 3), other.sample(i, 3)) for i in range(2))


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_is_seen_and_noted(make, name):
    plain, other = make(PLAIN), make(replace(PLAIN, **{name: EFFECTS[name]}))
    seen = 0
    for index in range(6):
        one, two = plain.sample(index, 3), other.sample(index, 3)
        assert any(np.ravel(two.parameters[name]))
        assert not one.parameters[name] or not any(np.ravel(one.parameters[name]))
        seen += not same(one, two)
    assert seen > 3  # a sample without white has no highlights


def test_between_planes_of_focus_none_is_right_where_that_can_be_seen(make):
    ground = replace(
        PLAIN, layers=[1], step=[2.0, 2.0], slant=Effect(1.0, 1.0, 1.0), restored=1.0, radius=12.0
    )
    former, restoring = make(replace(ground, restored=0.0)), make(ground)
    for index in range(4):
        before, sample = former.sample(index, 4), restoring.sample(index, 4)
        assert torch.equal(before.photographs, sample.photographs)
        boundary, sharpened = boundary_map(sample.guidance)[0], before.truth != sample.truth
        assert boundary_map(before.guidance).mean() < 0.05  # equals: no depth edge
        assert 0 < boundary.mean() < 0.9
        assert sharpened.any(0)[boundary == 1].float().mean() > 0.5
        changed = (before.truth - sample.truth).abs().amax(0)
        assert changed[boundary == 0].max() < changed[boundary == 1].max()


def test_every_range_is_of_something(make):
    """Each key of the config is checked, an effect, or changes a sample."""
    changes = {
        "size": 32,
        "layers": [0, 0, 0, 1],
        "psfs": ["disk"],
        "step": [3.0, 3.0],
        "radius": 3.0,
        "ends": 1.0,
        "close": 1.0,
        "restored": 1.5,
        "linear_light": 0.0,
        "procedural": 1.0,
        "mattes": ["text"],
        "zoom": [1.0, 1.0],
        "fill_frame": 1.0,
        "sharp_everywhere": 1.0,
    }
    for key, value in changes.items():
        plain, other = make(PLAIN), make(replace(PLAIN, **{key: value}))
        assert not all(same(plain.sample(i, 3), other.sample(i, 3)) for i in range(8)), key
    others = {"photographs", "pair_step", "specular_stops", "specular_radius", "floating", "shot"}
    assert {f.name for f in fields(SceneConfig)} == {*changes, *EFFECTS, *others}


def test_misalignment_and_exposure_are_shared(make):
    generator = make(replace(PLAIN, **{k: EFFECTS[k] for k in ("shift", "exposure")}))
    for count in (2, 5):
        parameters = generator.sample(0, count).parameters
        offsets, stops = (np.array(parameters[name]) for name in ("shift", "exposure"))
        assert offsets.shape == (count, 2) and stops.shape == (count,)
        np.testing.assert_allclose([*offsets.mean(0), stops.mean()], 0, atol=1e-4)
        apart = np.linalg.norm(offsets[:, None] - offsets, axis=-1).max()
        assert 0.3 - 1e-3 < apart < 0.7 + 1e-3 and 0.04 - 1e-3 < np.ptp(stops) < 0.06 + 1e-3


def test_guidance_names_a_photograph_that_is_right(make):
    """In focus on either layer, stored values: the veil of the other is less than a level."""
    flat = replace(PLAIN, layers=[0, 1], ends=1.0, linear_light=0.0, procedural=1.0)
    generator, pixels = make(flat), 0
    for index in range(8):
        sample = generator.sample(index, 2)
        for image, guidance in zip(sample.photographs, sample.guidance, strict=True):
            error = (image - sample.truth).abs().amax(0)[guidance[0] == 1]
            pixels += len(error)
            assert not len(error) or error.max() < (1 + 255 / 300 + 0.01) / 255
    assert pixels > 4 * SIZE * SIZE


def test_a_ground_passes_through_the_focus_of_photographs_in_turn(make):
    """One slanted layer: one-hot but for ties, and several photographs have their part."""
    ground = replace(PLAIN, layers=[1], slant=Effect(1.0, 0, 0), step=[1.5, 3.0], radius=24.0)
    for index in range(4):
        sample = make(ground).sample(index, 5)
        assert float((boundary_map(sample.guidance) > 0).float().mean()) < 0.01
        assert ((sample.guidance == 1).float().mean((1, 2, 3)) > 0.05).sum() >= 3


def test_what_is_painted_on_a_layer_is_no_depth_edge(make):
    """Marks change the colours, not which photograph is right."""
    bare, painted = make(PLAIN), make(replace(PLAIN, painted=EFFECTS["painted"]))
    for index in range(4):
        one, other = bare.sample(index, 3), painted.sample(index, 3)
        assert torch.equal(one.guidance, other.guidance)
        marks = other.parameters["painted"]
        assert len(marks) == other.parameters["layers"] and all(1 <= n <= 2 for n in marks)
        assert ((one.truth - other.truth).abs().amax(0) > 0.05).float().mean() > 0.02


def test_one_photograph_has_nearly_all_in_focus(make):
    sharp = make(replace(PLAIN, sharp_everywhere=1.0, slant=EFFECTS["slant"]))
    for index in range(4):
        sample = sharp.sample(index, 4)
        best = sample.parameters["sharp_everywhere"]
        assert (sample.guidance[best] == 1).float().mean() > 0.5
        for ends in sample.parameters["depths"]:
            assert max(abs(end - sample.parameters["focus"][best]) for end in ends) <= 0.5001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photographs": [1, 3]}, "photographs is a range"),
        ({"step": [2.0, 1.0]}, "step is a range"),
        ({"zoom": [0.5]}, "zoom is a range"),
        ({"layers": [0.0]}, "layers are the odds"),
    ],
)
def test_ranges_that_are_none_are_refused(make, change, message):
    with pytest.raises(ValueError, match=message):
        make(replace(PLAIN, **change))
