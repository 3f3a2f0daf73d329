"""Small files that claim much, take long or are no files: refused in time and in little memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import deadline

from tests.hostile import fault_files as files
from utils.errors import UserError
from utils.formats import photo, tiff
from utils.images import probe, read_photo

LYING, FLOODING, LOOPS = files.lying(), files.flooding(), files.loops()


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A case that waits for ever fails."""
    with deadline(20):
        yield


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_photo(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", LYING)
def test_claims_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(LYING[name])
    said = refused(path)
    if name in [f"codec-{code}.tif" for code in (7, 34712, 34933, 50001)]:
        assert "a part of 64×64 pixels holds a picture of 6000×6000" in said
    if name.startswith("tile-"):
        assert "tiles of" in said


def test_a_codestream_counts_not_the_box_around_it(tmp_path):
    """JPEG 2000 in a box that says 64×64; and one of many components."""
    data = bytearray(LYING["codec-34712.tif"])
    box = data.find(b"ihdr")
    if box > 0:
        data[box + 4 : box + 12] = (64).to_bytes(4, "big") * 2
    (tmp_path / "x.tif").write_bytes(data)
    assert "6000×6000" in refused(tmp_path / "x.tif")
    head = data.find(b"\xff\x4f\xff\x51")
    data[head + 8 : head + 16] = (64).to_bytes(4, "big") * 2
    data[head + 40 : head + 42] = (16384).to_bytes(2, "big")
    (tmp_path / "x.tif").write_bytes(data)
    assert "holds a picture" in refused(tmp_path / "x.tif")


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "png", "webp", "zstd", "lzma", "packbits"])
@pytest.mark.parametrize("layout", [{}, {"tile": (32, 16)}, {"rowsperstrip": 20}])
def test_honest_segments_are_read(tmp_path, codec, layout):
    image = np.dstack([np.add.outer(np.arange(90), x * np.arange(70)) for x in (0, 1, 2)])
    image = image.astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="rgb", compression=codec, **layout)
    found = read_photo(tmp_path / "x.tif").rgb.astype(int)
    assert found.shape == image.shape and np.abs(found - image).mean() < 3


@pytest.mark.parametrize("name", FLOODING)
def test_floods_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(FLOODING[name])
    said = refused(tmp_path / name)
    assert "too many small parts" in said or "more than 200 scans" in said


@pytest.mark.parametrize("name", LOOPS)
def test_pages_in_a_ring_are_read_once(tmp_path, name):
    (tmp_path / name).write_bytes(LOOPS[name])
    assert probe(tmp_path / name).pages == {"itself.tif": 1, "two.tif": 2}[name]
    np.testing.assert_array_equal(
        read_photo(tmp_path / name).rgb[..., 0], files.photograph(1, 64, 64)[..., 0]
    )


def test_pages_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "PAGES", 5)
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for number in range(6):
            file.write(files.photograph(number), photometric="rgb", metadata=None)
    assert "more than 5 pages" in refused(tmp_path / "x.tif")


def test_a_tiff_without_photographs_says_so():
    with pytest.raises(UserError, match=r"x\.tif holds no photograph"):
        photo.check_page(Path("x.tif"), 0, 0)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.heic", "x.dng"])
@pytest.mark.parametrize("what", ["pipe", "/dev/zero", "/dev/null"])
def test_only_regular_files_are_opened(tmp_path, name, what):
    path = tmp_path / name
    os.mkfifo(path) if what == "pipe" else path.symlink_to(what)
    assert "is no regular file" in refused(path)
    with pytest.raises(UserError, match="is no regular file"):
        probe(path)


def test_a_palette_png_without_palette_is_broken(tmp_path):
    (tmp_path / "x.png").write_bytes(LYING["no-palette.png"])
    assert "broken or cut short (a part is missing)" in refused(tmp_path / "x.png")
