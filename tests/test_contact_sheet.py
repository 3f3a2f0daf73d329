"""The contact sheet shows every result, each map in its column."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from drawing import contact_sheet
from utils.errors import UserError


def save(path, color) -> None:
    Image.new("RGB", (300, 200), color).save(path)


def test_sheet_has_a_place_for_every_result(tmp_path):
    for index in range(3):
        save(tmp_path / f"pair-{index}-Fusion.png", (200, 10 * index, 0))
        save(tmp_path / f"pair-{index}-Guidance.png", (0, 200, 10 * index))
    output = tmp_path / "sheet.png"
    arguments = ["--input", str(tmp_path), "--output", str(output), "--columns", "2"]
    assert contact_sheet.main(arguments) == 0
    pixels = np.asarray(Image.open(output)).reshape(-1, 3)
    for index in range(3):  # 200×133 thumbnails of 300×200 pictures
        for color in ((200, 10 * index, 0), (0, 200, 10 * index)):
            shown = (pixels == color).all(1).sum()
            assert 0.95 * 200 * 133 < shown < 1.05 * 200 * 133


def test_maps_are_shown_if_the_first_result_has_none(tmp_path):
    for name in ("a-Fusion", "b-Fusion", "b-Guidance"):
        save(tmp_path / f"{name}.png", (0, 200, 0))
    green = (np.asarray(contact_sheet.contact_sheet(tmp_path, 2)) == (0, 200, 0)).all(2)
    assert 2.9 * 200 * 133 < green.sum() < 3.1 * 200 * 133


def test_deep_grey_is_shown_as_grey(tmp_path):
    Image.fromarray(np.full((64, 64), 100 * 257, np.uint16)).save(tmp_path / "a-Fusion.png")
    grey = (np.asarray(contact_sheet.contact_sheet(tmp_path, 1)) == 100).all(2)
    assert grey.sum() == 64 * 64


def test_no_columns_are_refused(tmp_path, capsys):
    save(tmp_path / "a-Fusion.png", "green")
    arguments = ["--input", str(tmp_path), "--output", str(tmp_path / "sheet.png")]
    assert contact_sheet.main([*arguments, "--columns", "0"]) == 2
    assert "--columns" in capsys.readouterr().err


def test_a_name_without_a_picture_s_suffix_is_refused(tmp_path, capsys):
    save(tmp_path / "a-Fusion.png", "green")
    for output in (tmp_path / "sheet", tmp_path / "sheet.psd"):  # Pillow reads the latter only
        assert contact_sheet.main(["--input", str(tmp_path), "--output", str(output)]) == 2
        assert f"cannot write {output}: give it the suffix" in capsys.readouterr().err


def test_a_broken_picture_is_named(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "a-Fusion.png")
    data = (tmp_path / "a-Fusion.png").read_bytes()
    for content in (b"", data[: len(data) // 2], data[:45] + b"\0" * 4000):
        (tmp_path / "a-Fusion.png").write_bytes(content)
        with pytest.raises(UserError, match="a-Fusion.png"):
            contact_sheet.contact_sheet(tmp_path, 2)


def test_empty_folder_is_named(tmp_path, capsys):
    arguments = ["--input", str(tmp_path), "--output", str(tmp_path / "sheet.png")]
    assert contact_sheet.main(arguments) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()
