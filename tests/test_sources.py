"""Foreground and background sources, against photographs composited from known mattes."""

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from defocus import cutouts
from defocus.matting import Unusable, extend_colors, matte_from_segment, trimap_of
from defocus.segments import choose_objects, decode_coco, object_score, read_bsds, readers
from defocus.sources import (
    Photographs,
    RGBACutouts,
    foregrounds,
    images_in,
    read_image,
    skip_report,
)
from utils.errors import UserError

BSDS = Path(__file__).parents[1] / "datasets/bsds500"
SIZE = (170, 200)


def texture(seed: int, color: tuple[int, int, int], size=SIZE) -> np.ndarray:
    """A sharp, mildly grainy surface of one hue, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).normal(0, 8, (*size, 1))
    return np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)


def soft_disk(size=SIZE, radius: float = 48, softness: float = 7) -> np.ndarray:
    """Alpha that falls linearly from 1 to 0 over ``softness`` pixels, (H, W) float."""
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(y - size[0] / 2, x - size[1] / 2)
    return np.clip((radius - distance) / softness + 0.5, 0, 1)


FRONT, BACK = texture(1, (200, 90, 50)), texture(2, (50, 110, 170))
ALPHA = soft_disk()
MASK = ALPHA > 0.5


def composite(alpha: np.ndarray = ALPHA) -> np.ndarray:
    mix = alpha[..., None] * FRONT + (1 - alpha[..., None]) * BACK
    return np.rint(mix).astype(np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    """Write RGB, RGBA or grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        order = [2, 1, 0, 3][: image.shape[2]]
        image = image[..., order]
    assert cv2.imwrite(str(path), image)
    return path


def save_bsds(path: Path, *maps: np.ndarray) -> Path:
    truths = np.empty((1, len(maps)), object)
    for k, labels in enumerate(maps):
        truths[0, k] = {"Segmentation": labels.astype(np.uint16), "Boundaries": labels > 99}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"groundTruth": truths})
    return path


