"""Commands as an unlucky user gives them: nothing of the user's is lost, nothing ends a batch."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, deadline
from focus_stacks import focus_stack, save_stack
from PIL import Image
from test_inference import files, noise

from fusion import batch
from fusion.pairs import name_pair
from fusion.stack_files import find_stack, find_stacks, look_into
from run_inference import main
from tests.hostile import fault_files
from tests.hostile.faults import room
from utils.errors import UserError, cli

FRAMES = focus_stack(2)


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A command that waits for ever fails."""
    with deadline(120):
        yield


@pytest.fixture
def run(tmp_path, weights, capsys) -> Callable[..., tuple[int, str]]:
    """Fuse to ``tmp_path/out`` with ``--no-align``; exit code and what was said of errors."""

    def runner(*args: object, align: bool = False, output: Path = tmp_path / "out"):
        stack = "--input" not in map(str, args)
        given = [*map(str, args), "--output", str(output), "--weights", weights]
        code = main([*given, *(["--no-align"] if stack and not align else [])])
        return code, capsys.readouterr().err

    return runner


def pair(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for seed, path in enumerate(paths):
        Image.fromarray(noise(seed=seed)).save(path)
    return paths


# What lies where a result will be


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(("Fusion.png", []), ("Record.json", []), ("Index.png", ["--maps"])),
        *(("Preview.webp", ["--preview"]), ("Steps", ["--save-steps"])),
    ],
)
def test_a_folder_of_the_users_stays(tmp_path, run, kind, options):
    save_stack(tmp_path / "s", FRAMES)
    mine = tmp_path / f"out/s-{kind}/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    code, said = run("--stack", tmp_path / "s", *options)
    assert code == 2 and f"s-{kind}" in said
    assert mine.read_text() == "mine" and files(tmp_path / "out") == [f"s-{kind}"]


def test_steps_of_an_earlier_run_are_replaced(tmp_path, run):
    save_stack(tmp_path / "s", focus_stack(3))
    assert run("--stack", tmp_path / "s", "--save-steps")[0] == 0
    (tmp_path / "s/f3.png").unlink()
    assert run("--stack", tmp_path / "s", "--save-steps")[0] == 0
    assert len(files(tmp_path / "out/s-Steps")) == 6


@pytest.mark.parametrize("options", [[], ["--maps"]])
def test_a_pair_is_not_replaced_by_its_result(tmp_path, run, options):
    kind = "Guidance" if options else "Fusion"
    one, two = pair(tmp_path / "in", f"x-{kind}.png", "x-other.png")
    before = one.read_bytes()
    code, said = run("--input", one, two, *options, output=tmp_path / "in")
    assert code == 2 and f"{one} is both a photograph and the result" in said
    assert one.read_bytes() == before and len(files(tmp_path / "in")) == 2


def test_results_of_pairs_and_of_stacks_do_not_replace_one_another(tmp_path, run):
    one, two = pair(tmp_path / "in", "x-1.png", "x-2.png")
    assert run("--input", one, two)[0] == 0
    before = (tmp_path / "out/x-Fusion.png").read_bytes()
    code, said = run("--stack", one, two)
    assert code == 2 and "x-Fusion.png exists, and no" in said
    assert (tmp_path / "out/x-Fusion.png").read_bytes() == before
    assert run("--input", one, two)[0] == 0  # a pair's own result is
    for _ in range(2):  # and a stack's
        assert run("--stack", one, two, output=tmp_path / "stacks")[0] == 0
    code, said = run("--input", one, two, output=tmp_path / "stacks")
    assert code == 2 and "x-Record.json" in said


def test_another_stack_of_the_same_name_does_not_replace_the_first(tmp_path, run):
    first, second = save_stack(tmp_path / "s", FRAMES, "IMG_{}.png"), tmp_path / "s"
    assert run("--stack", second)[0] == 0
    before = (tmp_path / "out/s-Fusion.png").read_bytes()
    first[0].unlink()
    assert run("--stack", *save_stack(second, FRAMES, "IMG_{}.png"))[0] == 0  # to a name of its own
    for path in first:
        path.unlink(missing_ok=True)
    save_stack(second, focus_stack(2, seed=1), "DSC_{}.png")
    code, said = run("--stack", second)
    assert code == 2 and "s-Fusion is of other files, IMG_1.png" in said
    assert (tmp_path / "out/s-Fusion.png").read_bytes() == before


