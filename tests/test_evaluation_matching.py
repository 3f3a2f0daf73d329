"""Fused images find their pairs however both sides spell the names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.matching import collect, match, tokens
from fusion.pairs import KINDS
from utils.errors import UserError
from utils.images import write_png

LYTRO = [f"lytro-{number:02d}" for number in range(1, 21)]


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    "spelling",
    [
        "lytro-{:02d}-Fusion.png",
        "lytro_{:02d}_CNN.jpg",
        "lytro-{:02d}.jpg",
        "Lytro{}.tif",
        "DeepFuse2 lytro {:03d}.PNG",
        "c_{:02d}_1.png",
        "{}.png",
        "result{:02d}_v2.png",
    ],
)
def test_spellings(spelling):
    files = [Path(spelling.format(number)) for number in range(1, 21)]
    found, problems = match(LYTRO, files[::-1])
    assert not problems
    assert [found[name] for name in LYTRO] == files


def test_words_outweigh_numbers():
    found, problems = match(["dog-1", "cat-1"], paths("fused_cat1.png", "fused_dog1.png"))
    assert not problems
    assert found == {"dog-1": Path("fused_dog1.png"), "cat-1": Path("fused_cat1.png")}


def test_names_without_a_common_word():
    found, problems = match(["dog 1", "cat 2"], paths("01.png", "x 2.png"))
    assert not problems and found == {"dog 1": Path("01.png"), "cat 2": Path("x 2.png")}


def test_longest_name_wins():
    found, problems = match(["tree-1", "tree-1-2"], paths("tree-1-2-F.png", "tree-1-F.png"))
    assert not problems
    assert found["tree-1-2"].name == "tree-1-2-F.png"


def test_ambiguity_lists_the_candidates():
    files = paths("lytro-01-Fusion.png", "lytro-01-old.png", "lytro-02.png")
    found, (problem,) = match(LYTRO[:2], files)
    assert list(found) == ["lytro-02"]
    assert "ambiguous" in problem
    assert "lytro-01-Fusion.png" in problem and "lytro-01-old.png" in problem


def test_a_file_of_two_pairs_is_ambiguous():
    found, problems = match(["dog-1", "cat-1", "cat-2"], paths("1.png", "2.png"))
    assert list(found) == ["cat-2"]
    assert len(problems) == 2
    assert all("1.png" in problem and "cat-1, dog-1" in problem for problem in problems)


def test_missing_is_named_with_what_lies_there():
    found, (problem,) = match(LYTRO[:3], paths("lytro-01.png", "lytro-02.png", "sheet-3.png"))
    assert set(found) == {"lytro-01", "lytro-02"}
    assert "lytro-03" in problem and "sheet-3.png" in problem


@given(
    numbers=st.sets(st.integers(0, 999), min_size=2, max_size=12),
    separator=st.sampled_from("-_ ."),
    before=st.sampled_from(["", "fused_", "IFCNN-2-"]),
    after=st.sampled_from(["", "-Fusion", "_v3"]),
    order=st.randoms(),
)
def test_any_numbering_is_matched_rightly(numbers, separator, before, after, order):
    names = [f"scene-{number}" for number in sorted(numbers)]
    files = [Path(f"{before}scene{separator}{n:04d}{after}.png") for n in sorted(numbers)]
    shuffled = order.sample(files, len(files))
    found, problems = match(names, shuffled)
    assert not problems
    assert [found[name] for name in names] == files


def test_tokens():
    assert tokens("Lytro-01_CNNv2") == ("lytro", 1, "cnnv", 2)


def test_collect(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    for name in ("a-1-A", "a-1-B", "a-2-A", "a-2-B", "a-3-A"):
        write_png(tmp_path / "sources" / f"{name}.png", image)
    for kind in KINDS.split("|"):  # all that run_inference.py writes
        write_png(tmp_path / "net" / f"a-1-{kind}.png", image)
    write_png(tmp_path / "net" / "a-2-Fusion.png", image)
    write_png(tmp_path / "other" / "a_1_other.png", image)
    write_png(tmp_path / "truth" / "a-2.png", image)
    methods = {"net": tmp_path / "net", "other": tmp_path / "other"}
    cases, problems = collect(tmp_path / "sources", methods, tmp_path / "truth")
    assert [case.name for case in cases] == ["a-1", "a-2"]
    assert cases[0].fused["net"].name == "a-1-Fusion.png"
    assert list(cases[1].fused) == ["net"]
    assert cases[0].truth is None and cases[1].truth.name == "a-2.png"
    assert len(problems) == 3  # a-3 without its half, other without a-2, no truth for a-1
    assert any("a-3-A" in problem for problem in problems)
    assert any(problem.startswith("other") and "a-2" in problem for problem in problems)


def test_results_beside_their_sources(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    for name in ("x-A", "x-B", "x-Fusion"):
        write_png(tmp_path / f"{name}.png", image)
    (case,), problems = collect(tmp_path, {"net": tmp_path})
    assert not problems
    assert case.fused["net"].name == "x-Fusion.png"


def test_no_such_folder(tmp_path):
    write_png(tmp_path / "x-A.png", np.zeros((16, 16, 3), np.uint8))
    write_png(tmp_path / "x-B.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="nowhere"):
        collect(tmp_path, {"net": tmp_path / "nowhere"})