@pytest.fixture(scope="module")
def matted():
    """The disk, cut out from a segment that is 2 px off, and the truth in the same window."""
    off = np.roll(MASK, (2, -1), (0, 1))
    foreground = matte_from_segment(composite(), off, band=10, photograph="disk")
    height, width = foreground.alpha.shape
    patch = foreground.color[height // 2 - 15 :, width // 2 - 15 :][:30, :30]
    # Opaque pixels are the photograph's own, so they say where in it the cut-out was.
    match = cv2.matchTemplate(composite(), patch, cv2.TM_SQDIFF)
    column, row = cv2.minMaxLoc(match)[2]
    assert match.min() < 100  # float rounding; any other place differs by over 10⁵
    top, left = row - (height // 2 - 15), column - (width // 2 - 15)
    window = (slice(top, top + height), slice(left, left + width))
    assert min(top, left) >= 0
    return foreground, off, window


def test_estimated_matte_is_near_the_truth_and_nearer_than_the_segment(matted):
    foreground, off, window = matted
    truth = ALPHA[window]
    band = trimap_of(off, 10)[window] == 0.5
    error = np.abs(foreground.alpha - truth)
    assert error[band].mean() < 0.04
    assert error[band].mean() < 0.4 * np.abs(off[window] - truth)[band].mean()
    assert error[~band].max() < 0.02
    assert foreground.alpha.dtype == np.float32 and foreground.kind == "cf"


def test_recomposited_over_another_background_it_is_the_true_foreground(matted):
    foreground, off, window = matted
    premultiplied = foreground.alpha[..., None] * foreground.color
    truth = ALPHA[window][..., None] * FRONT[window]
    naive = ALPHA[window][..., None] * composite()[window]  # the photograph's colours as they are
    soft = (ALPHA[window] > 0.05) & (ALPHA[window] < 0.95)
    error = np.abs(premultiplied - truth)[soft].mean()
    assert error < 8
    assert error < 0.6 * np.abs(naive - truth)[soft].mean()


def test_colours_reach_beyond_the_matte_and_none_is_of_the_old_background(matted):
    foreground, _, _ = matted
    assert foreground.alpha[:8].max() == 0
    red, blue = (foreground.color[..., c].astype(int) for c in (0, 2))
    assert (red > blue).all()


def test_matte_at_the_frame_gets_a_transparent_margin():
    mask = np.roll(MASK, -SIZE[0] // 2, axis=0)
    mask[SIZE[0] // 2 :] = False
    foreground = matte_from_segment(composite(mask), mask, band=5)
    assert foreground.alpha[:8].max() == 0 and foreground.alpha[8].max() == 1


def test_a_segment_that_the_photograph_does_not_show_is_refused():
    with pytest.raises(Unusable, match="collapsed|leaking"):
        matte_from_segment(FRONT, MASK, band=30)
    with pytest.raises(Unusable, match="empty"):
        matte_from_segment(FRONT, np.zeros(SIZE, bool))


def test_extension_takes_the_nearest_colour():
    color = np.zeros((1, 7, 3), np.uint8)
    color[0, 1], color[0, 5] = 10, 20
    alpha = np.array([[0, 1, 0, 0, 0, 0.5, 0]])
    assert extend_colors(color, alpha)[0, [0, 1, 2, 4, 5, 6], 0].tolist() == [
        10,
        10,
        10,
        20,
        20,
        20,
    ]
    with pytest.raises(Unusable, match="empty"):
        extend_colors(color, alpha * 0)


def test_photographs_are_skipped_with_count_and_reason(tmp_path):
    good = save(tmp_path / "deep/good.png", BACK)
    save(tmp_path / "deep/also.JPG", FRONT)
    save(tmp_path / "tiny.png", BACK[:100])
    save(tmp_path / "soft.png", cv2.GaussianBlur(BACK, (0, 0), 3))
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "notes.txt").write_text("not offered as one")
    data = good.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    data = (tmp_path / "deep/also.JPG").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])

    source = Photographs(tmp_path)
    assert source.photographs == ["also", "good"]
    assert np.array_equal(source[1], BACK)
    kinds = {Path(path).name: reason.split(":")[0] for path, reason in source.skipped.items()}
    unreadable = dict.fromkeys(["empty.png", "text.jpg", "cut.png", "cut.jpg"], "unreadable")
    assert kinds == unreadable | {"tiny.png": "tiny", "soft.png": "blurred"}
    assert source.skipped[str(tmp_path / "tiny.png")] == "tiny: 200×100 px, at least 128 wanted"
    assert skip_report(source.skipped, 2) == "skipped 6 of 8: 4 unreadable, 1 blurred, 1 tiny"


def test_a_panorama_is_too_narrow_once_it_is_reduced(tmp_path):
    save(tmp_path / "good.png", BACK)
    wide = save(tmp_path / "wide.png", texture(3, (90, 90, 90), (200, 2048)))
    line = save(tmp_path / "line.png", texture(3, (90, 90, 90), (1, 2049)))
    reason = "tiny: 1024×100 px, reduced from 2048×200, at least 128 wanted"
    assert Photographs(tmp_path).skipped == {str(line): "tiny: 2049×1 px", str(wide): reason}


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_what_follows_an_image_is_not_read_and_does_not_complete_it(tmp_path, extension):
    """Motion photos end in a video; their thumbnail is a whole JPEG."""
    path = save(tmp_path / f"a.{extension}", BACK)
    whole, data = read_image(path), path.read_bytes()
    if extension == "jpg":
        thumbnail = cv2.imencode(".jpg", BACK[:16, :16])[1].tobytes()
        size = (2 + len(thumbnail)).to_bytes(2, "big")
        data = data[:2] + b"\xff\xe1" + size + thumbnail + data[2:]
    path.write_bytes(data + b"video" * 2000)
    assert np.array_equal(read_image(path), whole)
    for kept in (0.2, 0.5, 0.9):
        path.write_bytes(data[: int(kept * len(data))] + b"video" * 2000)
        with pytest.raises(Unusable, match="cut short"):
            read_image(path)


def test_hidden_files_and_folders_are_left_out(tmp_path):
    root = tmp_path / ".hidden/data"  # the folder itself may be in one
    for name in ("a", "deep/b", ".c", ".thumbnails/a", "deep/.trash/deeper/d"):
        save(root / f"{name}.png", BACK)
    assert [str(p.relative_to(root)) for p in images_in(root)] == ["a.png", "deep/b.png"]


def test_memory_limit_changes_nothing_but_memory(tmp_path):
    for name, image in (("a", FRONT), ("b", BACK)):
        save(tmp_path / f"{name}.png", image)
    source = Photographs(tmp_path, memory=FRONT.nbytes)
    assert source[0] is source[0] and source[1] is not source[1]
    assert np.array_equal(source[1], BACK)
    for name in "ab":
        (tmp_path / f"{name}.png").unlink()
    assert np.array_equal(source[0], FRONT)
    with pytest.raises(UserError, match="b.png was usable before, but now is unreadable"):
        source[1]


def test_nothing_usable_is_an_error_that_names_the_folder(tmp_path):
    with pytest.raises(UserError, match="no folder .*absent"):
        Photographs(tmp_path / "absent")
    with pytest.raises(UserError, match="no images in"):
        Photographs(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match="1 unreadable"):
        Photographs(tmp_path)


def test_cutouts_of_one_photograph_share_its_split_key(tmp_path):
    rgba = np.dstack([FRONT, np.rint(ALPHA * 255).astype(np.uint8)])
    for name in ("lion__0", "lion__1", "my__boat", "my__boat__0", "plain"):
        save(tmp_path / f"{name}.png", rgba)
    save(tmp_path / "opaque.png", FRONT)
    save(tmp_path / "whole.png", np.dstack([FRONT, np.full(FRONT.shape[:2], 255, np.uint8)]))
    source = RGBACutouts(tmp_path)
    assert source.photographs == ["lion", "lion", "my__boat", "my__boat", "plain"]
    assert np.abs(source[0].alpha - ALPHA).max() <= 0.5 / 255 + 1e-6
    assert list(source.skipped.values()) == ["opaque: nothing of the image is transparent"] * 2
    part = source.only({"lion"})
    assert (len(part), len(source)) == (2, 5) and set(part.photographs) == {"lion"}
    assert {f.photograph for f in part} == {"lion"}
    assert len(source.only([])) == 0


@pytest.mark.parametrize("layout", ["RGBA", "Adobe"])
def test_large_cutouts_are_reduced_without_the_colours_they_hide(tmp_path, layout):
    alpha = np.float32(soft_disk((320, 1280), 140) > 0.5)  # a hard edge, of which pixels mix
    color = np.where(alpha[..., None] > 0, texture(1, (200, 90, 50), alpha.shape), 0)
    rgba = np.dstack([color, np.rint(alpha * 255)]).astype(np.uint8)
    if layout == "RGBA":
        save(tmp_path / "large.png", rgba)
    else:
        save(tmp_path / "fg/large.png", rgba[..., :3])
        save(tmp_path / "alpha/large.png", rgba[..., 3])
    (cutout,) = foregrounds(tmp_path)
    assert cutout.color.shape == (256, 1024, 3) and cutout.alpha.shape == (256, 1024)
    assert cutout.alpha.sum() == pytest.approx(alpha.sum() * 0.8**2, rel=1e-3)
    assert np.abs(cutout.color.astype(int) - (200, 90, 50)).max() < 50  # noise, but no black


def test_image_and_alpha_folders(tmp_path):
    matte = np.rint(ALPHA * 255).astype(np.uint8)
    save(tmp_path / "adobe/fg/one.png", FRONT)
    save(tmp_path / "adobe/alpha/one.bmp", matte)
    save(tmp_path / "adobe/fg/lone.png", FRONT)
    save(tmp_path / "adobe/fg/wide.png", FRONT)
    save(tmp_path / "adobe/alpha/wide.png", matte[:, :150])
    adobe = foregrounds(tmp_path / "adobe")
    assert adobe.photographs == ["one"]
    opaque = ALPHA > 0.2
    assert np.array_equal(adobe[0].color[opaque], FRONT[opaque])
    assert sorted(reason.split(":")[0] for reason in adobe.skipped.values()) == [
        "mismatched",
        "unmatched",
    ]

    # AIM-500 and AM-2K: whole photographs, whose foreground colours have to be told apart.
    save(tmp_path / "aim/original/o_1.png", composite())
    save(tmp_path / "aim/mask/o_1.png", matte)
    foreground = foregrounds(tmp_path / "aim")[0]
    soft = (ALPHA > 0.1) & (ALPHA < 0.9)
    error = np.abs(foreground.color.astype(int) - FRONT)[soft].mean()
    assert error < 0.5 * np.abs(composite().astype(int) - FRONT)[soft].mean()
    with pytest.raises(UserError, match="nothing usable"):  # neither layout, nor cut-outs
        foregrounds(tmp_path / "aim/mask")


def test_coco_polygons_and_runs():
    square = decode_coco([[2, 1, 6, 1, 6, 4, 2, 4]], 6, 8)
    truth = np.zeros((6, 8), bool)
    truth[1:4, 2:6] = True
    # A polygon along pixel borders: fillPoly also paints the pixels that it only touches.
    assert (square & truth).sum() == truth.sum() and square.sum() <= 5 * 4
    rng = np.random.default_rng(0)
    mask = rng.random((5, 7)) > 0.6
    flat = np.concatenate([[False], mask.T.ravel()])
    counts = np.diff(np.concatenate([[0], 1 + np.flatnonzero(np.diff(flat)), [flat.size]]))
    counts[0] -= 1  # the False put in front
    code = {"counts": counts.tolist(), "size": [5, 7]}
    assert np.array_equal(decode_coco(code, 5, 7), mask)
    with pytest.raises(Unusable, match="does not fill"):
        decode_coco(code, 7, 7)
    with pytest.raises(Unusable, match="compressed"):
        decode_coco({"counts": "abc", "size": [5, 7]}, 5, 7)
    broken = [{"counts": counts, "size": [5, 7]} for counts in (["35"], [-1, 36], [10.5, 24.5])]
    for wrong in (*broken, None, 3, [[1, 2, 3]], [["a", 1]]):
        with pytest.raises(Unusable, match="neither polygons nor a run-length code"):
            decode_coco(wrong, 5, 7)


def test_bsds_segments_of_the_annotator_with_fewest(tmp_path):
    fine = MASK.astype(int) + 1
    fine[:20] = 3
    path = save_bsds(tmp_path / "one.mat", fine, MASK + 1)
    masks = read_bsds(path)
    assert len(masks) == 2 and any(np.array_equal(mask, MASK) for mask in masks)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(Unusable, match="unreadable: one.mat is damaged"):
        read_bsds(path)
    scipy.io.savemat(path, {"other": 1})
    with pytest.raises(Unusable, match="groundTruth"):
        read_bsds(path)


def test_only_object_like_segments_are_chosen():
    def score(image: np.ndarray, mask: np.ndarray) -> float:
        return object_score(cv2.cvtColor(np.float32(image / 255), cv2.COLOR_RGB2LAB), mask)

    assert score(composite(), MASK) > 0.9
    ground = np.zeros(SIZE, bool)
    ground[120:] = True
    low = np.roll(MASK, -55, axis=0)
    cases = [
        ("cropped", FRONT, ground),
        ("sky", composite(low), low & (np.arange(SIZE[0])[:, None] < 90)),
        ("size", FRONT, soft_disk(radius=15) > 0.5),
        ("ragged", FRONT, MASK & ~(soft_disk(radius=42) > 0.5)),
        ("faint", FRONT, MASK),
    ]
    for kind, image, mask in cases:
        with pytest.raises(Unusable, match=kind):
            score(image, mask)


def test_cutouts_from_every_format_of_segmentation(tmp_path, capsys):
    photographs = tmp_path / "images"
    save(photographs / "disk.png", composite())
    save(photographs / "bare.png", BACK)
    save_bsds(tmp_path / "bsds/disk.mat", MASK + 1)
    save(tmp_path / "masks/disk__0.png", np.uint8(MASK) * 255)
    outline, _ = cv2.findContours(np.uint8(MASK), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygon = (outline[0].ravel() + 0.5).tolist()
    document = {
        "images": [{"id": 3, "file_name": "disk.png"}],
        "annotations": [{"image_id": 3, "segmentation": [polygon], "iscrowd": 0}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    save(tmp_path / "named/my__disk.png", np.uint8(MASK) * 255)
    assert list(readers(tmp_path / "named")) == ["my__disk"]
    for kind in ("bsds", "masks", "coco.json"):
        read = readers(tmp_path / kind)
        assert list(read) == ["disk"]
        (mask,) = choose_objects(composite(), read["disk"](SIZE))
        assert np.array_equal(mask, MASK)

    output = tmp_path / "out"
    arguments = ["--photographs", photographs, "--segmentations", tmp_path / "bsds"]
    arguments = [str(a) for a in (*arguments, "--output", output, "--workers", 1)]
    assert cutouts.main(arguments) == 0
    manifest = json.loads((output / "cutouts.json").read_text())
    assert "unsegmented" in manifest["skipped_photographs"][str(photographs / "bare.png")]
    entry = manifest["cutouts"]["disk__0"]
    assert entry["photograph"] == "disk" and entry["estimator"] == "cf"
    assert entry["area"] == pytest.approx(ALPHA.sum(), rel=0.02)
    stored = read_image(output / "disk__0.png", cv2.IMREAD_UNCHANGED)
    assert (stored[..., 3] == 0).any() and (stored[..., 0] > stored[..., 2]).all()

    written = (output / "disk__0.png").stat().st_mtime_ns
    assert cutouts.main(arguments) == 0  # resumes: there is nothing left to do
    assert (output / "disk__0.png").stat().st_mtime_ns == written
    assert "1 cut-outs in" in capsys.readouterr().out
    save(tmp_path / "more/ring.png", composite())
    save(tmp_path / "masks/ring.png", np.uint8(MASK) * 255)
    more = ["--photographs", tmp_path / "more", "--segmentations", tmp_path / "masks"]
    more = [str(a) for a in (*more, *arguments[4:])]
    assert cutouts.main(more) == 0  # adds to what is there
    manifest = json.loads((output / "cutouts.json").read_text())
    assert list(manifest["cutouts"]) == ["disk__0", "ring__0"]
    save(tmp_path / "more/disk.png", FRONT)  # not the one that is there
    assert cutouts.main(more) == 2 and "has disk__0 of another disk" in capsys.readouterr().err

    save(photographs / "again/disk.png", composite())
    assert cutouts.main(arguments) == 2 and "cut-outs of one name" in capsys.readouterr().err
    (photographs / "again/disk.png").unlink()
    (output / "cutouts.json").write_text("{")
    assert cutouts.main(arguments) == 2 and "cutouts.json is damaged" in capsys.readouterr().err


def test_photographs_that_were_skipped_are_counted_among_photographs(monkeypatch, capsys):
    entries = {f"a__{k}": {"photograph": "a", "segment": k} for k in range(3)}
    judged = {"cutouts": entries, "skipped_photographs": {"b.png": "no object: faint"}}
    monkeypatch.setattr(cutouts, "make_cutouts", lambda **_: judged)
    options = [f"--{name}=x" for name in ("photographs", "segmentations", "output")]
    assert cutouts.main(options) == 0
    assert "photographs skipped 1 of 2: 1 no object\n" in capsys.readouterr().out


def test_a_killed_worker_ends_it_and_what_was_judged_is_kept(tmp_path, monkeypatch):
    save(tmp_path / "images/disk.png", composite())
    save(tmp_path / "masks/disk.png", np.uint8(MASK) * 255)
    monkeypatch.setattr(cutouts, "cut_out", kill_this_process)
    with pytest.raises(UserError, match="a worker process was killed.*fewer --workers"):
        cutouts.make_cutouts(tmp_path / "images", tmp_path / "masks", tmp_path / "out", 1)
    assert json.loads((tmp_path / "out/cutouts.json").read_text())["cutouts"] == {}


def kill_this_process(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_that_is_no_segmentation_is_named(tmp_path):
    save(tmp_path / "images/disk.png", composite())
    for document in ('{"images": []}', '{"images": [], "annotations": [[1]]}'):
        (tmp_path / "wrong.json").write_text(document)
        with pytest.raises(UserError, match="wrong.json is not a COCO"):
            readers(tmp_path / "wrong.json")
    with pytest.raises(UserError, match="absent"):
        readers(tmp_path / "absent")


@pytest.mark.skipif(not BSDS.is_dir(), reason="python -m data.prepare bsds500 fetches it")
def test_bsds500_photographs():
    for name in ("100098", "106020"):  # a bear and a penguin
        image = read_image(BSDS / f"images/train/{name}.jpg")
        masks = readers(BSDS / "groundTruth/train")[name](image.shape[:2])
        foreground = matte_from_segment(image, choose_objects(image, masks)[0])
        share = ((foreground.alpha > 0) & (foreground.alpha < 1)).mean()
        assert 0.01 < share < 0.3  # soft, but only at the edge