def test_another_stack_whose_frames_have_the_same_names_does_not_either(tmp_path, run):
    first, second = tmp_path / "first/s", tmp_path / "second/s"
    save_stack(first, FRAMES)
    assert run("--stack", first)[0] == 0
    before = (tmp_path / "out/s-Fusion.png").read_bytes()
    save_stack(second, focus_stack(2, seed=1))
    code, said = run("--stack", second)
    assert code == 2 and f"s-Fusion is of other files, {first / 'f1.png'} …" in said
    assert (tmp_path / "out/s-Fusion.png").read_bytes() == before
    save_stack(first, focus_stack(2, seed=2))  # taken again
    assert run("--stack", first)[0] == 0
    shutil.copytree(first, tmp_path / "third/s")  # or in another place
    assert run("--stack", tmp_path / "third/s")[0] == 0


def test_maps_do_not_replace_a_file_that_no_stack_gave(tmp_path, run):
    save_stack(tmp_path / "s", FRAMES)
    (mine := tmp_path / "out/s-Depth.png").parent.mkdir()
    mine.write_bytes(b"mine")
    code, said = run("--stack", tmp_path / "s", "--maps")
    assert code == 2 and "s-Depth.png exists, and no" in said
    assert mine.read_bytes() == b"mine" and files(tmp_path / "out") == ["s-Depth.png"]


def test_a_stack_that_was_killed_between_two_files_is_fused_again(tmp_path, run):
    save_stack(tmp_path / "s", FRAMES)
    (tmp_path / "out/.s.partial").mkdir(parents=True)
    (tmp_path / "out/s-Fusion.png").write_bytes(b"from the killed run")
    assert run("--stack", tmp_path / "s")[0] == 0
    assert files(tmp_path / "out") == ["s-Fusion.png", "s-Record.json"]


@pytest.mark.parametrize("what", ["photograph", "link", "new.jpg", "notes.json", "folder", "model"])
def test_a_report_replaces_nothing_but_a_report(tmp_path, run, what):
    one, _ = save_stack(tmp_path / "s", FRAMES)
    given = {"photograph": one, "folder": tmp_path / "s", "link": tmp_path / "link.json"}
    given["link"].symlink_to(one)
    (tmp_path / "notes.json").write_text("my notes")
    (tmp_path / "model").write_bytes(b"\x08weights")
    path = given.get(what, tmp_path / what)
    before = path.read_bytes() if path.is_file() else None
    code, said = run("--stack", tmp_path / "s", "--json", path)
    assert code == 2 and str(path) in said
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not files(tmp_path / "out")  # refused before anything is computed


def test_a_report_goes_through_links_and_to_devices(tmp_path, run):
    save_stack(tmp_path / "s", FRAMES)
    (tmp_path / "disk").mkdir()
    (tmp_path / "r.json").symlink_to("disk/r.json")
    for _ in range(2):  # the second replaces a report
        assert run("--stack", tmp_path / "s", "--json", tmp_path / "r.json")[0] == 0
    assert (tmp_path / "r.json").is_symlink()
    assert json.loads((tmp_path / "disk/r.json").read_text())["errors"] == []
    assert run("--stack", tmp_path / "s", "--json", "/dev/null")[0] == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    code, said = run("--stack", tmp_path / "s", "--json", "/dev/full")
    assert code == 2 and "/dev/full: No space left" in said


@pytest.mark.parametrize("format", ["png", "tiff", "jpg", "webp"])
@pytest.mark.parametrize(("kind", "options"), [("--stack", ["--save-steps"]), ("--input", [])])
def test_a_full_disk_ends_with_a_sentence(tmp_path, run, kind, options, format):
    one, two = pair(tmp_path / "in", "x-1.png", "x-2.png")
    with room(200):
        code, said = run(kind, one, two, *options, "--format", format)
    assert code == 2 and f"error: cannot write {tmp_path / 'out'}" in said
    assert ".partial" not in said
    assert not files(tmp_path / "out")


# Batches


def write_bad(folder: Path, what: str) -> None:
    """A stack that cannot be fused."""
    save_stack(folder, FRAMES[:1])
    if what == "pipe":
        os.mkfifo(folder / "f2.png")
    elif what == "pipe beside":
        os.mkfifo(folder.with_suffix(".tif"))
    elif what == "nowhere":
        (folder / "f2.png").symlink_to("/nowhere")
    elif what == "link beside":
        folder.with_suffix(".tif").symlink_to("/nowhere")
    else:
        (folder / what).write_bytes((fault_files.lying() | {"x.gif": b"GIF89a"})[what])


