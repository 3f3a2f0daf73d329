"""Which files make a stack, their order, and how frames are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from focus_stacks import focus_stack, save_stack
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import IFD, Base

from fusion.frames import BrokenFrame, Frames, widen
from fusion.order import sharpness, sort_by_focus
from fusion.stack_files import find_stack, find_stacks, look_into
from utils.errors import UserError

FRAMES = focus_stack()


def names(stack) -> list[str]:
    return [frame.path.name for frame in stack.frames]


def test_a_folder_in_the_natural_order_of_its_names(tmp_path):
    save_stack(tmp_path / "rail", [FRAMES[0]] * 11, "Frame{}.png")
    (tmp_path / "rail/notes.txt").write_text("not a frame")
    (tmp_path / "rail/.hidden.png").write_bytes(b"")
    for kind in ("Fusion", "Depth"):  # of an earlier run into the same folder
        Image.fromarray(FRAMES[0]).save(tmp_path / f"rail/rail-{kind}.png")
    source = find_stack([tmp_path / "rail"])
    assert source.name == "rail"
    assert names(look_into(source)) == [f"Frame{i}.png" for i in range(1, 12)]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["pcb_001.png", "pcb_002.png", "pcb_010.png"], "pcb"),
        (["lytro-01-A.png", "lytro-01-B.png"], "lytro-01"),
        (["fern (10).png", "fern (11).png"], "fern"),
        (["near.png", "far.png"], "shelf"),  # nothing in common: after their folder
    ],
)
def test_files_are_named_after_what_they_have_in_common(tmp_path, files, name):
    folder = tmp_path / "shelf"
    folder.mkdir()
    for file in files:
        Image.fromarray(FRAMES[0]).save(folder / file)
    source = find_stack([folder / file for file in reversed(files)])
    assert source.name == name
    assert [path.name for path in source.files] == sorted(files)


def test_pages_of_a_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", np.stack(FRAMES), photometric="rgb")
    stack = look_into(find_stack([tmp_path / "scan.tif"]))
    assert [frame.page for frame in stack.frames] == [0, 1, 2, 3]
    assert str(stack.frames[2]) == f"{tmp_path / 'scan.tif'}, page 3"
    with Frames(stack) as images:
        assert all(
            np.array_equal(image, frame) for image, frame in zip(images, FRAMES, strict=True)
        )


def test_each_page_of_a_tiff_is_looked_at(tmp_path):
    grey, deep = FRAMES[0][..., 0], FRAMES[1].astype(np.uint16) * 257
    with tifffile.TiffWriter(tmp_path / "scan.tif") as file:
        for page in (grey, FRAMES[1], deep):
            file.write(page, photometric="rgb" if page.ndim == 3 else "minisblack")
    stack = look_into(find_stack([tmp_path / "scan.tif"]))
    assert not stack.grey and stack.dtype == np.uint16
    with Frames(stack) as images:
        assert np.array_equal(images[1], deep)


def date(path: Path, minute: int, second: int = 0) -> None:
    """Write when a photograph was taken."""
    exif = Image.Exif()
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = f"2024:05:06 07:{minute:02}:{second:02}"
    Image.open(path).save(path, exif=exif)


def test_order_by_time(tmp_path):
    paths = save_stack(tmp_path / "s", FRAMES, "{}.jpg")
    for path, minute in zip(paths, (5, 3, 3, 1), strict=True):
        date(path, minute)
    source = find_stack([tmp_path / "s"])
    assert names(look_into(source, "time")) == ["4.jpg", "2.jpg", "3.jpg", "1.jpg"]
    Image.fromarray(FRAMES[0]).save(paths[2])
    with pytest.raises(UserError, match=r"3\.jpg does not say when"):
        look_into(source, "time")


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)))
def test_order_by_focus_is_found_from_any_order(shuffled):
    maps = [sharpness(frame) for frame in focus_stack(6, 120, 160)]
    found = [shuffled[i] for i in sort_by_focus([maps[i] for i in shuffled])]
    assert found in (list(range(6)), list(range(5, -1, -1)))


def test_of_both_directions_of_focus_the_given_one_is_kept():
    maps = [sharpness(frame) for frame in focus_stack(6, 120, 160)]
    assert sort_by_focus(maps) == sort_by_focus(maps[::-1]) == list(range(6))
    assert sort_by_focus(maps[:2]) == [0, 1]
    assert sorted(sort_by_focus([np.zeros_like(maps[0])] * 3)) == [0, 1, 2]  # nothing to go by


def test_a_batch(tmp_path):
    for name in ("stack10", "stack2"):
        save_stack(tmp_path / name, FRAMES[:2])
    tifffile.imwrite(tmp_path / "scan.tif", np.stack(FRAMES), photometric="rgb")
    Image.fromarray(FRAMES[0]).save(tmp_path / "cover.tif")  # one page is no stack
    (tmp_path / "empty").mkdir()
    for name in ("stack2-Steps", "Garden-Steps"):  # of an earlier run, and a folder's name
        save_stack(tmp_path / name, FRAMES[:2])
    (tmp_path / "stack2-Record.json").touch()
    sources, problems = find_stacks(tmp_path)
    assert [source.name for source in sources] == ["Garden-Steps", "scan", "stack2", "stack10"]
    assert [problem.files for problem in problems] == [(tmp_path / "cover.tif",)]


def test_stacks_of_one_name_do_not_lose_the_others(tmp_path):
    for name in ("scan", "other"):
        save_stack(tmp_path / name, FRAMES[:2])
    tifffile.imwrite(tmp_path / "Scan.tif", np.stack(FRAMES), photometric="rgb")
    sources, (problem,) = find_stacks(tmp_path)
    assert [source.name for source in sources] == ["other"]
    assert set(problem.files) == {tmp_path / "scan", tmp_path / "Scan.tif"}
    assert "would each give" in problem.error


def test_photographs_in_folders_of_folders_are_named(tmp_path):
    save_stack(tmp_path / "good", FRAMES[:2])
    save_stack(tmp_path / "2024/May/leaf", FRAMES[:2])
    save_stack(tmp_path / "fused/good-Steps", FRAMES[:2])  # results, which no run takes for frames
    save_stack(tmp_path / "fused", FRAMES[:1], "good-Fusion.png")
    (tmp_path / "notes/more").mkdir(parents=True)
    (tmp_path / "notes/loop").symlink_to(tmp_path / "notes")
    sources, (problem,) = find_stacks(tmp_path)
    assert [source.name for source in sources] == ["good"]
    assert problem.files == (tmp_path / "2024",)
    assert "2024 holds photographs only in folders" in problem.error


def test_names_of_frames_in_a_batch(tmp_path):
    for name in "leaf1 leaf2 12_1 12_2 moss-a moss-b 2024 2025 alone7 leaf".split():
        Image.fromarray(FRAMES[0]).save(tmp_path / f"{name}.png")
    save_stack(tmp_path, FRAMES[:2], "fern ({}).png")  # as Windows renames several
    save_stack(tmp_path / "Moss-Depth", FRAMES[:2])  # a folder is no map
    found = {source.name: names(look_into(source)) for source in find_stacks(tmp_path)[0]}
    assert found == {
        "12": ["12_1.png", "12_2.png"],
        "fern": ["fern (1).png", "fern (2).png"],
        "leaf": ["leaf1.png", "leaf2.png"],
        "moss": ["moss-a.png", "moss-b.png"],
        "Moss-Depth": ["f1.png", "f2.png"],
    }


def test_a_folder_of_a_camera_is_divided_by_pauses(tmp_path):
    """Its numbers start again after 9999."""
    taken = {9998: (1, 0), 9999: (1, 4), 1: (1, 9), 2: (1, 15), 3: (1, 20), 4: (9, 0)}
    for number, when in taken.items():
        path = tmp_path / f"IMG_{number:04}.jpg"
        Image.fromarray(FRAMES[0]).save(path)
        date(path, *when)
    Image.fromarray(FRAMES[0]).save(tmp_path / "IMG_0005.jpg")  # without a time
    save_stack(tmp_path / "apart", FRAMES[:2])
    sources, problems = find_stacks(tmp_path, pause=5)
    assert {source.name: [path.stem for path in source.files] for source in sources} == {
        "apart": ["f1", "f2"],
        "IMG_0002": ["IMG_0002", "IMG_0003"],
        "IMG_9998": ["IMG_9998", "IMG_9999", "IMG_0001"],
    }
    assert names(look_into(sources[2])) == [f"IMG_{i}.jpg" for i in ("9998", "9999", "0001")]
    undated, alone = problems
    assert "IMG_0005.jpg does not say when" in undated.error
    assert "IMG_0004.jpg belongs to no stack; no other" in alone.error
    (whole,) = find_stacks(tmp_path, pause=600)[0][1:]
    assert len(whole.files) == len(taken)


def test_frames_that_are_called_like_maps_are_frames(tmp_path):
    for name in ("near-Depth", "mid-Depth", "far-Depth"):
        Image.fromarray(FRAMES[0]).save(tmp_path / f"{name}.png")
    assert len(find_stack([tmp_path]).files) == 3
    (tmp_path / "near-Record.json").write_text("{}")
    assert [path.name for path in find_stack([tmp_path]).files] == [
        "far-Depth.png",
        "mid-Depth.png",
    ]


def test_pages_beside_other_files_are_not_dropped(tmp_path):
    """A second page as large as the first is a frame; a smaller one is a thumbnail."""
    for number in (1, 2):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.stack(FRAMES), photometric="rgb")
    source = find_stack([tmp_path])
    with pytest.raises(UserError, match=r"1\.tif has 4 pages of one size"):
        look_into(source, strict=True)
    with pytest.raises(UserError, match=r"2\.tif has 4 pages of one size"):
        look_into(source)
    for number in (1, 2):
        with tifffile.TiffWriter(tmp_path / f"{number}.tif") as file:
            for page in (FRAMES[0], FRAMES[0][::4, ::4]):
                file.write(page, photometric="rgb")
    assert len(look_into(source).frames) == 2


def test_a_broken_tiff_of_a_batch_is_named(tmp_path):
    save_stack(tmp_path / "good", FRAMES[:2])
    (tmp_path / "scan.tif").write_bytes(b"II*\0broken")
    sources, problems = find_stacks(tmp_path)
    assert [source.name for source in sources] == ["good"]
    assert str(tmp_path / "scan.tif") in problems[0].error


def test_a_frame_that_is_there_twice(tmp_path):
    paths = save_stack(tmp_path / "s", FRAMES[:2])
    Image.fromarray(FRAMES[0]).save(paths[0].with_suffix(".jpg"))
    with pytest.raises(UserError, match=r"f1\.jpg and f1\.png look like one frame in two types"):
        look_into(find_stack([tmp_path / "s"]))
    assert len(look_into(find_stack([*paths, paths[0].with_suffix(".jpg")])).frames) == 3


def test_loose_frames_in_two_types(tmp_path):
    for path in save_stack(tmp_path, FRAMES[:2], "x-{}.png"):
        Image.fromarray(FRAMES[0]).save(path.with_suffix(".jpg"))
    (source,), _ = find_stacks(tmp_path)
    with pytest.raises(UserError, match="look like one frame in two types"):
        look_into(source)


def test_files_of_one_name_go_by_the_number_of_their_folders(tmp_path):
    paths = [save_stack(tmp_path / f"f{i}", FRAMES[:1], "img.png")[0] for i in (10, 2, 1)]
    assert list(find_stack(paths).files) == paths[::-1]


def test_reading_ahead_gives_any_frame_and_names_a_broken_one(tmp_path):
    paths = save_stack(tmp_path / "s", FRAMES)
    paths[2].write_bytes(paths[2].read_bytes()[:-200])
    with Frames(look_into(find_stack([tmp_path / "s"]))) as images:
        for number in (0, 0, 1, 3, 0, 3):
            assert np.array_equal(images[number], FRAMES[number])
        with pytest.raises(BrokenFrame, match="f3.png") as error:
            images[2]
        assert error.value.number == 2
        with pytest.raises(IndexError):
            images[4]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 255))
def test_widening_keeps_the_brightness(value):
    wide = widen(np.full((2, 2, 3), value, np.uint8), np.dtype(np.uint16))
    assert wide.dtype == np.uint16 and np.all(wide / 65535 == value / 255)


def test_loose_files_named_alike_are_stacks(tmp_path):
    for name in ("lytro-01", "lytro-2"):
        save_stack(tmp_path, [FRAMES[0]] * 3, f"{name}-{{}}.png")
    save_stack(tmp_path / "folder", [FRAMES[0]] * 2)
    for alone in ("single-1", "portrait"):
        Image.fromarray(FRAMES[0]).save(tmp_path / f"{alone}.png")
    sources, problems = find_stacks(tmp_path)
    assert [problem.files[0].name for problem in problems] == ["portrait.png", "single-1.png"]
    assert all("belongs to no stack" in problem.error for problem in problems)
    assert [source.name for source in sources] == ["folder", "lytro-01", "lytro-2"]
    assert [path.name for path in sources[2].files] == [f"lytro-2-{i}.png" for i in (1, 2, 3)]
