"""The benchmarks measure what they say: known costs, known errors, whole runs on tiny stacks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import first_frame, texture

from benchmarks import backends, pictures, registration, stacks, tools
from benchmarks.generated import Truth, choose_frames, generated, oracle, read_truth
from benchmarks.measure import Failed, measure
from benchmarks.report import Bar, Rows, table, verdicts
from benchmarks.stacks import Setting
from benchmarks.synthetic_stacks import SyntheticStack
from evaluation.peers import Peer, choose_peers
from fusion.align import Registration
from training.validation import oracle_selection
from utils.errors import UserError
from utils.images import write_png


def failing(stacks: list[Path], output: Path, align: bool) -> list[list[str]]:
    return [[sys.executable, "-c", "raise SystemExit('no memory left')"]]


def tool(name: str, commands) -> Peer:
    return Peer(name, sys.executable, "", commands)


@pytest.fixture(scope="module")
def setting(photographs, tmp_path_factory) -> Setting:
    work = tmp_path_factory.mktemp("work")
    small = {"large": (96, 128), "large_frames": 5, "sizes": ((64, 80), (96, 96)), "counts": (6,)}
    return Setting(
        photographs,
        work,
        work,
        [tool("ours", first_frame), tool("FocusWeave", first_frame), tool("enfuse", failing)],
        **small,
    )


def test_cost_is_that_of_the_program():
    """Memory that was touched, half a second that was slept, not worked."""
    program = "import time; x = b'1' * 200_000_000; time.sleep(0.5)"
    cost = measure([[sys.executable, "-c", program]])
    assert 200 < cost.megabytes < 300
    assert 0.5 <= cost.seconds < 10 and cost.cpu < cost.seconds


def test_memory_is_not_that_of_the_process_that_measures():
    ballast = np.ones(20_000_000)  # 160 MB
    assert measure([[sys.executable, "-c", "pass"]]).megabytes < 60
    assert ballast[0] == 1


def test_costs_of_several_commands_add_up_and_the_largest_memory_counts():
    sleep, large = "import time; time.sleep(0.4)", "x = b'1' * 150_000_000"
    cost = measure([[sys.executable, "-c", program] for program in (sleep, large, sleep)])
    assert cost.seconds > 0.8 and 150 < cost.megabytes < 250


def test_a_program_that_writes_nothing_has_failed(tmp_path):
    silent = tool("silent", lambda stacks, output, align: [[sys.executable, "-c", "pass"]])
    with pytest.raises(Failed, match="silent wrote no image"):
        tools.fuse_with(silent, tmp_path, align=False)


def test_quality_by_its_formulas():
    truth = np.full((10, 20, 3), 100, np.uint8)
    band, edges = np.zeros((2, 10, 20), bool)
    band[:, :5], edges[:, :10] = True, True
    fused = truth.copy()
    fused[0, 0, 1] += 11  # seen
    fused[1, 15] += 50  # far from any edge
    fused[2, 7] += 10  # just not seen
    found = Truth(truth, band, edges).score(fused)
    assert found["halo"] == 1 / 100
    assert found["band"] == pytest.approx(10 * np.log10(255**2 / (11**2 / 150)))
    assert found["psnr"] == pytest.approx(
        10 * np.log10(255**2 / ((11**2 + 3 * 50**2 + 3 * 10**2) / 600))
    )


def test_a_result_of_another_size_has_failed():
    mask = np.ones((10, 20), bool)
    truth = Truth(np.zeros((10, 20, 3), np.uint8), mask, mask)
    with pytest.raises(Failed, match="is 18×10, the truth 20×10"):
        truth.score(np.zeros((10, 18, 3), np.uint8))


@pytest.mark.parametrize("side", [1, 3])
def test_the_oracle_is_that_of_the_validation(side):
    """Two programs for one rule, which tests/test_training.py checks."""
    truth, *frames = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), np.uint8)
    planes = [torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1) for x in (truth, *frames)]
    expected = oracle_selection(torch.stack(planes[1:])[None], planes[0][None], side)[0]
    np.testing.assert_array_equal(oracle(truth, frames, side), expected.permute(1, 2, 0).numpy())


def test_generated_stacks_come_back_from_disk_and_are_made_once(photographs, tmp_path):
    home = generated(tmp_path, 4, (64, 80), 2, 3, photographs)
    truth, made = read_truth(home), sorted((home / "frames").iterdir())
    assert truth.image.shape == (64, 80, 3) and truth.band.shape == truth.edges.shape == (64, 80)
    assert truth.edges[truth.band].mean() > 0.9  # spread by 4 px, edges reach 20
    before = [path.stat().st_mtime_ns for path in made]
    assert generated(tmp_path, 4, (64, 80), 2, 3, photographs) == home
    assert [path.stat().st_mtime_ns for path in made] == before


def test_chosen_frames_are_those_in_that_order(photographs, tmp_path):
    home = generated(tmp_path, 4, (64, 80), 2, 3, photographs)
    folder = choose_frames(home, [2, 0, 2], tmp_path / "chosen")
    images = [cv2.imread(str(path)) for path in sorted(folder.iterdir())]
    frames = [cv2.imread(str(path)) for path in sorted((home / "frames").iterdir())]
    for image, number in zip(images, (2, 0, 2), strict=True):
        np.testing.assert_array_equal(image, frames[number])


def test_rows_are_kept_and_measured_again_unless_resumed(tmp_path):
    rows = Rows(tmp_path / "part.json", resume=False)
    rows.add("a", lambda: {"seconds": 1})
    rows = Rows(tmp_path / "part.json", resume=True)
    rows.add("a", dict)
    assert rows.rows == {"a": {"seconds": 1}}
    again = Rows(tmp_path / "part.json", resume=False)
    again.add("a", lambda: {"seconds": 2})
    assert json.loads((tmp_path / "part.json").read_text()) == {"a": {"seconds": 2}}


def test_rows_that_are_cut_short_are_named(tmp_path):
    (tmp_path / "part.json").write_text('{"a": {"sec')
    with pytest.raises(UserError, match="part.json is damaged; delete it"):
        Rows(tmp_path / "part.json", resume=True)


def test_a_table_has_a_line_for_each_row_and_dashes_for_what_lacks():
    rows = {"a": {"x": 0.5, "y": 3}, "b": {"y": None}}
    text = table(rows, {"x": ("x, s", "{:.2f}"), "y": ("y", "{}")}, "tool")
    assert text.splitlines() == [
        "| tool | x, s | y |",
        "| --- | --- | --- |",
        "| a | 0.50 | 3 |",
        "| b | – | – |",
    ]
    assert verdicts([Bar("x", True), Bar("y", False)]) == "Targets:\n\n- held: x\n- **missed**: y\n"


@pytest.mark.parametrize(
    ("ours", "held"),
    [((1.2, 500), [True, True, True, True]), ((3.5, 900), [True, True, False, False])],
)
def test_ratio_bars(ours, held):
    """No slower than OpenFocus, within 1.2 times FocusWeave, less memory than both."""
    costs = {"ours": ours, tools.OPENFOCUS_DEFAULT: (4, 1000), "FocusWeave": (1, 800)}
    rows = {name: {"seconds": s, "megabytes": m} for name, (s, m) in costs.items()}
    assert [bar.held for bar in stacks.ratio_bars(rows)] == held
    assert not all(bar.held for bar in stacks.ratio_bars(rows, largest=0.3))


def test_truth_bars_hold_against_the_best_method_of_openfocus():
    rows = {
        "ours": {"band": 35, "halo": 0.02},
        "OpenFocus A": {"band": 30, "halo": 0.01},
        "OpenFocus DCT": {"band": 36, "halo": 0.03},
        "enfuse": {"failed": "no memory"},
    }
    bars = stacks.truth_bars(rows)
    assert ["OpenFocus DCT" in bar.text for bar in bars] == [True, True]
    assert [bar.held for bar in bars] == [False, True]


@pytest.mark.parametrize("part", ["pcb", "truth"])
def test_a_tool_that_fails_does_not_stop_the_rest(part, setting, tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.peers.Peer.version", lambda peer: "1.0")
    pcb = setting.stack(5, (64, 80), 2, 3) / "frames"
    rows = Rows(tmp_path / "part.json", resume=False)
    stacks.PARTS[part].measure(setting._replace(pcb=pcb), rows)
    assert rows.rows["enfuse"] == {
        "failed": f"{Path(sys.executable).name} ended with exit code 1: no memory left"
    }
    assert rows.rows["ours"]["seconds"] > 0
    if part == "truth":
        first = cv2.imread(str(next((setting.stack(1, (96, 128), 5, 5) / "frames").glob("001*"))))
        truth = read_truth(setting.stack(1, (96, 128), 5, 5))
        assert rows.rows["ours"]["psnr"] == truth.score(first[..., ::-1])["psnr"]
        assert rows.rows["oracle selection"]["band"] > rows.rows["ours"]["band"]


def test_memory_and_time_are_of_our_command_line(setting, tmp_path):
    stacks.PARTS["memory"].measure(setting, Rows(tmp_path / "memory.json", resume=False))
    memory = json.loads((tmp_path / "memory.json").read_text())
    free, limited = ["5 of 80×64", "5 of 96×96", "6 of 96×96"], ["5 of 80×64", "5 of 96×96"]
    more = (*(f"{name}, limited" for name in limited), "2 of 96×96, registered")
    assert list(memory) == [*free, *more]
    row = memory["6 of 96×96"]
    assert row["frame"] == row["seconds"] / 6
    assert memory["5 of 96×96, limited"]["memory"] == 250e6 + 30 * 96 * 96
    assert "- held: 5 of 96×96, limited" in stacks.report(tmp_path)


def test_memory_bars_are_on_what_is_limited():
    rows = {name: {"megabytes": m} for name, m in (("free", 900), ("less", 349), ("more", 351))}
    for name in ("less", "more"):
        rows[name]["memory"] = 350e6
    bars = stacks.memory_bars(rows)
    assert [(bar.text.split(":")[0], bar.held) for bar in bars] == [("less", True), ("more", False)]


@pytest.mark.parametrize(
    ("cost", "held"), [((6, 1200), True), ((7, 900), False), ((5, 1300), False)]
)
def test_a_large_pair_has_bars_on_time_and_memory(cost, held):
    row = dict(zip(("seconds", "megabytes"), cost, strict=True))
    (bar,) = stacks.memory_bars({"2 of 5657×4243, registered": row})
    assert bar.held is held and "of 5657×4243" in bar.text


def test_an_unknown_folder_is_named(capsys, tmp_path):
    assert stacks.main(["--photographs", str(tmp_path / "none")]) == 2
    assert "no folder" in capsys.readouterr().err


def test_the_real_stack_is_needed_for_its_own_table_alone(
    photographs, tmp_path, monkeypatch, capsys
):
    truth = stacks.PARTS["truth"]._replace(measure=lambda setting, rows: None)
    monkeypatch.setattr(stacks, "PARTS", stacks.PARTS | {"truth": truth})
    command = ["--photographs", str(photographs), "--pcb", "nowhere", "--out", str(tmp_path)]
    assert stacks.main([*command, "--only", "truth"]) == 0
    assert stacks.main([*command, "--only", "pcb"]) == 2
    assert "no folder nowhere" in capsys.readouterr().err


def test_a_pair_of_two_sizes_and_weights_that_fail_are_named(capsys, tmp_path, monkeypatch):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for side, path in zip((32, 40), paths, strict=True):
        write_png(path, texture(0, 32, side))
    assert backends.main(["--pair", *map(str, paths), "--rounds", "1"]) == 2
    assert "b.png: they differ in size or depth" in capsys.readouterr().err
    with pytest.raises(UserError, match="none.onnx"):
        backends.run(paths, tmp_path / "none.onnx")


def test_tools_that_are_absent_are_left_out_with_a_way_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sysconfig.get_path", lambda name: "")
    chosen, notes = choose_peers(["ours", "FocusWeave", "enfuse"], tools.TOOLS)
    assert [tool.name for tool in chosen] == ["ours"]
    assert len(notes) == 2 and "apt install" in notes[1]


def test_corner_errors_are_distances_of_frames_that_were_found():
    true = [np.eye(3), np.array([[1, 0, 3.0], [0, 1, 4.0], [0, 0, 1]]), np.eye(3) * (1, 1, 1)]
    true[2] = true[1]
    nothing = np.zeros((0, 0))
    made = SyntheticStack([], nothing, nothing, nothing, true)
    found = [Registration(matrix, np.ones(3)) for matrix in (np.eye(3), np.eye(3), None)]
    np.testing.assert_allclose(registration.corner_errors(found, made, (50, 60)), [5] * 4)


def test_registration_reports_mean_and_largest_error(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(registration, "CASES", {"tiny": (1, {"size": (192, 256), "layers": 2})})
    command = ["--photographs", str(photographs), "--out", str(tmp_path)]
    assert registration.main(command) == 0
    row = json.loads((tmp_path / "corners.json").read_text())["tiny"]
    assert 0 < row["mean"] <= row["largest"] and row["frames"] == 5
    assert "tiny" in (tmp_path / "README.md").read_text()


def test_a_registration_that_leaves_all_frames_out_is_said(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(registration, "CASES", {"tiny": (1, {"size": (192, 256), "layers": 2})})
    out = [Registration(None, np.ones(3), "it does not match")] * 5
    monkeypatch.setattr(registration, "register", lambda *_, **__: out)
    assert registration.main(["--photographs", str(photographs), "--out", str(tmp_path)]) == 0
    report = (tmp_path / "README.md").read_text()
    assert "every frame was left out" in report and "held" not in report


def test_a_folder_without_stacks_is_named(tmp_path, capsys):
    assert pictures.main(["--stacks", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no stacks" in capsys.readouterr().err
    write_png(tmp_path / "alone-1.png", texture(0, 20, 20))
    assert pictures.main(["--stacks", str(tmp_path)]) == 2
    assert "belongs to no stack" in capsys.readouterr().err


def test_pictures_of_deep_frames_are_drawn_and_those_of_two_sizes_refused(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(pictures, "choose_peers", lambda names: ([], []))
    frames, out = tmp_path / "frames", tmp_path / "out"
    for name, image in (("x-A", texture(0, 64, 80) * np.uint16(257)), ("x-B", texture(0, 64, 80))):
        write_png(frames / f"{name}.png", image)
    command = ["--stacks", str(frames), "--out", str(out)]
    assert pictures.main(command) == 0 and (out / "x.jpg").exists()
    write_png(frames / "x-B.png", texture(0, 40, 80))
    assert pictures.main(command) == 2
    assert "x-B.png has 80×40 pixels" in capsys.readouterr().err


def test_all_programs_of_a_picture_get_the_aligned_frames():
    image = cv2.GaussianBlur(texture(1, 160, 200), (0, 0), 1)
    shift = np.float32([[1, 0, 7], [0, 1, -4]])
    moved = cv2.warpAffine(image, shift, (200, 160), borderMode=cv2.BORDER_REFLECT)
    frames, fused = pictures.results([image, moved], [tool("first", first_frame)])
    assert [*frames, *fused] == ["frame 1", "frame 2", "ours", "first"]
    np.testing.assert_array_equal(fused["first"], frames["frame 1"])
    inner = (slice(10, -10), slice(10, -10))
    error = np.abs(frames["frame 1"][inner].astype(int) - frames["frame 2"][inner])
    assert fused["ours"].shape == fused["first"].shape and np.median(error) <= 2