@pytest.mark.parametrize(
    "what",
    [
        *("no-palette.png", "x.gif", "codec-34712.tif", "no-tags.tif", "half.png"),
        *("pipe", "pipe beside", "nowhere", "link beside"),
    ],
)
def test_a_bad_stack_is_named_and_the_rest_fused(tmp_path, run, what):
    for name in ("a", "c"):
        save_stack(tmp_path / "in" / name, FRAMES)
    write_bad(tmp_path / "in/b", what)
    code, said = run("--batch", tmp_path / "in", "--json", tmp_path / "r.json")
    assert code == 2 and str(tmp_path / "in/b") in said
    assert {"a-Fusion.png", "c-Fusion.png"} <= set(files(tmp_path / "out"))
    report = json.loads((tmp_path / "r.json").read_text())
    assert [done["name"] for done in report["stacks"]] == ["a", "c"] and report["errors"]


@pytest.mark.parametrize(("step", "flags"), [("fuse_stack", []), ("plan", ["--dry-run"])])
def test_what_a_library_raises_does_not_end_a_batch(tmp_path, run, monkeypatch, step, flags):
    for name in ("a", "b", "c"):
        save_stack(tmp_path / "in" / name, FRAMES)
    work = getattr(batch, step)

    def broken(cascade, source, *args, **options):
        assert source.name != "b", "deep in a library"
        return work(cascade, source, *args, **options)

    monkeypatch.setattr(batch, step, broken)
    report = tmp_path / "r.json"
    code, said = run("--batch", tmp_path / "in", "--json", report, *flags)
    assert code == 2 and "in/b: AssertionError deep in a library" in said
    done = json.loads(report.read_text())["planned" if flags else "stacks"]
    assert [stack["name"] for stack in done] == ["a", "c"]
    if not flags:
        assert {"a-Fusion.png", "c-Fusion.png"} <= set(files(tmp_path / "out"))


def test_whatever_fails_both_photographs_of_a_pair_are_named(tmp_path, run, monkeypatch):
    photographs = pair(tmp_path / "in", "a-1.png", "a-2.png", "b-1.png", "b-2.png")

    def broken(*args, **options):
        raise AssertionError("deep in a library")

    monkeypatch.setattr(batch, "fuse_stack", broken)
    assert run("--input", tmp_path / "in", "--json", tmp_path / "r.json")[0] == 2
    errors = json.loads((tmp_path / "r.json").read_text())["errors"]
    assert [error["files"] for error in errors] == [
        [str(path) for path in photographs[:2]],
        [str(path) for path in photographs[2:]],
    ]


def test_names_that_are_no_utf8(tmp_path, run, capsys):
    for name in ("a", "\udcff", "z"):
        save_stack(tmp_path / "in" / name, FRAMES)
    report = ["--json", tmp_path / "r.json"]
    assert run("--batch", tmp_path / "in", *report)[0] == 0
    names = [done["name"] for done in json.loads((tmp_path / "r.json").read_text())["stacks"]]
    assert sorted(names) == ["a", "z", "\udcff"]
    main(
        [
            "--batch",
            str(tmp_path / "in"),
            "--output",
            str(tmp_path / "out"),
            "--resume",
            "--dry-run",
        ]
    )
    capsys.readouterr()
    record = tmp_path / "out/\udcff-Record.json"
    before = record.stat().st_mtime_ns
    assert run("--batch", tmp_path / "in", "--resume")[0] == 0
    assert record.stat().st_mtime_ns == before  # passed over


