"""Files are written whole, through links and to streams, and never over what is no file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT

from utils import atomic
from utils.atomic import atomic_files, atomic_path, clear, replaceable
from utils.errors import UserError


def write(path: Path, text: str = "new") -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def test_a_link_stays_one_and_leads_to_the_new_content(tmp_path):
    (tmp_path / "disk").mkdir()
    real, link, chain = tmp_path / "disk/x.json", tmp_path / "x.json", tmp_path / "y.json"
    link.symlink_to("disk/x.json")  # to what is not there yet
    chain.symlink_to("x.json")
    for path in (link, chain, real):
        write(path, path.name)
        assert link.is_symlink() and chain.is_symlink() and not real.is_symlink()
        assert real.read_text() == path.name
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["disk", "x.json", "x.json", "y.json"]


def test_a_failure_leaves_what_a_link_leads_to(tmp_path):
    (tmp_path / "x").write_text("old")
    (tmp_path / "link").symlink_to("x")
    with pytest.raises(ValueError), atomic_path(tmp_path / "link") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert (tmp_path / "x").read_text() == "old" and len(list(tmp_path.iterdir())) == 2


def test_a_pipe_gets_the_content_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    while not read and reader.is_alive():
        try:
            write(tmp_path / "pipe")
        except UserError:  # the reader has not opened it yet
            continue
        reader.join(5)
    assert read == ["new"] and (tmp_path / "pipe").is_fifo()


def test_a_pipe_that_nobody_reads_is_no_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot write .*pipe"):
        write(tmp_path / "pipe")


def test_devices_stay_devices():
    before = os.stat("/dev/null").st_mode
    write(Path("/dev/null"))
    assert os.stat("/dev/null").st_mode == before
    with pytest.raises(UserError, match="cannot write /dev/full: No space left"):
        write(Path("/dev/full"))


@pytest.mark.parametrize("what", ["folder", "link to a folder", "socket", "ring"])
def test_what_is_no_file_is_refused_before_anything_is_made(tmp_path, what, monkeypatch):
    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
        (path / "mine").write_text("mine")
    elif what == "socket":
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x")
    else:
        path.symlink_to("x" if what == "ring" else tmp_path)
    with pytest.raises(UserError, match=f"cannot write {path}"), atomic_path(path):
        pytest.fail("it was not refused")
    with pytest.raises(UserError):
        replaceable(path)
    assert os.path.lexists(path) and (what != "folder" or (path / "mine").exists())


def test_files_together_never_replace_a_folder(tmp_path):
    (tmp_path / "b.png/mine").mkdir(parents=True)
    with pytest.raises(UserError, match=r"b\.png: it is a folder"):
        with atomic_files(tmp_path, "s") as folder:
            for name in ("a.png", "b.png"):
                (folder / name).write_text("new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["b.png", "mine"]  # nor half of them


def test_files_of_one_name_are_written_by_one_process_at_a_time(tmp_path):
    write = (
        "import sys; from utils.atomic import atomic_files\nwith atomic_files(*sys.argv[1:]): pass"
    )
    command = [sys.executable, "-c", write, str(tmp_path)]
    with atomic_files(tmp_path, "s") as folder:
        (folder / "a.png").write_text("mine")
        other = subprocess.run([*command, "s"], cwd=ROOT, capture_output=True, text=True)
        assert f"another process is writing s to {tmp_path}; wait" in other.stderr
        subprocess.run([*command, "t"], cwd=ROOT, check=True)
    assert (tmp_path / "a.png").read_text() == "mine"
    subprocess.run([*command, "s"], cwd=ROOT, check=True)


def test_an_interrupt_after_the_last_move_leaves_the_files_and_nothing_else(tmp_path, monkeypatch):
    move = atomic._move

    def stop(path: Path, to: Path) -> None:
        move(path, to)
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "_move", stop)
    with pytest.raises(KeyboardInterrupt), atomic_files(tmp_path, "s") as folder:
        (folder / "a.png").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_files_together_follow_links(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.png").symlink_to("disk/a.png")
    with atomic_files(tmp_path, "s") as folder:
        (folder / "a.png").write_text("new")
    assert (tmp_path / "a.png").is_symlink() and (tmp_path / "disk/a.png").read_text() == "new"


def test_what_a_killed_process_left_is_cleared_and_nothing_else(tmp_path):
    kept = [".hidden.png", "a.0123abcd.png", ".a.0123abcd.tar.gz", ".a.0123abcg.png", "[b].pt"]
    for name in kept:
        (tmp_path / name).touch()
    for name in ("a.png", "[b].pt", "no suffix"):
        with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / name) as temporary:
            left = temporary.with_name(temporary.name)
            raise KeyboardInterrupt
        left.touch()  # as if nobody had removed it
    clear(tmp_path, "[b]")
    assert len(list(tmp_path.iterdir())) == len(kept) + 2
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
