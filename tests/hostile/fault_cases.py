"""The cases of ``tests.hostile.faults``: what a user did, and the exit code to expect.

A case lays out files in a folder of its own and gives a command line. Stacks are of two frames, so
that one that cannot be read ends them; of a batch the others are fused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.hostile import fault_files as files

WRONG = (2,)
RIGHT = (0,)
EITHER = (0, 2)  # damaged bytes may still be a picture
NO_ALIGN = "--no-align"
CONFIG = "configs/smoke.yaml"


class Case(NamedTuple):
    """One thing that goes wrong.

    Attributes:
        group, name: of the table.
        lay_out: writes files to a folder and returns the command line.
        codes: exit codes that are right.
        script: whose ``main`` takes the command line.
        room: bytes that a file may have; None for a disk with room.
        changed: file that the command may replace, by its name.
        expected: files that it has to leave, below the case's folder.
    """

    group: str
    name: str
    lay_out: Callable[[Path], list[str]]
    codes: tuple[int, ...] = WRONG
    script: str = "run_inference"
    room: int | None = None
    changed: str | None = None
    expected: tuple[str, ...] = ()


def cases() -> list[Case]:
    """All, always the same."""
    groups = (cut, damaged, lying, unfit, places, batches, names, options, targets, full, configs)
    return [case for group in groups for case in group()]


def stack(folder: Path, name: str = "s", *extra: str) -> list[str]:
    """The command line for the stack of a folder."""
    return ["--stack", str(folder / name), "--output", str(folder / "out"), NO_ALIGN, *extra]


def frames(folder: Path, name: str = "s", count: int = 2) -> Path:
    """A folder of good frames."""
    (folder / name).mkdir(parents=True)
    for number in range(count):
        data = files.by_pillow("PNG", files.photograph(number))
        (folder / name / f"f{number}.png").write_bytes(data)
    return folder / name


def with_file(data: bytes, name: str, folder: Path, extra: tuple[str, ...] = ()) -> list[str]:
    """A stack of a good frame and this file."""
    path = frames(folder, count=1) / f"x-{name}"
    path.write_bytes(data)
    return stack(folder, "s", *extra)


def cut() -> Iterator[Case]:
    for name, data in files.good().items():
        for number, part in enumerate(files.cut(data, 8)):
            yield Case("files cut short", f"{name} {number}", partial(with_file, part, name))


def damaged() -> Iterator[Case]:
    for seed, (name, data) in enumerate(files.good().items()):
        for number, part in enumerate(files.damaged(data, 8, seed)):
            lay_out = partial(with_file, part, name)
            yield Case("bytes damaged", f"{name} {number}", lay_out, EITHER)


def lying() -> Iterator[Case]:
    for group, found, codes in (
        ("claims of size", files.lying(), WRONG),
        ("floods", files.flooding(), WRONG),
        ("pages in a ring", files.loops(), EITHER),
    ):
        for name, data in found.items():
            yield Case(group, name, partial(with_file, data, name), codes)
            strict = partial(with_file, data, name, extra=("--strict", "--dry-run"))
            yield Case(group, f"{name} dry", strict, EITHER)


def unfit() -> Iterator[Case]:
    for name, make in files.UNFIT.items():
        yield Case("no photographs", name, partial(with_file, make(), name))
        strict = partial(with_file, make(), name, extra=("--strict",))
        yield Case("no photographs", f"{name} strict", strict)


def places() -> Iterator[Case]:
    """What lies where a photograph should, and is no regular file."""

    def put(what: str, name: str, folder: Path, command: str) -> list[str]:
        path = frames(folder, count=1) / name
        make_special(path, what)
        given = {
            "folder": [str(folder / "s")],
            "files": [str(folder / "s/f0.png"), str(path)],
            "alone": [str(path)],
        }[command]
        return ["--stack", *given, "--output", str(folder / "out"), NO_ALIGN]

    for what in ("pipe", "socket", "folder", "nowhere", "ring", "zero", "null"):
        for name in ("x.png", "x.tif", "x.dng", "x.heic"):
            for command in ("folder", "files", "alone"):
                lay_out = partial(_swapped, put, what, name, command)
                yield Case("no regular files", f"{what} {name} {command}", lay_out)


def _swapped(put: Callable, what: str, name: str, command: str, folder: Path) -> list[str]:
    return put(what, name, folder, command)


def make_special(path: Path, what: str) -> None:
    """A named pipe, socket, folder, or a link to nowhere, itself or a device."""
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the names of sockets are short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
        os.chdir(here)
    elif what == "folder":
        path.mkdir()
    else:
        leads = {"nowhere": "/nowhere/at/all", "ring": str(path)}
        path.symlink_to(leads.get(what, f"/dev/{what}"))


def batches() -> Iterator[Case]:
    """A batch with a bad stack before, between or after good ones, which are fused."""

    def lay_out(bad: str, write: Callable[[Path], None], folder: Path) -> list[str]:
        for name in ("good1", "good2"):
            frames(folder, f"b/{name}")
        write(folder / "b" / bad)
        return ["--batch", str(folder / "b"), "--output", str(folder / "out"), NO_ALIGN]

    def stack_of(data: bytes, name: str, path: Path) -> None:
        frames(path.parent, path.name, 1)
        (path / f"x-{name}").write_bytes(data)

    good = ("out/good1-Fusion.png", "out/good2-Fusion.png", "out/good1-Record.json")
    bad = {name: make() for name, make in files.UNFIT.items()} | files.lying()
    for number, (name, data) in enumerate(bad.items()):
        where = ("a", "good1b", "z")[number % 3]
        make = partial(lay_out, where, partial(stack_of, data, name))
        yield Case("batches", name, make, expected=good)
    for what in ("pipe", "socket", "nowhere", "ring", "zero"):
        make = partial(lay_out, "x.tif", partial(_special, what))
        yield Case("batches", what, make, WRONG if what != "null" else EITHER, expected=good)


def _special(what: str, path: Path) -> None:
    make_special(path, what)


NAMES = (
    *(
        "two words",
        " before",
        "tab\tin",
        "line\nin",
        "-dash",
        "--output",
        "ünï",
        "日本",
        "🦋",
        "e\u0301",
    ),
    *(
        "\u202eright",
        "$(exit)",
        "`x`",
        "%s%d",
        "{0}",
        "a'b",
        'a"b',
        "a\\b",
        "<b>x",
        "~",
        "CON",
        "a*",
    ),
    *(
        "x-Fusion-2",
        "x...x",
        "x.",
        "s-A",
        "0",
        "9" * 40,
        "a" * 200,
        "n" * 240,
        "\udcff\udcfe",
        "\x7f",
    ),
)


def names() -> Iterator[Case]:
    for name in NAMES:
        code = WRONG if len(name) > 230 else RIGHT  # no room is left for "-Fusion.png"

        def folder_of(folder: Path, name: str = name) -> list[str]:
            frames(folder, f"in/{name}")
            return ["--batch", f"{folder}/in", "--output", f"{folder}/out", NO_ALIGN]

        def files_of(folder: Path, name: str = name) -> list[str]:
            (folder / "in").mkdir()
            for number, data in enumerate((files.by_pillow("PNG"), files.by_pillow("BMP"))):
                path = folder / "in" / f"{name}_{number}.{('png', 'bmp')[number]}"
                path.write_bytes(data)
            report = ["--json", f"{folder}/report.json"]
            return ["--stack", f"{folder}/in", "--output", f"{folder}/out", NO_ALIGN, *report]

        yield Case("names", f"folder {name[:20]!r}", folder_of, code)
        yield Case("names", f"files {name[:20]!r}", files_of, RIGHT)


VALUES = {
    "--device": (
        "",
        "gpu",
        "mps",
        "vulkan",
        "xla",
        "meta",
        "cuda:99",
        "cuda:-1",
        "cpu:7",
        "0",
        "CPU",
    ),
    "--memory": ("", "2T", "nan", "inf", "-1", "0x10", "1e9", "9" * 400, "1..2", "2 G", "1", "1K"),
    "--json": (
        "",
        ".",
        "{s}/f0.png",
        "{s}",
        "{s}/f0.png/x.json",
        "/proc/nothing/x.json",
        "/dev/full",
    ),
    "--output": ("", "{s}/f0.png", "{s}/f0.png/x", "/proc/x", "/dev/null"),
    "--weights": (
        *(
            "",
            "{s}",
            "{s}/f0.png",
            "/nowhere.onnx",
            "/nowhere.safetensors",
            "/dev/zero",
            "{s}/x.pt",
        ),
        *("{pipe}.onnx", "{pipe}.safetensors", "{empty}.onnx", "{empty}.safetensors"),
        *("{text}.onnx", "{text}.safetensors", "{half}.onnx", "{half}.safetensors"),
    ),
    "--stack": ("", "/nowhere", "{s}/f0.png", "{s}/../none.tif"),
    "--batch": ("", "/nowhere", "{s}", "{s}/f0.png", "/dev/null"),
    "--input": ("", "/nowhere", "{s}/f0.png", "/dev/null"),
    "--order": ("", "size", "time"),
    "--motion": ("", "none", "perspective?"),
    "--format": ("", "gif", "PNG", "jpeg2000"),
    "--backend": ("", "jax", "tensorflow"),
    "--tile": ("1", "-1", "x", ""),
    "--config": ("", "/nowhere.yaml", "{s}/f0.png"),
    "--unknown": ("1",),
}
SOURCES = ("--stack", "--batch", "--input")


def options() -> Iterator[Case]:
    """One value of an option that cannot be."""
    root = Path(__file__).parents[2]

    def lay_out(option: str, value: str, folder: Path) -> list[str]:
        path = frames(folder)
        os.mkfifo(folder / "pipe.onnx")
        os.mkfifo(folder / "pipe.safetensors")
        for kind in ("onnx", "safetensors"):
            whole = (root / f"weights/mmfnet.{kind}").read_bytes()
            (folder / f"empty.{kind}").write_bytes(b"")
            (folder / f"text.{kind}").write_bytes(b"no weights at all" * 99)
            (folder / f"half.{kind}").write_bytes(whole[: len(whole) // 2])
        places = {name: str(folder / name) for name in ("pipe", "empty", "text", "half")}
        value = value.format(s=path, **places)
        argv = [] if option in SOURCES else ["--stack", str(path), NO_ALIGN]
        argv += [] if option == "--output" else ["--output", str(folder / "out")]
        return [*argv, f"{option}={value}"]

    for option, values in VALUES.items():
        for value in values:
            lay = partial(lay_out, option, value)
            yield Case("options", f"{option} {value[:30]!r}", lay)


def targets() -> Iterator[Case]:
    """Something is where a result will be."""

    def source_is_result(format: str, folder: Path) -> list[str]:
        path = frames(folder)
        (path / "f1.png").rename(path / f"f-Fusion.{format}")
        given = [str(path / "f0.png"), str(path / f"f-Fusion.{format}")]
        return ["--stack", *given, "--output", str(path), NO_ALIGN]

    def folder_is_result(kind: str, extra: str, folder: Path) -> list[str]:
        frames(folder)
        (folder / f"out/s-{kind}/mine").mkdir(parents=True)
        (folder / f"out/s-{kind}/mine/keep.txt").write_text("mine")
        return stack(folder, "s", *([extra] if extra else []))

    def pair_is_there(folder: Path) -> list[str]:
        frames(folder)
        (folder / "out").mkdir()
        (folder / "out/s-Fusion.png").write_bytes(files.by_pillow("PNG"))
        return stack(folder)

    def report_is(what: str, folder: Path) -> list[str]:
        path = frames(folder)
        (folder / "notes.json").write_text("not a report")
        (folder / "link.json").symlink_to(path / "f0.png")
        (folder / "data").write_bytes(b"weights")
        given = {"photograph": path / "f1.png", "folder": path, "other.png": folder / "new.png"}
        given |= {"notes": folder / "notes.json", "link": folder / "link.json"}
        return stack(folder, "s", "--json", str(given.get(what, folder / what)))

    def linked(folder: Path) -> list[str]:
        frames(folder)
        (folder / "out").mkdir()
        (folder / "disk").mkdir()
        (folder / "report.json").symlink_to(folder / "disk/report.json")
        return stack(folder, "s", "--json", str(folder / "report.json"))

    for format in ("png", "tif", "jpg"):
        code = WRONG if format == "png" else EITHER
        yield Case("targets", f"a source, {format}", partial(source_is_result, format), code)
    for kind, extra in (
        *(
            ("Fusion.png", ""),
            ("Record.json", ""),
            ("Index.png", "--maps"),
            ("Steps", "--save-steps"),
        ),
        *(("Depth.png", "--maps"), ("Confidence.png", "--maps"), ("Preview.webp", "--preview")),
    ):
        yield Case("targets", f"a folder, {kind}", partial(folder_is_result, kind, extra))
    yield Case("targets", "a pair's result", pair_is_there)
    for what in ("photograph", "folder", "other.png", "notes", "link", "data"):
        yield Case("targets", f"--json {what}", partial(report_is, what))
    yield Case("targets", "--json through a link", linked, RIGHT, expected=("disk/report.json",))
    for stream in ("/dev/null", "/dev/stdout"):
        lay = partial(report_is, stream)
        yield Case("targets", f"--json {stream}", lay, RIGHT)


def full() -> Iterator[Case]:
    """The disk is full after so many bytes of a file."""

    def lay_out(extra: list[str], folder: Path) -> list[str]:
        frames(folder)
        return stack(folder, "s", *extra)

    for room in (0, 1, 100, 1000):
        for extra in (
            *([], ["--format=tiff"], ["--format=jpg"], ["--format=webp"], ["--maps"]),
            *(["--preview"], ["--save-steps"]),
        ):
            name = f"{room} bytes {' '.join(extra)}"
            yield Case("full disk", name, partial(lay_out, extra), room=room)


BAD = ("nan", "inf", "-1", "x", "[]", "null", "{a: 1}", "''", "1e400")
CHECKED = {
    "seed": BAD,
    "train.steps": (*BAD, "0", "2.5"),
    "train.batch": (*BAD, "0"),
    "train.lr": (*BAD, "0"),
    "train.weight_decay": BAD,
    "train.clip": BAD,
    "train.ema": (*BAD, "1", "2"),
    "train.loss": ("l2", "''"),
    "train.schedule": ("step", "''"),
    "train.amp": ("fp8", "fp16", "on"),
    "train.log_every": ("0", "-1"),
    "train.save_every": ("0", "-1"),
    "data.workers": (*BAD, "1.5"),
    "data.defocus.size": (*BAD, "0", "1"),
    "data.defocus.psfs": ("[]", "[blur]", "disk"),
    "data.defocus.sigma": ("[]", "[nan, 1]", "[-1, 1]", "[0, 1]"),
    "data.defocus.linear_light": ("2", "-0.1", "nan"),
    "data.defocus.noise.probability": ("2", "-1", "nan"),
    "validation.fraction": ("2", "-1", "nan"),
    "validation.samples": ("0", "-5"),
    "validation.seed": ("-1", "nan"),
    "device": ("mps", "meta", "vulkan", "''", "cuda:99"),
    "model.initial.name": ("Net", "''"),
    "model.initial.args.widths": ("[]", "[0]", "[nan]", "[-4, 6]"),
    "nothing": ("1",),
}


def configs() -> Iterator[Case]:
    root = Path(__file__).parents[2]
    empty = "data.photographs="  # ends what passes the checks: there are no photographs

    def lay_out(key: str, value: str, folder: Path) -> list[str]:
        run = f"run={folder / 'run'}"
        return [str(root / CONFIG), run, f"{empty}{folder}", f"{key}={value}"]

    for key, values in CHECKED.items():
        for value in values:
            yield Case("configs", f"{key}={value}", partial(lay_out, key, value), script="main")