def start(tmp_path: Path, **environment: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "run_inference.py"), "--batch", str(tmp_path / "in")]
    command += ["--output", str(tmp_path / "out"), "--no-align"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def test_a_reader_that_leaves_does_not_end_a_batch(tmp_path):
    names = [f"s{i}" for i in range(4)]
    for name in names:
        save_stack(tmp_path / "in" / name, FRAMES)
    with start(tmp_path, PYTHONUNBUFFERED="1") as process:  # like a terminal's: a line at a time
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read().decode()
    assert process.returncode == 0 and "Traceback" not in error and "Exception" not in error
    assert [name for name in files(tmp_path / "out") if "Fusion" in name] == [
        f"{name}-Fusion.png" for name in names
    ]


def test_a_terminal_of_ascii_letters(tmp_path):
    save_stack(tmp_path / "in/übung", FRAMES)
    with start(tmp_path, PYTHONIOENCODING="ascii") as process:
        out, error = process.communicate()
    assert process.returncode == 0 and b"Traceback" not in error
    assert rb"\xfcbung-Fusion.png" in out and rb"96\xd772" in out


# What is said


def test_a_registration_that_fails_names_the_way_out(tmp_path, run):
    save_stack(tmp_path / "s", [noise(64, 64, seed=seed) for seed in range(2)])
    code, said = run("--stack", tmp_path / "s", align=True)
    assert code == 2 and "--no-align" in said


def test_frames_that_are_passed_over_are_named(tmp_path, run):
    save_stack(tmp_path / "s", FRAMES)
    (tmp_path / "s/f0.png").symlink_to("/nowhere")
    (tmp_path / "s/f3.gif").write_bytes(b"GIF89a")
    (tmp_path / "s/notes.txt").write_text("no photograph")
    code, said = run("--stack", tmp_path / "s", "--json", tmp_path / "r.json")
    assert code == 2 and "f0.png: No such file" in said and ".gif are not read" in said
    (stack,) = json.loads((tmp_path / "r.json").read_text())["stacks"]
    assert len(stack["frames"]) == 2 and len(stack["unread"]) == 2
    with pytest.raises(UserError, match="not read|No such file"):
        look_into(find_stack([tmp_path / "s"]), strict=True)


def test_a_folder_of_other_pictures_is_no_stack(tmp_path):
    save_stack(tmp_path / "s", FRAMES)
    (tmp_path / "icons").mkdir()
    (tmp_path / "icons/x.gif").write_bytes(b"GIF89a")
    stacks, problems = find_stacks(tmp_path)
    assert [stack.name for stack in stacks] == ["s"] and not problems


@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "./"])
def test_a_photograph_given_twice_is_refused(tmp_path, link):
    (one,) = pair(tmp_path, "x.png")
    two = tmp_path / "y.png"
    if link == "symbolic":
        two.symlink_to(one)
    elif link == "hard":
        os.link(one, two)
    else:
        two = one if link == "same" else Path(f"{tmp_path}/../{tmp_path.name}/x.png")
    for find in (lambda: name_pair(one, two), lambda: find_stack([one, two])):
        with pytest.raises(UserError, match="given twice"):
            find()


def test_a_pair_named_by_its_marks_alone_gets_the_folders_name(tmp_path, run):
    pair(tmp_path / "shelf", "A.png", "B.png")
    assert run("--input", tmp_path / "shelf", "--maps")[0] == 0
    kinds = ("Boundary", "Confidence", "Depth", "Fusion", "Guidance", "Index")
    assert files(tmp_path / "out") == [f"shelf-{kind}.png" for kind in kinds]


# Values


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--device", name) for name in ("mps", "vulkan", "xla", "meta", "cpu:7", "cuda:-1", "")),
        *(
            ("--batch", ""),
            ("--json", ""),
            ("--output", ""),
            ("--weights", ""),
            ("--memory", "9" * 400),
        ),
    ],
)
def test_values_are_checked_where_they_enter(tmp_path, weights, capsys, option, value):
    save_stack(tmp_path / "s", FRAMES)
    given = [] if option == "--batch" else ["--stack", str(tmp_path / "s")]
    given += [] if option == "--output" else ["--output", str(tmp_path / "out")]
    given += [] if option == "--weights" else ["--weights", weights]
    try:
        code = main([*given, f"{option}={value}"])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and ("is empty" in said or option in said or "there is no device" in said)
    assert not files(tmp_path / "out")


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_a_pipe_is_no_weights(tmp_path, run, capsys, suffix):
    save_stack(tmp_path / "s", FRAMES)
    os.mkfifo(tmp_path / f"w.{suffix}")
    given = ["--stack", str(tmp_path / "s"), "--output", str(tmp_path / "out")]
    assert main([*given, "--weights", str(tmp_path / f"w.{suffix}")]) == 2
    assert "is no regular file" in capsys.readouterr().err


# How a script ends


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x.png"),
            2,
            "cannot write x.png: No space",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "cannot write a file: Disk quota"),
        (MemoryError(), 2, "not enough memory"),
        (BrokenPipeError(), 141, ""),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_ends_a_script(capsys, error, code, said):
    @cli
    def script() -> None:
        raise error

    assert script() == code
    assert said in capsys.readouterr().err


def test_mistakes_of_ours_are_not_hidden():
    @cli
    def script() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        script()


def test_plain_numbers_of_a_pgm_beyond_its_white_are_white(tmp_path):
    (tmp_path / "x.pgm").write_bytes(b"P2 2 1 1023\n1023 99999\n")
    from utils.images import read_photo

    np.testing.assert_array_equal(read_photo(tmp_path / "x.pgm").rgb[0, :, 0], [65535, 65535])
