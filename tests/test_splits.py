"""Splits: fixed for ever, by photograph, and never a photograph on both sides."""

from __future__ import annotations

import math
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import merge
from data.build import is_held_out, training_set, validation_sets
from utils.errors import UserError

# The first 16 digits of `printf NAME | sha256sum`.
DIGESTS = {
    "100039": 0xA9BCD7E29196A705,
    "100075": 0x7E8A06E27A198260,
    "lytro-01": 0x22FC32BB47AB85F2,
    "photo-3": 0x4B5EE33D9B185BD0,
    "000000000139": 0x6AFC83AA15838B1A,
}


@pytest.mark.parametrize(("name", "digest"), DIGESTS.items())
def test_the_split_is_the_same_for_ever(name, digest):
    share = digest / 2**64
    assert is_held_out(name, share + 1e-9)
    assert not is_held_out(name, share - 1e-9)


@given(st.sets(st.text(max_size=8)), st.floats(0, 1), st.floats(0, 1))
def test_growing_the_share_only_adds(names, fraction, more):
    larger = max(fraction, more)
    assert all(is_held_out(name, larger) for name in names if is_held_out(name, fraction))


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_the_share_is_near_the_fraction(fraction):
    count = sum(is_held_out(str(name), fraction) for name in range(4000))
    assert abs(count - 4000 * fraction) <= 4 * math.sqrt(4000 * fraction * (1 - fraction))


def test_training_and_validation_have_no_photograph_in_common(photographs, cutouts):
    config = merge(
        {
            "data": {"photographs": str(photographs), "cutouts": str(cutouts)},
            "validation": {"fraction": 0.3},
        }
    )
    used = []
    for generator in (training_set(config).pairs, validation_sets(config, 3)["pairs"].generator):
        backgrounds = set(generator.photographs.photographs)
        (source,) = generator.cutouts
        assert set(source.photographs) == backgrounds
        assert len(source) == 2 * len(backgrounds)
        used.append(backgrounds)
    assert used[1] == {f"photo-{i}" for i in (2, 3, 4, 7)}
    assert used[0] == {f"photo-{i}" for i in (0, 1, 5, 6)}


def test_photographs_that_are_trained_on_cannot_validate(photographs):
    for held_out in (photographs, photographs / ".." / photographs.name, photographs.parent):
        values = {
            "data": {"photographs": str(photographs)},
            "validation": {"photographs": str(held_out)},
        }
        with pytest.raises(UserError, match="validation.photographs=.* are trained on"):
            validation_sets(merge(values), 3)


def test_cutouts_that_are_trained_on_cannot_validate(photographs, cutouts, tmp_path):
    values = {
        "data": {"photographs": str(photographs), "cutouts": str(cutouts)},
        "validation": {"photographs": str(tmp_path), "cutouts": str(cutouts)},
    }
    with pytest.raises(UserError, match="validation.cutouts=.* are trained on"):
        validation_sets(merge(values), 3)


def test_what_is_cut_out_of_the_other_side_is_refused(photographs, cutouts, tmp_path):
    """The cut-outs of ``cutouts`` have the names of photographs, but are not of them."""
    for name in ("photo-0", "photo-3"):  # JPEG, whose decoded pixels the cut-out has
        (tmp_path / "held").mkdir(exist_ok=True)
        image = cv2.imread(str(photographs / f"{name}.png"))
        cv2.imwrite(str(tmp_path / f"held/{name}.jpg"), image)
    image = cv2.imread(str(tmp_path / "held/photo-3.jpg"))[30:130, 20:120]
    disk = cv2.circle(np.zeros((100, 100), np.uint8), (50, 50), 40, 255, -1)
    cutout = np.dstack([image, disk])
    cutout[disk == 0] = 0
    cutout[40:50, 30:70] += 1  # as a matte of 0.999 has it: opaque, but not the photograph's own
    (tmp_path / "part").mkdir()
    cv2.imwrite(str(tmp_path / "part/photo-3__1.png"), np.pad(cutout, ((80, 8), (8, 8), (0, 0))))

    def check(one: tuple, other: tuple) -> None:
        keys = "photographs", "cutouts"
        parts = (dict(zip(keys, map(str, side), strict=False)) for side in (one, other))
        config = merge(dict(zip(("data", "validation"), parts, strict=True)))
        assert validation_sets(config, 1)["pairs"][0]

    check((photographs, cutouts), (tmp_path / "held",))
    check((tmp_path / "absent", tmp_path / "part"), (photographs,))  # PNG: other pixels
    for sides in (
        ((photographs, tmp_path / "part"), (tmp_path / "held",)),
        ((tmp_path / "held",), (photographs, tmp_path / "part")),
    ):
        with pytest.raises(UserError, match="photo-3.* trains and .*photo-3.*, the same picture"):
            check(*sides)
    shutil.copytree(photographs, tmp_path / "copies")
    with pytest.raises(UserError, match="photo-0.png trains and .*copies/photo-0.png"):
        check((photographs,), (tmp_path / "copies",))


def test_cutouts_do_not_validate_without_photographs(photographs, cutouts):
    values = {"data": {"photographs": str(photographs)}, "validation": {"cutouts": str(cutouts)}}
    with pytest.raises(UserError, match="name validation.photographs=DIR as well"):
        validation_sets(merge(values), 3)


def test_a_wrong_range_of_a_set_names_its_key(photographs):
    values = {"data": {"photographs": str(photographs)}}
    for key, ranges in (("defocus", {"psfs": ["x"]}), ("scenes", {"one": {"psfs": ["x"]}})):
        config = merge(values | {"validation": {"fraction": 0.3, key: ranges}})
        with pytest.raises(UserError, match=rf"^validation.{key}.*: unknown PSF 'x'"):
            validation_sets(config, 3, 3)


@pytest.mark.parametrize("name", ["pairs", "samples", "weights"])
def test_names_that_mean_something_else_are_no_sets(photographs, name):
    values = {"data": {"photographs": str(photographs)}, "validation": {"fraction": 0.3}}
    values["validation"]["scenes"] = {name: {}}
    with pytest.raises(UserError, match=f"scenes.{name}: that name is taken"):
        validation_sets(merge(values), 3)


def test_samples_for_validation_are_not_trained_on(tmp_path):
    (tmp_path / "dataset.json").write_text('{"split": "validation"}')
    with pytest.raises(UserError, match="holds samples for validation"):
        training_set(merge({"data": {"stored": str(tmp_path)}}))


def test_too_few_photographs_blame_the_share_only_where_there_is_one(photographs, tmp_path):
    (tmp_path / "one.png").write_bytes((photographs / "photo-0.png").read_bytes())
    values = {"data": {"photographs": str(tmp_path)}}
    with pytest.raises(UserError, match="1 of 2 photographs.*, validation.fraction"):
        training_set(merge(values | {"validation": {"fraction": 0.0}}))
    with pytest.raises(UserError, match="1 of 2 photographs for a sample; add some$"):
        training_set(merge(values | {"validation": {"photographs": str(photographs)}}))


def test_missing_photographs_are_asked_for(tmp_path):
    with pytest.raises(UserError, match="data.photographs=DIR"):
        training_set(merge({}))
    with pytest.raises(UserError, match="validation.photographs=DIR"):
        validation_sets(merge({"data": {"stored": str(tmp_path)}}), 3)
