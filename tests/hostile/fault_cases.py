"""The cases of ``tests.hostile.faults``: what a user did, and the exit code to expect.

A case lays out files in a folder of its own and gives a command line. Stacks have two frames, so
that an unreadable one leaves nothing to fuse; a batch fuses its other stacks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.commands import ROOT
from tests.hostile import fault_files as files

WRONG = (2,)
RIGHT = (0,)
EITHER = (0, 2)  # damaged bytes may still be a picture
NO_ALIGN = "--no-align"


class Case(NamedTuple):
    """One thing that goes wrong.

    Attributes:
        group, name: of the table.
        lay_out: writes files to a folder and returns the command line.
        codes: exit codes that are right.
        script: whose ``main`` takes the command line.
        room: largest size of a file in bytes; None for a disk with room.
        expected: files that the command has to write, relative to the case's folder.
    """

    group: str
    name: str
    lay_out: Callable[[Path], list[str]]
    codes: tuple[int, ...] = WRONG
    script: str = "run_inference"
    room: int | None = None
    expected: tuple[str, ...] = ()


def cases() -> list[Case]:
    """All cases, always the same."""
    groups = (broken, oversized, unfit, places, batches, names, options, targets, full, configs)
    return [case for group in groups for case in group()]


def frames(folder: Path, name: str = "s", count: int = 2) -> Path:
    """A folder of good frames."""
    (folder / name).mkdir(parents=True)
    for number in range(count):
        data = files.by_pillow("PNG", files.photograph(number))
        (folder / name / f"f{number}.png").write_bytes(data)
    return folder / name


def good(folder: Path, *extra: str) -> list[str]:
    """Fuse a stack of good frames."""
    return fuse(folder, ["--stack", str(frames(folder))], *extra)


def fuse(folder: Path, source: list[str], *extra: str) -> list[str]:
    """Fuse into ``folder/out``."""
    return [*source, "--output", str(folder / "out"), NO_ALIGN, *extra]


def with_file(data: bytes, name: str, *extra: str) -> Callable[[Path], list[str]]:
    """A stack of a good frame and this file."""

    def lay_out(folder: Path) -> list[str]:
        stack = frames(folder, count=1)
        (stack / f"x-{name}").write_bytes(data)
        return fuse(folder, ["--stack", str(stack)], *extra)

    return lay_out


def broken() -> Iterator[Case]:
    for name, data in files.good().items():
        for number, part in enumerate(files.cut(data, 8)):
            yield Case("files cut short", f"{name} {number}", with_file(part, name))
    for seed, (name, data) in enumerate(files.good().items()):
        for number, part in enumerate(files.damaged(data, 8, seed)):
            yield Case("bytes damaged", f"{name} {number}", with_file(part, name), EITHER)


def oversized() -> Iterator[Case]:
    for group, found, codes in (
        ("claims of size", files.lying(), WRONG),
        ("floods", files.flooding(), WRONG),
        ("pages in a ring", files.loops(), EITHER),
    ):
        for name, data in found.items():
            yield Case(group, name, with_file(data, name), codes)
            strict = with_file(data, name, "--strict", "--dry-run")
            yield Case(group, f"{name} dry", strict, EITHER)


def unfit() -> Iterator[Case]:
    for name, data in files.unfit().items():
        yield Case("no photographs", name, with_file(data, name))
        yield Case("no photographs", f"{name} strict", with_file(data, name, "--strict"))


def places() -> Iterator[Case]:
    """A photograph's name belongs to something that is no regular file."""

    def lay_out(what: str, name: str, command: str, folder: Path) -> list[str]:
        stack = frames(folder, count=1)
        make_special(what, stack / name)
        given = {
            "folder": [stack],
            "files": [stack / "f0.png", stack / name],
            "alone": [stack / name],
        }
        return fuse(folder, ["--stack", *map(str, given[command])])

    for what in ("pipe", "socket", "folder", "nowhere", "ring", "zero", "null"):
        for name in ("x.png", "x.tif", "x.dng", "x.heic"):
            for command in ("folder", "files", "alone"):
                make = partial(lay_out, what, name, command)
                yield Case("no regular files", f"{what} {name} {command}", make)


