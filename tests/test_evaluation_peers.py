"""Peers are driven by their command lines; here by stand-ins that answer as they are documented."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import evaluate
from benchmarks.measure import Failed, measure
from evaluation import peers, runs
from fusion.pairs import find_pairs
from tests.conftest import ROOT, texture
from utils.errors import UserError
from utils.images import read_photo, write_png

ENFUSE = """
import pathlib, shutil, sys
if "--version" in sys.argv:
    print("enfuse 4.2-abc"); sys.exit()
options = [a for a in sys.argv[1:] if a.startswith("--")]
images = [a for a in sys.argv[1:] if not a.startswith("--")]
assert {"--exposure-weight=0", "--contrast-weight=1", "--hard-mask"} <= set(options)
assert len(images) == 2
if "broken" in images[0]:
    sys.exit("enfuse: cannot fuse")
shutil.copy(images[1], next(o for o in options if o.startswith("--output=")).partition("=")[2])
calls = pathlib.Path(__file__).with_name("calls")
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
"""
FOCUSWEAVE = """
import argparse, pathlib, shutil
p = argparse.ArgumentParser()
p.add_argument("--version", action="version", version="focusweave 2.0.0")
for name in ("--batch", "--output", "--batch-format"):
    p.add_argument(name, type=pathlib.Path)
p.add_argument("--no-align", action="store_true")
a = p.parse_args()
assert a.no_align
for folder in a.batch.iterdir():
    shutil.copy(sorted(folder.iterdir())[0], a.output / f"{folder.name}.{a.batch_format}")
