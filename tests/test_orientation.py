"""Frames whose EXIF says that the camera was turned though it was not, and those where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from focus_stacks import focus_stack, save_stack
from image_files import encoded, seen
from PIL import Image
from PIL.ExifTags import Base

from fusion.frames import Frames
from fusion.stack_files import find_stack, look_into
from utils.errors import UserError
from utils.images import probe, read_photo

FRAMES = focus_stack()  # 4 of 96×72


def save(path: Path, stored: np.ndarray, orientation: int) -> None:
    tags = Image.Exif()
    tags[Base.Orientation] = orientation
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded(stored, "PNG", exif=tags))


def read(folder: Path) -> tuple[list[np.ndarray], list[bool]]:
    stack = look_into(find_stack([folder]))
    with Frames(stack) as images:
        return list(images), [frame.turned for frame in stack.frames]


@pytest.mark.parametrize("tags", [(1, 1, 6, 1), (8, 8, 3, 6), (1, 3, 3, 1), (6, 8, 6, 8)])
def test_a_camera_that_did_not_turn_has_the_orientation_of_its_first_frame(tmp_path, tags):
    for i, (frame, tag) in enumerate(zip(FRAMES, tags, strict=True)):
        save(tmp_path / f"s/{i}.png", frame, tag)
    images, turned = read(tmp_path / "s")
    assert turned == [tag != tags[0] for tag in tags]
    for image, frame in zip(images, FRAMES, strict=True):
        np.testing.assert_array_equal(image, seen(frame, tags[0]))


@pytest.mark.parametrize("tags", [(1, 3, 1, 3), (2, 1, 4, 3), (6, 8, 6, 8)])
def test_a_camera_that_did_turn_has_its_own(tmp_path, tags):
    back = {6: 8, 8: 6}
    for i, (frame, tag) in enumerate(zip(FRAMES, tags, strict=True)):
        save(tmp_path / f"s/{i}.png", seen(frame, back.get(tag, tag)), tag)
    images, turned = read(tmp_path / "s")
    assert turned == [False] * 4
    for image, frame in zip(images, FRAMES, strict=True):
        np.testing.assert_array_equal(image, frame)


def test_one_that_an_editor_turned_fits_as_before(tmp_path):
    for i, frame in enumerate(FRAMES[:3]):
        save(tmp_path / f"s/{i}.png", seen(frame, 8), 6)
    save(tmp_path / "s/3.png", FRAMES[3], 1)
    assert [image.shape for image in read(tmp_path / "s")[0]] == [(72, 96, 3)] * 4


@pytest.mark.parametrize("other", [focus_stack(seed=9)[0], np.full_like(FRAMES[0], 90)])
def test_an_upright_photograph_of_something_else_is_named(tmp_path, other):
    save_stack(tmp_path / "s", FRAMES[:2], "{}.png")
    save(tmp_path / "s/3.png", other, 6)
    with pytest.raises(UserError, match=r"3\.png has 72×96 pixels, .*1\.png 96×72; .*turn all"):
        look_into(find_stack([tmp_path / "s"]))


def test_a_broken_frame_does_not_keep_the_others_from_being_read(tmp_path):
    save(tmp_path / "s/1.png", FRAMES[0], 1)
    save(tmp_path / "s/2.png", FRAMES[1], 3)
    save(tmp_path / "s/3.png", FRAMES[2], 1)
    path = tmp_path / "s/2.png"
    path.write_bytes(path.read_bytes()[:-300])
    assert len(look_into(find_stack([tmp_path / "s"])).frames) == 3


@pytest.mark.parametrize("own", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("given", [1, 2, 6, 7])
def test_an_orientation_that_is_given_replaces_that_of_the_file(tmp_path, own, given):
    save(tmp_path / "x/x.png", FRAMES[0], own)
    np.testing.assert_array_equal(
        read_photo(tmp_path / "x/x.png", 0, given).rgb, seen(FRAMES[0], given)
    )
    head = probe(tmp_path / "x/x.png")
    assert head.orientation == own
    turned = head.turn(given)
    assert (turned.height, turned.width) == seen(FRAMES[0], given).shape[:2]