def make_special(what: str, path: Path) -> None:
    """A named pipe, socket, folder, or a link to nowhere, itself or a device."""
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o755)
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
        return fuse(folder, ["--batch", str(folder / "b")])

    def stack_of(data: bytes, name: str, path: Path) -> None:
        frames(path.parent, path.name, 1)
        (path / f"x-{name}").write_bytes(data)

    expected = ("out/good1-Fusion.png", "out/good2-Fusion.png", "out/good1-Record.json")
    bad = files.unfit() | files.lying()
    for number, (name, data) in enumerate(bad.items()):
        where = ("a", "good1b", "z")[number % 3]
        make = partial(lay_out, where, partial(stack_of, data, name))
        yield Case("batches", name, make, expected=expected)
    for what in ("pipe", "socket", "nowhere", "ring", "zero"):
        make = partial(lay_out, "x.tif", partial(make_special, what))
        yield Case("batches", what, make, expected=expected)


NAMES = (
    *("two words", " before", "tab\tin", "line\nin", "-dash", "--output", "ünï", "日本", "🦋"),
    *("e\u0301", "\u202eright", "$(exit)", "`x`", "%s%d", "{0}", "a'b", 'a"b', "a\\b", "<b>x"),
    *("~", "CON", "a*", "x-Fusion-2", "x...x", "x.", "s-A", "0", "9" * 40, "a" * 200, "n" * 240),
    *("\udcff\udcfe", "\x7f"),
)


def names() -> Iterator[Case]:
    def folder_of(name: str, folder: Path) -> list[str]:
        frames(folder, f"in/{name}")
        return fuse(folder, ["--batch", f"{folder}/in"])

    def files_of(name: str, folder: Path) -> list[str]:
        (folder / "in").mkdir()
        for number, kind in enumerate(("png", "bmp")):
            path = folder / "in" / f"{name}_{number}.{kind}"
            path.write_bytes(files.by_pillow(kind))
        return fuse(folder, ["--stack", f"{folder}/in"], "--json", f"{folder}/report.json")

    for name in NAMES:
        code = WRONG if len(name) > 230 else RIGHT  # no room is left for "-Fusion.png"
        yield Case("names", f"folder {name[:20]!r}", partial(folder_of, name), code)
        yield Case("names", f"files {name[:20]!r}", partial(files_of, name), RIGHT)