"""


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """The only programs that are installed: stand-ins for enfuse and focusweave."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, code in {"enfuse": ENFUSE, "focusweave": FOCUSWEAVE}.items():
        (folder / name).write_text(f"#!{sys.executable}\n{code}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(peers.sysconfig, "get_path", lambda kind: str(folder))
    return folder


@pytest.fixture
def sources(tmp_path) -> Path:
    for seed in range(4):
        name = f"x-{seed // 2 + 1}-{'AB'[seed % 2]}"
        write_png(tmp_path / "sources" / f"{name}.png", texture(seed, 32, 40))
    return tmp_path / "sources"


def peer(name: str) -> peers.Peer:
    return next(peer for peer in peers.PEERS if peer.name == name)


def test_absent_programs_say_how_to_get_them(programs):
    chosen, notes = peers.choose_peers([])
    assert [peer.name for peer in chosen] == ["FocusWeave", "enfuse"]
    assert len(notes) == 1 and notes[0].startswith("openfocus is not installed")
    requirements = re.search(r"requirements\S+\.txt", notes[0])[0]
    assert "openfocus" in (ROOT / requirements).read_text()


def test_the_version_is_that_of_the_programs_environment(programs):
    """Not of this one, where the package may be absent or another release."""
    for name in ("openfocus", "python"):
        (programs / name).write_text("#!/bin/sh\necho 1.23.4\n")
        (programs / name).chmod(0o755)
    assert peer("OpenFocus A").version() == "1.23.4"


def test_ten_methods_of_openfocus(programs):
    (programs / "openfocus").write_text("")
    (programs / "openfocus").chmod(0o755)
    assert len(peers.choose_peers(["openfocus"])[0]) == 10
    assert [p.name for p in peers.choose_peers(["OpenFocus DCT"])[0]] == ["OpenFocus DCT"]


def test_run(programs, sources, tmp_path):
    pairs = find_pairs(sources)[0]
    for name, image in (("enfuse", "B"), ("FocusWeave", "A")):
        output = tmp_path / name
        run, problems = runs.run_peer(peer(name), pairs, output)
        assert not problems
        assert run.version.startswith({"enfuse": "4.2", "FocusWeave": "2.0.0"}[name])
        assert run.pairs == 2 and 0 < run.cpu_seconds and 0 < run.seconds
        for pair in ("x-1", "x-2"):
            fused = read_photo(output / f"{pair}.png").rgb
            np.testing.assert_array_equal(fused, read_photo(sources / f"{pair}-{image}.png").rgb)
        assert json.loads((output / "run.json").read_text())["seconds"] == run.seconds


def test_the_same_run_is_not_repeated(programs, sources, tmp_path):
    def go() -> int:
        pairs = find_pairs(sources)[0]
        runs.run_peer(peer("enfuse"), pairs, tmp_path / "enfuse")
        return len((programs / "calls").read_text())

    assert [go(), go()] == [2, 2]
    write_png(sources / "x-1-A.png", texture(9, 32, 40))
    assert go() == 4


def test_a_failure_is_told(programs, sources, tmp_path):
    for half in "AB":
        shutil.copy(sources / f"x-1-{half}.png", sources / f"broken-{half}.png")
    pairs = find_pairs(sources)[0]
    output = tmp_path / "enfuse"
    _, (problem,) = runs.run_peer(peer("enfuse"), pairs, output)
    assert "enfuse" in problem and "cannot fuse" in problem
    assert {path.name for path in output.iterdir()} == {"x-1.png", "x-2.png"}


def test_a_peer_that_writes_nothing_is_told_and_run_again(programs, sources, tmp_path):
    pairs, output = find_pairs(sources)[0], tmp_path / "enfuse"
    assert not runs.run_peer(peer("enfuse"), pairs, output)[1]
    (output / "x-1.png").unlink()
    assert not runs.run_peer(peer("enfuse"), pairs, output)[1] and (output / "x-1.png").exists()
    (programs / "enfuse").write_text(f"#!{sys.executable}\n")
    write_png(sources / "x-1-A.png", texture(9, 32, 40))
    problems = runs.run_peer(peer("enfuse"), pairs, output)[1]
    assert problems == ["enfuse wrote nothing for x-1", "enfuse wrote nothing for x-2"]


def test_what_we_cannot_fuse_is_told_and_leaves_no_image_of_an_earlier_run(
    sources, tmp_path, monkeypatch, capsys
):
    def fail(*images, **options):
        raise UserError("no memory")

    monkeypatch.setattr(runs, "load_backend", lambda *given: SimpleNamespace(device="cpu"))
    monkeypatch.setattr(runs, "fuse", fail)
    fused = tmp_path / "work/fused/mmfnet"
    write_png(fused / "x-1-Fusion.png", texture(0, 32, 40))
    options = ["--sources", sources, "--weights", "w", "--out", tmp_path / "out"]
    assert evaluate.main([*map(str, options), "--work", str(tmp_path / "work")]) == 2
    said = capsys.readouterr().err
    assert "x-1: no memory" in said and "x-2: no memory" in said
    assert not any(fused.iterdir())


def test_of_an_earlier_run_nothing_counts(sources, tmp_path, monkeypatch):
    """Another pair's result is removed; a pair of 8 and 16 bits is fused at 16."""
    given = []
    monkeypatch.setattr(runs, "load_backend", lambda *given: SimpleNamespace(device="cpu"))
    monkeypatch.setattr(
        runs,
        "fuse",
        lambda images, *_, **__: given.append(images) or SimpleNamespace(image=images[0]),
    )
    narrow = read_photo(sources / "x-1-B.png").rgb
    write_png(sources / "x-1-B.png", narrow.astype(np.uint16) * 257)
    write_png(tmp_path / "ours" / "x-9-Fusion.png", narrow)
    _, problems = runs.fuse_folder(Path(), find_pairs(sources)[0], tmp_path / "ours")
    names = {path.name for path in (tmp_path / "ours").iterdir()}
    assert not problems and names == {"x-1-Fusion.png", "x-2-Fusion.png"}
    a, b = given[0]
    np.testing.assert_array_equal(a, read_photo(sources / "x-1-A.png").rgb.astype(np.uint16) * 257)
    np.testing.assert_array_equal(b, narrow.astype(np.uint16) * 257)


def test_command_lines_are_those_of_the_programs_manuals():
    """Of two registered frames, and of frames that each program aligns."""
    stack, output = Path("in/s"), Path("out")

    def said(name: str, align: bool) -> list[str]:
        (line,) = peer(name).commands([stack], output, align)
        return line

    common = ["openfocus", "--input", "in/s", "--output", "out/s.png", "--method"]
    as_they_are = ["--align", "none", "--no-exposure-match"]
    assert said("OpenFocus StackMFF V3", False) == [*common, "stackmffv3", *as_they_are]
    assert said("OpenFocus guided filter", False) == [*common, "guided_filter", *as_they_are]
    assert said("OpenFocus DCT", True) == [*common, "dct", "--align", "openfocus"]
    common = ["focusweave", "in/s", "--output", "out/s.png"]
    assert said("FocusWeave", True) == common
    assert said("FocusWeave", False) == [*common, "--no-align"]


def test_enfuse_aligns_first_and_fuses_what_was_aligned(tmp_path):
    frames = [tmp_path / name for name in ("a.png", "b.png")]
    for frame in frames:
        frame.touch()
    align, fuse = peer("enfuse").commands([tmp_path], Path("out"), True)
    assert align[0] == "align_image_stack" and align[-2:] == [*map(str, frames)]
    assert fuse[-2:] == ["out/aligned-0000.tif", "out/aligned-0001.tif"]
    (registered,) = peer("enfuse").commands([tmp_path], Path("out"), False)
    assert registered[-2:] == [*map(str, frames)]


def test_from_the_command_line(programs, sources, tmp_path, capsys):
    options = ["--sources", sources, "--out", tmp_path / "out", "--cache", tmp_path / "cache"]
    options += ["--metrics", "AG", "--workers", 1, "--run-peers"]
    assert evaluate.main([*map(str, options)]) == 0
    said = capsys.readouterr()
    assert "openfocus is not installed" in said.err
    assert "| enfuse |" in said.out and "| FocusWeave |" in said.out
    runs = json.loads((tmp_path / "out" / "summary.json").read_text())["runs"]
    assert runs["enfuse"]["version"].startswith("4.2")
    assert runs["enfuse"]["seconds_per_pair"] > 0
    assert runs["FocusWeave"]["options"] == "--batch … --output … --no-align --batch-format png"
    assert runs["enfuse"]["options"].endswith("--hard-mask --output=… …")
    (row,) = (
        line.split("|")
        for line in (tmp_path / "out" / "tables.md").read_text().splitlines()
        if line.startswith("| FocusWeave | 2.0.0 |")
    )
    assert float(row[4]) == pytest.approx(runs["FocusWeave"]["cpu_seconds_per_pair"], abs=0.006)


def test_a_program_that_does_not_start_is_told_and_costs_no_other(
    programs, sources, tmp_path, capsys
):
    (programs / "focusweave").write_text("#!/nowhere/python\n")
    options = ["--sources", sources, "--out", tmp_path / "out", "--cache", tmp_path / "cache"]
    assert evaluate.main([*map(str, options), "--metrics", "AG", "--run-peers"]) == 2
    said = capsys.readouterr()
    assert f"FocusWeave: cannot run {programs / 'focusweave'}: No such file" in said.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["metrics"]["AG"]["mean"].keys() == {"enfuse"}
    with pytest.raises(Failed, match="No such file"):  # as the benchmarks run it
        measure([[programs / "focusweave"]])


def test_a_folder_of_results_does_not_bear_the_name_of_what_is_run(programs, sources, capsys):
    options = ["--sources", sources, "--out", sources / "out", "--fused", f"enfuse={sources}"]
    assert evaluate.main([*map(str, options), "--run-peers", "enfuse"]) == 2
    assert "--fused enfuse=…: that is run as well" in capsys.readouterr().err


def test_a_place_that_no_picture_has_is_refused_before_anything_runs(programs, sources, capsys):
    options = ["--sources", sources, "--out", sources / "out", "--run-peers", "enfuse"]
    assert evaluate.main([*map(str, options), "--figures", "--insets", "900,3"]) == 2
    assert "40×32" in capsys.readouterr().err and not (programs / "calls").exists()


def test_a_program_in_a_relative_folder_of_the_path_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "tools").mkdir()
    program = tmp_path / "tools/weaver"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "tools")
    assert peers.find_program("weaver") == str(program)
