"""Means, wins, ranks and tests, against figures worked out by hand or with SciPy."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy.stats import wilcoxon

from evaluation.scores import Scores
from evaluation.tables import (
    PUBLISHED,
    TABLE1,
    latex,
    markdown,
    mean_ranks,
    summarise,
    table1,
)

VALUES = {  # AG, higher is better; LIF, lower is better
    "good": {"AG": [3.0, 5.0, 4.0], "LIF": [0.1, 0.3, 0.2]},
    "fair": {"AG": [2.0, 5.0, 3.0], "LIF": [0.2, 0.2, 0.2]},
    "poor": {"AG": [1.0, 1.0, 3.5], "LIF": [0.4, 0.4, 0.4]},
}


def scores_of(values, pairs=("p1", "p2", "p3")) -> Scores:
    return {
        (pair, method): {symbol: row[i] for symbol, row in rows.items()}
        for method, rows in values.items()
        for i, pair in enumerate(pairs)
    }


@pytest.fixture
def columns():
    return summarise(scores_of(VALUES), list(VALUES), ["AG", "LIF"])


def test_means_wins_and_ranks(columns):
    ag, lif = columns
    assert ag.mean == pytest.approx({"good": 4.0, "fair": 10 / 3, "poor": 5.5 / 3})
    assert ag.wins == {"good": 2, "fair": 0, "poor": 0}  # p2 is shared: nobody beats all others
    assert ag.rank == pytest.approx({"good": (1 + 1.5 + 1) / 3, "fair": 6.5 / 3, "poor": 8 / 3})
    assert lif.wins == {"good": 1, "fair": 1, "poor": 0}
    assert lif.rank == pytest.approx({"good": 4.5 / 3, "fair": 4.5 / 3, "poor": 3.0})
    assert (ag.first, ag.second) == ("good", "fair")
    assert mean_ranks(columns)["poor"] == pytest.approx((8 / 3 + 3) / 2)
    assert mean_ranks([*columns, lif])["poor"] == pytest.approx((8 / 3 + 6) / 3)  # no median


def test_wilcoxon_is_between_the_best_two():
    rng = np.random.default_rng(0)
    values = {name: {"LIF": list(0.4 + shift + 0.05 * rng.random(12))}
              for name, shift in (("far", 0.2), ("first", 0.0), ("second", 0.01))}  # fmt: skip
    pairs = [f"p{i}" for i in range(12)]
    (column,) = summarise(scores_of(values, pairs), list(values), ["LIF"])
    assert (column.first, column.second) == ("first", "second")
    expected = wilcoxon(values["first"]["LIF"], values["second"]["LIF"]).pvalue
    assert column.p == pytest.approx(expected)


def test_equal_methods_do_not_differ():
    values = {"a": {"AG": [1.0, 2.0]}, "b": {"AG": [1.0, 2.0]}}
    (column,) = summarise(scores_of(values, ("p1", "p2")), ["a", "b"], ["AG"])
    assert column.p == 1.0
    assert column.wins == {"a": 0, "b": 0}
    assert markdown([column]).count("**1.5000 (0)**") == 2  # both best


@pytest.mark.filterwarnings("error")
def test_pairs_on_which_both_are_perfect_tell_nothing():
    better = [45.0, 44.0, 43.0, 42.0, 41.0]
    values = {"a": {"PSNR": [math.inf, *better]}, "b": {"PSNR": [math.inf, *[40.0] * 5]}}
    (column,) = summarise(scores_of(values, [f"p{i}" for i in range(6)]), ["a", "b"], ["PSNR"])
    assert column.p == pytest.approx(2 / 2**5)  # all of five pairs, either way


def test_means_are_of_the_same_pairs():
    scores = scores_of(VALUES)
    del scores["p2", "poor"]
    ag = summarise(scores, [*VALUES, "absent"], ["AG", "MSD"])
    assert len(ag) == 1  # no value of MSD
    assert ag[0].pairs == ["p1", "p3"]
    assert ag[0].mean["good"] == pytest.approx(3.5)
    assert "absent" not in ag[0].mean


def test_no_pair_in_common():
    scores = {("p1", "a"): {"AG": 1.0}, ("p2", "b"): {"AG": 2.0}}
    columns = summarise(scores, ["a", "b"], ["AG"])
    assert markdown(columns).startswith("No pair has a value of every method")
    assert r"\begin{tabular}" in latex(columns)


def test_markdown(columns):
    lines = markdown(columns).splitlines()
    assert lines[0] == "| method | AG ↑ | LIF ↓ | rank |"
    assert lines[2] == "| good | **4.0000 (2)** | **0.2000 (1)** | **1.33** |"
    assert "**" not in lines[4]
    assert lines[5].startswith("| p |")


def test_latex(columns):
    columns = summarise(scores_of({"a_b": {"Q_CV": [200.0, 100.0, 3.0]}}), ["a_b"], ["Q_CV"])
    text = latex(columns)
    assert r"a\_b & 101.00 \\" in text
    assert r"$Q_{\mathrm{CV}}$ $\downarrow$" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_names_keep_their_signs():
    """Each stands in one cell of Markdown, and is text to LaTeX, as ∞ is."""
    name = r"a|b\c~d^e_f<50%"
    values = {name: {"PSNR": [math.inf]}, "other": {"PSNR": [30.0]}}
    columns = summarise(scores_of(values, ("p1",)), list(values), ["PSNR"])
    row = markdown(columns).splitlines()[2]
    assert re.split(r" (?<!\\)\| ", row.strip("| ")) == [
        name.replace("|", r"\|"), "**∞ (1)**", "**1.00**"
    ]  # fmt: skip
    tex = r"a\textbar{}b\textbackslash{}c\textasciitilde{}d\textasciicircum{}e\_f\textless{}50\%"
    assert rf"{tex} & \textbf{{$\infty$ (1)}} & " in latex(columns)


def test_infinite_values():
    values = {"same": {"PSNR": [math.inf, 40.0]}, "other": {"PSNR": [30.0, 41.0]}}
    (column,) = summarise(scores_of(values, ("p1", "p2")), list(values), ["PSNR"])
    assert column.wins == {"same": 1, "other": 1}
    assert "∞ (1)" in markdown([column])


def test_published_wins_are_possible():
    for symbol in TABLE1:
        assert 18 <= sum(row[symbol][1] for row in PUBLISHED.values()) <= 20 + 2


def test_table1_rows():
    values = {
        "ours": dict.fromkeys(TABLE1, [2.0]),
        "IFCNN": dict.fromkeys(TABLE1, [1.5]),
        "mmfnet": {"AG": [2.9791], "LIF": [0.4056], "MSD": [0.11196], "GLD": [14.7451]},
    }
    columns = summarise(scores_of(values, ("p1",)), list(values), TABLE1)
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]]
            for line in table1(columns, ["IFCNN", "mmfnet", "ours"], "ours").splitlines()
            if line.startswith("|")][2:]  # fmt: skip
    assert [row[0] for row in rows] == [*PUBLISHED, "ours", "IFCNN"]
    paper = rows[list(PUBLISHED).index("MMF-Net")]
    assert paper[1:5] == ["2.9791 (17)", "0.4056 (15)", "0.1120 (16)", "14.7451 (18)"]
    assert [cell.split()[0] for cell in paper[5:]] == ["2.9791", "0.4056", "0.1120", "14.7451"]
    assert rows[0][5:] == ["–"] * 4
    assert rows[8][1:5] == ["–"] * 4


@pytest.mark.parametrize("methods", [["mmfnet", "MMF-Net"], ["MMF-Net", "mmfnet"]])
def test_of_two_methods_of_a_published_name_neither_is_lost(methods):
    values = {"MMF-Net": {"AG": [2.5]}, "mmfnet": {"AG": [3.5]}}
    columns = summarise(scores_of(values, ("p1",)), methods, ["AG"])
    lines = table1(columns, methods, "ours").splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    assert "2.5000" in rows["MMF-Net"] and "3.5000" in rows["mmfnet"]
