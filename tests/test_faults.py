"""The fault table: a part of it runs, and it would tell."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile import faults
from tests.hostile.fault_cases import Case, cases, frames

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory by Linux's /proc")


def test_the_table_is_large_and_each_case_has_another_name():
    found = cases()
    assert len(found) >= 600
    names = Counter((case.group, case.name) for case in found)
    assert max(names.values()) == 1
    assert len({case.group for case in found}) >= 10


def test_a_part_of_the_table_is_right(capfd):
    assert faults.main(["--every", "29"]) == 0, capfd.readouterr().err
    table = capfd.readouterr().out
    assert "| names |" in table and "| all |" in table


def judged(tmp_path: Path, monkeypatch, script, **about) -> faults.Outcome:
    """What the table says of a script that does this."""
    module = type("script", (), {"main": staticmethod(script)})
    monkeypatch.setattr(faults.importlib, "import_module", lambda name: module)

    def lay_out(folder: Path) -> list[str]:
        frames(folder)
        (folder / "out").mkdir()
        return [str(folder)]

    return faults.run(Case("group", "name", lay_out, **about), tmp_path)


def test_faults_are_seen(tmp_path, monkeypatch):
    def broken(argv: list[str]) -> int:
        raise ValueError("deep inside")

    def harmful(argv: list[str]) -> int:
        Path(argv[0], "s/f0.png").write_bytes(b"")
        print("error: x", file=sys.stderr)
        return 2

    def half(argv: list[str]) -> int:
        Path(argv[0], "out/x.png").write_bytes(b"\x89PNG")
        print("error: x", file=sys.stderr)
        return 2

    def leaves(argv: list[str]) -> int:
        Path(argv[0], "out/.x.tmp").write_bytes(b"")
        print("error: x", file=sys.stderr)
        return 2

    def silent(argv: list[str]) -> int:
        return 2

    def good(argv: list[str]) -> int:
        print("error: x", file=sys.stderr)
        return 2

    expected = {broken: "deep inside", harmful: "is changed", half: "half-written"}
    expected |= {leaves: "is left behind", silent: "no error is named"}
    for number, (script, said) in enumerate(expected.items()):
        home = tmp_path / str(number)
        home.mkdir()
        assert said in judged(home, monkeypatch, script).fault()
    (tmp_path / "good").mkdir()
    assert not judged(tmp_path / "good", monkeypatch, good).fault()
    (tmp_path / "zero").mkdir()
    assert "exit code 2, not 0" in judged(tmp_path / "zero", monkeypatch, good, codes=(0,)).fault()


def test_a_hang_is_seen_and_the_next_case_runs(monkeypatch):
    def hang(connection, chosen) -> None:
        number = connection.recv()
        if number == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        connection.send(faults.Outcome(code=2))

    monkeypatch.setattr(faults, "work", hang)
    monkeypatch.setattr(faults, "SECONDS", 0.5)
    context = faults.multiprocessing.get_context("fork")
    monkeypatch.setattr(faults.multiprocessing, "get_context", lambda kind: context)
    found = cases()[:2]
    monkeypatch.setattr(faults, "choose", lambda groups: found)
    outcomes = [outcome for _, outcome in faults.measure()]
    assert outcomes[0].wrong == "it hangs" and not outcomes[1].fault()