VALUES = {
    "--device": (
        *("", "gpu", "mps", "vulkan", "xla", "meta", "cuda:99", "cuda:-1", "cpu:7", "0", "CPU"),
    ),
    "--memory": ("", "2T", "nan", "inf", "-1", "0x10", "1e9", "9" * 400, "1..2", "2 G", "1", "1K"),
    "--json": (
        *("", ".", "{s}/f0.png", "{s}", "{s}/f0.png/x.json", "/proc/nothing/x.json", "/dev/full"),
    ),
    "--output": ("", "{s}/f0.png", "{s}/f0.png/x", "/proc/x", "/dev/null"),
    "--weights": (
        *("", "{s}", "{s}/f0.png", "{s}/x.pt"),
        *("/nowhere.onnx", "/nowhere.safetensors", "/dev/zero"),
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
    """An option has a value that it cannot have."""

    def lay_out(option: str, value: str, folder: Path) -> list[str]:
        path = frames(folder)
        for kind in ("onnx", "safetensors"):
            whole = (ROOT / f"weights/mmfnet.{kind}").read_bytes()
            os.mkfifo(folder / f"pipe.{kind}")
            (folder / f"empty.{kind}").write_bytes(b"")
            (folder / f"text.{kind}").write_bytes(b"no weights at all" * 99)
            (folder / f"half.{kind}").write_bytes(whole[: len(whole) // 2])
        stems = {name: folder / name for name in ("pipe", "empty", "text", "half")}
        argv = [] if option in SOURCES else ["--stack", str(path), NO_ALIGN]
        argv += [] if option == "--output" else ["--output", str(folder / "out")]
        return [*argv, f"{option}={value.format(s=path, **stems)}"]

    for option, values in VALUES.items():
        for value in values:
            make = partial(lay_out, option, value)
            yield Case("options", f"{option} {value[:30]!r}", make)


def targets() -> Iterator[Case]:
    """Something is where a result will be."""

    def source_is_result(format: str, folder: Path) -> list[str]:
        path = frames(folder)
        result = (path / "f1.png").rename(path / f"f-Fusion.{format}")
        given = [str(path / "f0.png"), str(result)]
        return ["--stack", *given, "--output", str(path), NO_ALIGN]

    def folder_is_result(kind: str, extra: list[str], folder: Path) -> list[str]:
        (folder / f"out/s-{kind}/mine").mkdir(parents=True)
        (folder / f"out/s-{kind}/mine/keep.txt").write_text("mine")
        return good(folder, *extra)

    def pair_is_there(folder: Path) -> list[str]:
        (folder / "out").mkdir()
        (folder / "out/s-Fusion.png").write_bytes(files.by_pillow("PNG"))
        return good(folder)

    def report_is(path: str, folder: Path) -> list[str]:
        (folder / "notes.json").write_text("not a report")
        (folder / "link.json").symlink_to(folder / "s/f0.png")
        (folder / "data").write_bytes(b"weights")
        return good(folder, "--json", str(folder / path))

    def linked(folder: Path) -> list[str]:
        (folder / "out").mkdir()
        (folder / "disk").mkdir()
        (folder / "report.json").symlink_to(folder / "disk/report.json")
        return good(folder, "--json", str(folder / "report.json"))

    for format in ("png", "tif", "jpg"):
        code = WRONG if format == "png" else EITHER
        yield Case("targets", f"a source, {format}", partial(source_is_result, format), code)
    for kind, *extra in (
        *(("Fusion.png",), ("Record.json",), ("Index.png", "--maps"), ("Depth.png", "--maps")),
        *(("Confidence.png", "--maps"), ("Steps", "--save-steps"), ("Preview.webp", "--preview")),
    ):
        yield Case("targets", f"a folder, {kind}", partial(folder_is_result, kind, extra))
    yield Case("targets", "a pair's result", pair_is_there)
    for name, path in {
        "photograph": "s/f1.png",
        "folder": "s",
        "other.png": "new.png",
        "notes": "notes.json",
        "link": "link.json",
        "data": "data",
    }.items():
        yield Case("targets", f"--json {name}", partial(report_is, path))
    yield Case("targets", "--json through a link", linked, RIGHT, expected=("disk/report.json",))
    for stream in ("/dev/null", "/dev/stdout"):
        yield Case("targets", f"--json {stream}", partial(report_is, stream), RIGHT)


def full() -> Iterator[Case]:
    """The disk is full after so many bytes of a file."""

    def lay_out(option: str, folder: Path) -> list[str]:
        return good(folder, *filter(None, [option]))

    formats = ("--format=tiff", "--format=jpg", "--format=webp")
    for room in (0, 1, 100, 1000):
        for option in ("", *formats, "--maps", "--preview", "--save-steps"):
            make = partial(lay_out, option)
            yield Case("full disk", f"{room} bytes {option}", make, room=room)


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
    """A key has a value that it cannot have."""

    def lay_out(override: str, folder: Path) -> list[str]:
        # Without photographs, a run whose values pass the checks ends too.
        empty = f"data.photographs={folder}"
        return [str(ROOT / "configs/smoke.yaml"), f"run={folder / 'run'}", empty, override]

    for key, values in CHECKED.items():
        for value in values:
            override = f"{key}={value}"
            yield Case("configs", override, partial(lay_out, override), script="main")
