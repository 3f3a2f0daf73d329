"""Pairs by their names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.pairs import find_pairs, name_pair
from utils.errors import UserError


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("lytro-01-A.png", "lytro-01-B.png", "lytro-01"),
        ("x_A.jpg", "x_B.tif", "x"),
        ("X_a.JPG", "x_B.png", "X"),
        ("01A.png", "01B.png", "01"),
        ("scene 7-1.jpeg", "scene 7-2.webp", "scene 7"),
        ("c_1.bmp", "c_2.bmp", "c"),
        ("x-A.png", "x_B.png", "x"),
        ("öl.neu-A.png", "öl.neu-B.png", "öl.neu"),
    ],
)
def test_names_that_make_a_pair(tmp_path, first, second, name):
    pairs, problems = find_pairs(folder_of(tmp_path, first, second))
    assert not problems
    assert [(p.image1.name, p.image2.name, p.name) for p in pairs] == [(first, second, name)]
    swapped = name_pair(tmp_path / second, tmp_path / first)
    assert (swapped.image1.name, swapped.image2.name) == (second, first)  # as given
    assert swapped.name.casefold() == name.casefold()


@given(
    st.lists(st.text("xyz09_", min_size=1, max_size=6), unique=True, min_size=1, max_size=6),
    st.sampled_from(["-A -B", "_A _B", "-1 -2", "_1 _2", "-a -b"]),
)
def test_every_pair_is_found(tmp_path_factory, names, marks):
    names = list({name.rstrip("_") or "x" for name in names})
    folder = tmp_path_factory.mktemp("pairs")
    folder_of(folder, *(f"{name}{mark}.png" for name in names for mark in marks.split()))
    pairs, problems = find_pairs(folder)
    assert not problems
    assert sorted(pair.name for pair in pairs) == sorted(names)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["x-A.png"], ["x-A.png", "ends in B"]),
        (["x_2.png"], ["x_2.png", "ends in 1"]),
        (["x-A.png", "x-A.jpg", "x-B.png"], ["ambiguous", "x-A.jpg", "x-A.png", "x-B.png"]),
        (["x-A.png", "x-B.png", "x_1.png", "x_2.png"], ["ambiguous", "x_1.png", "x-B.png"]),
        (["x-A.png", "x-2.png"], ["ambiguous", "x-A.png", "x-2.png"]),
        (["x-C.png"], ["x-C.png", "belongs to no pair"]),
        (["x-A.jp2", "x-B.jp2"], [".jp2"]),
        (["x-A.png", "x-B.xcf"], [".xcf"]),
    ],
)
def test_what_is_no_pair_is_named(tmp_path, names, said):
    pairs, problems = find_pairs(folder_of(tmp_path, "good-A.png", "good-B.png", *names))
    assert [pair.name for pair in pairs] == ["good"]
    (problem,) = problems
    assert all(text in problem.error for text in said)
    assert {path.name for path in problem.files} == set(names)


def test_results_and_other_files_are_passed_over(tmp_path):
    others = "x-Fusion.png", "x-Guidance.png", "x-Boundary.png", "a-1.txt", "README.md", ".x-A.png"
    pairs, problems = find_pairs(folder_of(tmp_path, "x-A.png", "x-B.png", *others))
    assert len(pairs) == 1 and not problems


def test_what_the_system_takes_for_something_else_is_found(tmp_path, monkeypatch):
    """Debian's mime.types has Kodak's RAW as a film of Macromedia Director."""
    monkeypatch.setattr("mimetypes.guess_type", lambda name: ("application/x-director", None))
    pairs, problems = find_pairs(folder_of(tmp_path, "x-A.DCR", "x-B.dcr"))
    assert [pair.name for pair in pairs] == ["x"] and not problems


@pytest.mark.parametrize("kinds", [("png", "png"), ("dng", "jpg")])
def test_files_beside_the_photographs_are_passed_over(tmp_path, kinds):
    """Lightroom writes .xmp, iPhones .aae, RawTherapee .pp3."""
    photographs = [f"x-{mark}.{kind}" for mark, kind in zip("AB", kinds, strict=True)]
    beside = [f"x-{mark}.{kind}" for mark in "AB" for kind in ("xmp", "aae", "pp3")]
    pairs, problems = find_pairs(folder_of(tmp_path, *photographs, *beside))
    assert not problems
    assert [(pair.image1.name, pair.image2.name) for pair in pairs] == [tuple(photographs)]


def test_no_two_pairs_have_one_name(tmp_path):
    folder = tmp_path / "pair"
    folder.mkdir()
    pairs, _ = find_pairs(folder_of(folder, "A.png", "B.png", "pair-A.png", "pair-B.png"))
    assert sorted(pair.name for pair in pairs) == ["pair", "pair-2"]


def test_series_of_three_names_the_third(tmp_path):
    pairs, problems = find_pairs(folder_of(tmp_path, "s-A.png", "s-B.png", "s-C.png"))
    assert [pair.name for pair in pairs] == ["s"]
    assert [problem.files[0].name for problem in problems] == ["s-C.png"]


def test_no_folder_or_nothing_in_it(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        find_pairs(tmp_path / "absent")
    with pytest.raises(UserError, match="no images"):
        find_pairs(folder_of(tmp_path, "notes.txt"))


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("shelf-near.jpg", "shelf-far.jpg", "shelf"),
        ("IMG_0012.jpg", "IMG_0013.jpg", "IMG_0012-IMG_0013"),
        ("near.jpg", "far.jpg", "near-far"),
        ("shelf/a.jpg", "shelf/b.jpg", "shelf"),
        ("/a.jpg", "/b.jpg", "pair"),
        ("cat.jpg", "cat.png", "cat-cat"),
        ("one-A.png", "two-B.png", "one-A-two-B"),
    ],
)
def test_name_of_two_given_files(first, second, name):
    assert name_pair(first, second).name == name


def test_given_file_of_unknown_type():
    with pytest.raises(UserError, match=r"a\.xyz.*\.xyz.*\.png"):
        name_pair("a.xyz", "b.png")
