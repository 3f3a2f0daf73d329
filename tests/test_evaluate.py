"""``evaluate.py`` from the command line to its files."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import evaluate
from evaluation import cache, scores
from evaluation.matching import collect
from evaluation.tables import PUBLISHED
from tests import octave
from tests.conftest import ROOT, texture
from utils.images import write_png
from utils.metrics import METRICS
from utils.process import cores


@pytest.fixture
def folders(tmp_path) -> Path:
    """Three pairs, sharp left or right; ``mean`` and ``copy`` (of the first source) as methods."""
    for seed in range(3):
        truth = texture(seed, 48, 56)
        blurred = cv2.GaussianBlur(truth, (0, 0), 2)
        left = np.arange(56)[:, None] < 28
        a, b = np.where(left, truth, blurred), np.where(left, blurred, truth)
        write_png(tmp_path / f"sources/scene-{seed}-A.png", a)
        write_png(tmp_path / f"sources/scene-{seed}-B.png", b)
        write_png(tmp_path / f"mean/scene_{seed}_mean.png", ((a / 1.0 + b) / 2).astype(np.uint8))
        write_png(tmp_path / f"copy/{seed}.png", a)
        write_png(tmp_path / f"truth/scene-{seed}.png", truth)
        band = np.zeros((48, 56), np.uint8)
        band[:, 24:32] = 255 * (seed > 0)  # the first pair has no FDB
        write_png(tmp_path / f"band/scene-{seed}.png", band)
    return tmp_path


@pytest.fixture
def run(folders) -> Callable[..., int]:
    def call(*options: str, methods=("mean", "copy")) -> int:
        fused = [f"{name}={folders / name}" for name in methods]
        arguments = ["--sources", folders / "sources", "--fused", *fused, "--out", folders / "out"]
        if "--workers" not in options:
            arguments += ["--workers", 1]
        return evaluate.main([*map(str, arguments), "--cache", str(folders / "cache"), *options])

    return call


def lines(folders: Path) -> list[dict[str, str]]:
    with open(folders / "out" / "per_image.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_files_and_values(folders, run, capsys):
    assert run("--metrics", "AG,Q_G,EN") == 0
    rows = lines(folders)
    assert list(rows[0]) == ["pair", "method", "metric", "value"]
    assert len(rows) == 3 * 2 * 3
    sources = [cv2.imread(str(folders / f"sources/scene-1-{s}.png"))[..., ::-1] for s in "AB"]
    fused = cv2.imread(str(folders / "mean/scene_1_mean.png"))[..., ::-1]
    expected = {"AG": METRICS["AG"](fused), "Q_G": METRICS["Q_G"](sources, fused)}
    for symbol, value in expected.items():
        (row,) = (
            r for r in rows if (r["pair"], r["method"], r["metric"]) == ("scene-1", "mean", symbol)
        )
        assert float(row["value"]) == pytest.approx(value, rel=1e-12)
    summary = json.loads((folders / "out" / "summary.json").read_text())
    mean = np.mean(
        [float(r["value"]) for r in rows if (r["method"], r["metric"]) == ("copy", "AG")]
    )
    assert summary["metrics"]["AG"]["mean"]["copy"] == pytest.approx(mean)
    assert summary["problems"] == []
    assert (folders / "out" / "tables.md").read_text() in capsys.readouterr().out
    assert r"\begin{tabular}" in (folders / "out" / "tables.tex").read_text()


def test_truth_and_band(folders, run):
    options = ("--truth", str(folders / "truth"), "--band", str(folders / "band"))
    assert run("--metrics", "PSNR,PSNR_FDB", *options, methods=["copy"]) == 0
    rows = {(row["pair"], row["metric"]): float(row["value"]) for row in lines(folders)}
    assert ("scene-0", "PSNR") in rows and ("scene-0", "PSNR_FDB") not in rows
    truth, copy = (
        cv2.imread(str(folders / name)).astype(float)
        for name in ("truth/scene-1.png", "copy/1.png")
    )
    error = ((truth - copy) ** 2)[:, 24:32].mean()
    assert rows["scene-1", "PSNR_FDB"] == pytest.approx(10 * np.log10(255**2 / error))


def test_only_what_is_new_is_computed(folders, run, monkeypatch):
    computed = []
    real = scores.measure_image
    monkeypatch.setattr(
        scores, "measure_image", lambda job: computed.append((job.method, job.symbols)) or real(job)
    )
    assert run("--metrics", "AG,EN", methods=["mean"]) == 0
    first = lines(folders)
    computed.clear()
    assert run("--metrics", "AG,EN", methods=["mean"]) == 0
    assert not computed and lines(folders) == first
    assert run("--metrics", "AG,EN,SD", methods=["mean", "copy"]) == 0
    assert sorted(set(computed)) == [("copy", ("AG", "EN", "SD")), ("mean", ("SD",))]
    computed.clear()
    image = folders / "sources" / "scene-2-B.png"
    write_png(image, cv2.imread(str(image))[:, ::-1])  # other content under the same name
    assert run("--metrics", "AG,EN,SD", methods=["mean", "copy"]) == 0
    assert len(computed) == 2
    computed.clear()
    monkeypatch.setattr(cache, "version", lambda: b"another")
    assert run("--metrics", "AG", methods=["mean"]) == 0
    assert len(computed) == 3


def test_cores_are_those_of_this_process_or_of_the_machine(monkeypatch):
    """macOS and Windows cannot be asked for the former."""
    assert 1 <= cores() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores() == os.cpu_count()


@pytest.mark.parametrize("file", ["metrics/phase.py", "metrics/metrics.csv", "formats/png.py"])
def test_versions_follow_the_code(tmp_path, monkeypatch, file):
    """Of the metrics, and of what decodes the images."""
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text("one")
    monkeypatch.setattr(cache, "UTILS", tmp_path)
    before = cache.version.__wrapped__()
    (tmp_path / file).write_text("another")
    assert cache.version.__wrapped__() != before


def test_versions_follow_the_libraries(monkeypatch):
    """PNG is decoded by imagecodecs, not by Pillow."""
    before = cache.version.__wrapped__()
    monkeypatch.setattr("imagecodecs.__version__", "another")
    assert cache.version.__wrapped__() != before


def test_workers_give_the_same(folders, run):
    assert run("--metrics", "AG,Q_G") == 0
    one = lines(folders)
    shutil.rmtree(folders / "cache")
    assert run("--metrics", "AG,Q_G", "--workers", "2") == 0
    assert lines(folders) == one


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, os, time\n"
        "from utils.process import end_with_parent\n"
        "def work(ready):\n"
        "    end_with_parent()\n"
        "    ready.set()\n"
        "    time.sleep(100)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    ready = context.Event()\n"
        "    context.Process(target=work, args=[ready]).start()\n"
        "    ready.wait()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # The output ends when the last process that holds it does.
    subprocess.run(
        [sys.executable, program], env=environment, stdout=subprocess.PIPE, timeout=50, check=False
    )


def test_bad_images_are_named_and_the_rest_is_reported(folders, run, capsys):
    (folders / "mean" / "scene_0_mean.png").unlink()
    write_png(folders / "mean" / "scene_1_mean.png", np.zeros((20, 30, 3), np.uint8))
    broken = folders / "copy" / "2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    assert run("--metrics", "AG") == 2
    said = capsys.readouterr().err
    assert "scene-0" in said
    assert "scene_1_mean.png is 30×20" in said and "56×48" in said
    assert str(broken) in said
    assert "3 problems" in said
    left = {(row["pair"], row["method"]) for row in lines(folders)}
    assert left == {("scene-2", "mean"), ("scene-0", "copy"), ("scene-1", "copy")}
    assert len(json.loads((folders / "out" / "summary.json").read_text())["problems"]) == 3


def test_a_pair_without_truth_has_the_metrics_that_need_none(folders, run, capsys):
    (folders / "truth" / "scene-0.png").unlink()
    write_png(folders / "truth" / "scene-1.png", np.zeros((20, 30, 3), np.uint8))
    assert run("--metrics", "AG,PSNR", "--truth", str(folders / "truth"), methods=["copy"]) == 2
    measured = [(row["pair"], row["metric"]) for row in lines(folders)]
    pairs = ["scene-0", "scene-1", "scene-2"]
    assert sorted(measured) == sorted([*((pair, "AG") for pair in pairs), ("scene-2", "PSNR")])
    said = capsys.readouterr().err
    assert "no image for the pair scene-0" in said and "scene-1.png is 30×20" in said
    assert "2 problems" in said


def test_a_folder_names_its_method(folders):
    options = ["--sources", folders / "sources", "--out", folders / "out", "--workers", 1]
    options += ["--cache", folders / "cache", "--metrics", "AG", "--fused", folders / "copy"]
    assert evaluate.main([*map(str, options), f"x={folders / 'mean'}"]) == 0
    assert {row["method"] for row in lines(folders)} == {"copy", "x"}


def test_a_folder_with_an_equals_sign_in_its_name_names_its_method(folders, run):
    (folders / "copy").rename(folders / "lr=0.1")
    assert run("--metrics", "AG", "--fused", str(folders / "lr=0.1")) == 0
    assert {row["method"] for row in lines(folders)} == {"lr=0.1"}


def test_what_a_figure_leaves_out_is_told_once(folders, run, capsys):
    """And costs neither the figure nor the metrics."""
    write_png(folders / "truth" / "scene-0.png", np.zeros((20, 30, 3), np.uint8))
    (folders / "mean" / "scene_0_mean.png").write_bytes(b"")
    options = ["--figures", "scene-0", "--truth", str(folders / "truth")]
    for metrics in ("none", "AG,PSNR"):
        assert run("--metrics", metrics, *options) == 2
        said = capsys.readouterr().err
        assert "scene_0_mean.png" in said and "scene-0.png is 30×20" in said
        assert "2 problems" in said
    assert (folders / "out" / "scene-0-insets.jpg").exists()
    assert ("scene-0", "copy") in {(row["pair"], row["method"]) for row in lines(folders)}


def test_figures_without_metrics(folders, run):
    assert run("--metrics", "none", "--figures", "scene-1", "--insets", "28,24,16") == 0
    names = {path.name for path in (folders / "out").iterdir()}
    assert names == {"scene-1-insets.jpg", "scene-1-differences.jpg"}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are UTF-8 here")
def test_names_that_are_not_utf_8_are_written(folders, run):
    name = os.fsdecode(b"caf\xe9")
    (folders / "mean").rename(folders / name)
    for half in "AB":
        source = folders / f"sources/scene-0-{half}.png"
        source.rename(source.with_name(f"{name}-0-{half}.png"))
    assert run("--metrics", "AG", methods=[name, "copy"]) == 2  # one pair has other names
    assert {row["method"] for row in lines(folders)} == {r"caf\udce9", "copy"}
    summary = (folders / "out" / "summary.json").read_text(encoding="utf-8")
    assert name in json.loads(summary)["metrics"]["AG"]["mean"]


def test_ambiguous_names(folders, run, capsys):
    shutil.copy(folders / "mean/scene_0_mean.png", folders / "mean/scene-0-old.png")
    assert run("--metrics", "AG") == 2
    said = capsys.readouterr().err
    assert "scene-0-old.png" in said and "scene_0_mean.png" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "Q_GG"], "did you mean Q_G"),
        (["--metrics", "q_g"], "did you mean Q_G"),
        (["--metrics", "PSNR"], "--truth"),
        (["--metrics", ","], "no metric"),
        (["--workers", "0"], "--workers"),
        (["--insets", "3,4"], "--figures"),
        (["--metrics", "none"], "--figures"),
        (["--metrics", "none", "--figures", "--table1"], "--table1"),
        (["--metrics", "Q_G", "--table1"], "--table1 has the metrics AG, LIF, MSD, GLD"),
        (["--metrics", "AG", "--figures", "scene-9"], "no pair 'scene-9'"),
        (["--metrics", "AG", "--figures", "--insets", "9"], "x,y"),
        (["--metrics", "AG", "--figures", "--insets", "900,3"], "56×48"),
        (["--run-peers", "enfus"], "did you mean enfuse"),
        (["--fused", "=folder"], "NAME=DIR"),
        (["--fused", "name="], "NAME=DIR"),
        (["--fused", "a=x", "y/a"], "names a twice"),
    ],
)
def test_wrong_options(run, capsys, options, message):
    assert run(*options) == 2
    assert message in capsys.readouterr().err


def test_a_method_cannot_take_the_place_of_a_baseline(folders, capsys):
    """Of generated pairs oracle selection is measured too."""
    given = ["--synthetic", "--fused", f"oracle selection={folders / 'mean'}"]
    assert evaluate.main([*given, "--out", str(folders / "out")]) == 2
    assert "--fused oracle selection=…: that is run as well" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_a_folder_that_cannot_be_written_to_is_named_before_any_work(
    folders, run, capsys, monkeypatch, option
):
    monkeypatch.setattr(evaluate, "run_methods", lambda args: pytest.fail("it began"))
    (folders / "file").write_text("")
    assert run("--metrics", "AG", option, str(folders / "file" / "deep")) == 2
    assert f"cannot write to {option} {folders / 'file' / 'deep'}: " in capsys.readouterr().err


def test_a_figure_of_sources_of_two_sizes_is_refused(folders, run, capsys):
    write_png(folders / "sources/scene-0-B.png", texture(0, 40, 56))
    assert run("--metrics", "AG", "--figures") == 2
    assert "scene-0-B.png is 56×40" in capsys.readouterr().err


def test_needs_something_to_compare(folders, capsys):
    assert evaluate.main(["--sources", str(folders / "sources"), "--out", str(folders)]) == 2
    assert "--fused" in capsys.readouterr().err
    assert evaluate.main(["--fused", "a=b", "--out", str(folders)]) == 2
    assert "--sources" in capsys.readouterr().err


def test_all_metrics(folders, run):
    cases, _ = collect(folders / "sources", {"mean": folders / "mean"})
    symbols = scores.choose_metrics("all")
    assert set(symbols) == {s for s, metric in METRICS.items() if metric.needs != "truth"}
    values, problems = scores.measure(cases[:1], symbols, 1, folders / "cache")
    # Those that need larger images than these say so; all others give a number.
    (found,) = values.values()
    assert {*found} | {p.split(": ")[1].split()[0] for p in problems} == set(symbols)
    assert len(found) >= len(symbols) - 2


@pytest.mark.skipif(bool(octave.absent()), reason=f"{octave.absent()} fetches the images")
def test_table1_reproduces_the_paper(tmp_path, capsys):
    """MMF-Net to the last digit; of four other methods, whose images MFIFB has as JPEG, AG and GLD
    within 0.4 %, LIF within 0.26 %, MSD within 0.11 %: the formulas are the paper's."""
    root = octave.DATASETS
    options = ["--sources", root / "lytro", "--out", tmp_path, "--cache", tmp_path / "cache"]
    fused = {"MMF-Net": root / "mmfnet_lytro", "GF": root / "mfifb_lytro/GFF"}
    fused |= {"DCNN": root / "mfifb_lytro/CNN", "DSIFT": root / "mfifb_lytro/DSIFT"}
    fused |= {"NSCT-SR": root / "mfifb_lytro/NSCT_SR"}
    arguments = [*map(str, options), "--fused", *(f"{k}={v}" for k, v in fused.items())]
    assert evaluate.main([*arguments, "--table1", "--workers", "1"]) == 0
    means = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    for symbol, most in {"AG": 0.004, "LIF": 0.0026, "MSD": 0.0011, "GLD": 0.004}.items():
        mean = means[symbol]["mean"]
        for method in fused:
            published = PUBLISHED[method][symbol][0]
            assert mean[method] == pytest.approx(published, rel=most), (symbol, method)
        assert round(mean["MMF-Net"], 4) == PUBLISHED["MMF-Net"][symbol][0]
    assert "they differ by 0." in capsys.readouterr().out
