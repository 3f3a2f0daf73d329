"""Values of a config that cannot be are named where they enter."""

from __future__ import annotations

import inspect
import os
from dataclasses import asdict
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from configs.schema import NEVER_EMPTY, RANGES, Config, Range, flat, load_config, merge
from defocus.materials import Effect
from defocus.scene import SceneConfig
from models.boundary_fusion import BoundaryFusion, SetBoundaryFusion
from tests.conftest import SMOKE
from utils.errors import UserError


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("data.pairs", "1.5", "has to be at least 0 and at most 1"),
        ("data.pairs", "-0.1", "has to be at least 0 and at most 1"),
        ("train.lr", "nan", "has to be at least 0"),
        ("train.lr", "-1e-3", "has to be at least 0"),
        ("train.ema", "2", "has to be at least 0 and below 1"),
        ("train.ema", "-1", "has to be at least 0"),
        ("train.ema", "nan", "has to be at least 0"),
        ("train.weight_decay", "-1", "has to be at least 0"),
        ("train.clip", "-0.1", "has to be at least 0"),
        ("train.clip", "inf", "has to be at least 0"),
        ("data.workers", "-1", "has to be at least 0"),
        ("data.defocus.size", "0", "has to be at least 16"),
        ("seed", "-1", "has to be at least 0"),
        ("validation.seed", "-1", "has to be at least 0"),
        ("validation.fraction", "1.5", "at most 1"),
        ("data.defocus.psfs", "[]", "is empty"),
        ("data.defocus.sigma", "[nan, 2]", "has to be above 0"),
        ("data.defocus.noise.probability", "2", "at least 0 and at most 1"),
        ("validation.defocus.jpeg.high", "101", "at most 100"),
        ("data.defocus.shift.high", "inf", "a number"),
        ("model.initial.args.widths", "[]", "is empty"),
        ("model.initial.args.widths", "[4, 0]", "has to be at least 1"),
        ("model.boundary.args.refine", "-4", "has to be at least 0"),
        ("data.defocus.jpeg.probability", "1", "set data.defocus.jpeg.high"),
    ],
)
def test_values_out_of_range(key, value, said):
    with pytest.raises(UserError) as error:
        load_config(SMOKE, [f"{key}={value}"])
    assert key in str(error.value) and said in str(error.value) and "\n" not in str(error.value)
    assert SMOKE not in str(error.value)  # which does not say so


@pytest.mark.parametrize("name", ["noise", "breathing", "jpeg", "residual_blur", "painted"])
def test_a_validation_set_may_have_the_name_of_an_effect(name):
    dark = {"probability": 1.0, "low": -0.1, "high": -0.1}
    ranges = {"photographs": [3, 8], "size": 192, "exposure": dark}
    made = merge({"validation": {"scenes": {name: ranges}}}).validation.scenes[name]
    assert (made.photographs, made.exposure) == ([3, 8], Effect(1.0, -0.1, -0.1))


@pytest.mark.parametrize("word", ["off", "Off", "no", "false"])
def test_off_is_a_word_though_yaml_takes_it_for_a_truth_value(tmp_path, word):
    assert load_config(SMOKE, [f"train.amp={word}"]).train.amp == "off"
    (tmp_path / "x.yaml").write_text(f"train: {{amp: {word}}}")
    assert load_config(tmp_path / "x.yaml").train.amp == "off"


@given(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-5, 5),
    st.floats(0, 5),
    st.booleans(),
    st.booleans(),
)
def test_ranges_hold_what_lies_in_them(value, low, width, open_low, open_high):
    high = low + width
    assume(high > low)  # a width may be too small to be seen beside low
    held = Range(low, high, open_low, open_high).holds(value)
    if value in (low, high):
        assert held == (not (open_low if value == low else open_high))
    else:
        assert held == (low < value < high)


def test_every_row_of_the_table_is_of_a_key_that_exists():
    """A key that is renamed would no longer be checked."""
    config = asdict(Config())
    sets, paper = (inspect.signature(net).parameters for net in (SetBoundaryFusion, BoundaryFusion))
    config["model"]["initial"]["args"] = dict.fromkeys([*sets, *paper], 1)
    config["data"]["scenes"] = asdict(SceneConfig(mattes=[]))
    keys = [key for key, _ in flat(config)]
    for pattern in (*RANGES, *NEVER_EMPTY.split()):
        assert any(fnmatchcase(key, pattern) for key in keys), pattern


def test_a_pipe_is_no_config(tmp_path):
    os.mkfifo(tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"x\.yaml is no regular file"):
        load_config(tmp_path / "x.yaml")
