"""The ray tracer against optics, against the α-matte model that it does not know, and the command
that renders and scores."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PHOTOGRAPHS, first_frame
from scipy.ndimage import convolve1d, gaussian_filter

numba = pytest.importorskip("numba", reason="scenes are rendered by numba: pip install numba")

from benchmarks import raytraced  # noqa: E402
from benchmarks.raytraced import beside_edges, score  # noqa: E402
from benchmarks.raytracing import cache  # noqa: E402
from benchmarks.raytracing.cache import Motion, SizeClass  # noqa: E402
from benchmarks.raytracing.rays import Lens  # noqa: E402
from benchmarks.raytracing.render import SEEN, Quality, depths, render  # noqa: E402
from benchmarks.raytracing.scene import Scene  # noqa: E402
from defocus.models import background_in_focus, foreground_in_focus  # noqa: E402
from defocus.psf import disk  # noqa: E402
from evaluation.peers import Peer  # noqa: E402

FOCAL, SIZE = 60.0, (40, 48)
FINE = Quality(0.0, 1024, 1024)
LINEAR = np.linspace(0, 1, 256, dtype=np.float32)
BLUR = 5.0  # px


def smooth(seed: int, sigma: float = 1.5) -> np.ndarray:
    """(40, 48, 3) uint8 that fills the range."""
    noise = gaussian_filter(np.random.default_rng(seed).random((*SIZE, 3)), (sigma, sigma, 0))
    low, high = noise.min(), noise.max()
    return ((noise - low) / (high - low) * 255).round().astype(np.uint8)


def facing(scene: Scene, image: np.ndarray, depth: float, matte: np.ndarray | None = None) -> None:
    """Put a card before the camera whose texels lie on the pixels."""
    height, width = image.shape[:2]
    u, v = (width * depth / 2 / FOCAL, 0, 0), (0, height * depth / 2 / FOCAL, 0)
    number = -1 if matte is None else scene.texture(matte)
    scale, endless = (width / 2, height / 2), matte is None
    texture = scene.texture(image)
    scene.card((0, 0, depth), u, v, texture, number, scale, endless)


def seen(texels: np.ndarray) -> np.ndarray:
    """What pixels show of texels that lie on them: the mean of a bilinear surface over a square.
    The integral of the tent over the pixel and its two neighbours is 1/8, 6/8, 1/8."""
    for axis in (0, 1):
        texels = convolve1d(texels, [1 / 8, 6 / 8, 1 / 8], axis=axis, mode="reflect")
    return texels


@pytest.fixture(scope="module")
def layers() -> tuple[Scene, list[torch.Tensor]]:
    """A card with a matte at depth 1 before a plane at depth 2; F, B and α as pixels show them."""
    front, back = smooth(1), smooth(2)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    blob = np.hypot(y - 20, x - 22) < 9
    bar = (abs(x - 34) < 1.5) & (abs(y - 20) < 12)
    matte = gaussian_filter((blob | bar).astype(np.float32), 0.7)
    scene = Scene(light=LINEAR)
    facing(scene, back, 2.0)
    facing(scene, front, 1.0, matte)
    planes = [seen(plane / 255.0).transpose(2, 0, 1) for plane in (front, back)]
    planes.append(seen(matte.astype(np.float64))[None])
    return scene, [torch.from_numpy(plane).float() for plane in planes]


@pytest.mark.parametrize(
    ("model", "focus"), [(background_in_focus, 2.0), (foreground_in_focus, 1.0)]
)
def test_rays_and_the_matte_model_agree(layers, model, focus):
    """Each checks the other: no formula of one is in the other. Where the light of a layer is
    blurred by the radius that similar triangles give, they agree; a pixel more or less, and not."""
    scene, planes = layers
    lens = Lens(FOCAL, BLUR / FOCAL / (1 - 1 / 2), focus)
    traced = render(scene, lens, SIZE, 3, FINE)
    inside = (slice(8, -8), slice(8, -8))
    errors = {}
    for radius in (BLUR - 1, BLUR, BLUR + 1):
        expected = model(*planes, disk(radius)).permute(1, 2, 0).numpy()
        errors[radius] = np.abs(traced - expected)[inside]
    assert errors[BLUR].mean() < 0.003 and errors[BLUR].max() < 0.03
    assert all(errors[BLUR].mean() < 0.6 * errors[BLUR + d].mean() for d in (-1, 1))


def test_a_pinhole_shows_a_plane_as_its_texture_resampled():
    scene = Scene(light=LINEAR)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    facing(scene, image, 3.0)
    traced = render(scene, Lens(FOCAL, 0.0, 1.0), SIZE, 1, FINE)
    error = traced - seen(image / 255.0)
    assert np.abs(error).max() < 0.02 and abs(error.mean()) < 2e-4


@pytest.mark.parametrize("blades", [0, 5, 6])
@pytest.mark.parametrize(("depth", "focus"), [(1.0, 1.5), (2.0, 1.2)])
def test_a_point_of_light_becomes_the_aperture_and_keeps_its_light(blades, depth, focus):
    """Radius by similar triangles, R·f·|z − z₀|/(z·z₀); polar moments of disk and polygon."""
    aperture, light, radius = 0.25, 30.0, 0.01
    emitter = np.array([[0.01, -0.02, depth, radius, light, light / 2, 0]])
    lens = Lens(FOCAL, aperture, focus, blades, 0.3)
    image = render(Scene(emitters=emitter), lens, SIZE, 0, Quality(1.0, 16, 16))
    expected = aperture * abs(depth - focus) / (depth * focus) * FOCAL
    assert lens.blur(depth) == pytest.approx(expected)
    spot = radius * FOCAL / depth
    assert image.sum((0, 1)) == pytest.approx(
        math.pi * spot**2 * np.array((light, light / 2, 0)), rel=1e-3
    )
    share = image[..., 0] / image[..., 0].sum()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    middle = (share * y).sum(), (share * x).sum()
    moment = (share * ((y - middle[0]) ** 2 + (x - middle[1]) ** 2)).sum()
    moment -= 1 / 6 + spot**2 / 2  # of the pixels and of the light itself
    polar = (2 + math.cos(2 * math.pi / blades)) / 6 if blades else 1 / 2
    assert math.sqrt(moment / polar) == pytest.approx(expected, rel=0.01)


def test_what_stands_before_a_light_hides_its_part_of_the_aperture():
    """An opaque half plane close to the lens halves the light that arrives."""
    emitter = np.array([[0.0, 0.0, 2.0, 0.01, 30, 30, 30]])
    lens = Lens(FOCAL, 0.2, 1.4)
    open_ = render(Scene(emitters=emitter), lens, SIZE, 0, Quality(1.0, 16, 16))
    scene = Scene(emitters=emitter)
    black = scene.texture(np.zeros((2, 2, 3), np.uint8))
    scene.card((5, 0, 0.5), (5, 0, 0), (0, 5, 0), black)
    hidden = render(scene, lens, SIZE, 0, Quality(1.0, 16, 16))
    assert hidden.sum() / open_.sum() == pytest.approx(0.5, abs=0.01)


def test_balls_and_stems_are_as_wide_as_their_tangents_say():
    scene, radius, depth = Scene(), 0.4, 2.0
    grey = scene.texture(np.full((2, 2, 3), 128, np.uint8))
    scene.sphere((0, 0, depth), radius, grey, np.eye(3))
    ball = depths(scene, 10 * FOCAL, (400, 400))
    tangent = 10 * FOCAL * radius / math.sqrt(depth**2 - radius**2)
    assert (ball < 10).sum() == pytest.approx(math.pi * tangent**2, rel=0.005)
    assert ball[200, 200] == pytest.approx(depth - radius, rel=1e-4)
    scene = Scene()
    grey = scene.texture(np.full((2, 2, 3), 128, np.uint8))
    scene.stem((0, -9, depth), (0, 9, depth), radius, grey)
    stem = depths(scene, 10 * FOCAL, (400, 400))
    assert (stem < 10).sum(1) == pytest.approx(np.full(400, 2 * tangent), abs=2)
    assert stem[200, 200] == pytest.approx(depth - radius, rel=1e-4)


def test_equal_seeds_give_equal_pixels_on_any_number_of_threads(layers, monkeypatch):
    lens, quality = Lens(FOCAL, 0.1, 1.0), Quality(0.004, 32, 128)
    image = render(layers[0], lens, SIZE, 3, quality)
    monkeypatch.setattr("benchmarks.raytracing.render.cores", lambda: 1)
    again = render(layers[0], lens, SIZE, 3, quality)
    other = render(layers[0], lens, SIZE, 4, quality)
    np.testing.assert_array_equal(image, again)
    assert (image != other).any()


TINY = SizeClass("0.01", (60, 84), 1, 3, (1.0, 1.0))


@pytest.fixture(scope="module")
def work(photographs, tmp_path_factory) -> Path:
    """A folder with one rendered stack."""
    folder = tmp_path_factory.mktemp("raytraced")
    cache.render_all(list(cache.stacks(folder, [TINY], Motion())), photographs)
    return folder


def test_a_render_that_was_stopped_goes_on(work, photographs):
    (stack,) = cache.stacks(work, [TINY], Motion())
    assert not stack.missing()
    before = {path: path.read_bytes() for path in (stack.truth, *stack.frames)}
    times = {path: path.stat().st_mtime_ns for path in before}
    stack.frames[1].unlink()
    cache.render_all([stack], photographs)
    assert {path: path.read_bytes() for path in before} == before
    assert [p for p in before if p.stat().st_mtime_ns != times[p]] == [stack.frames[1]]


def test_a_stack_of_another_scene_is_not_taken_for_this_one(work, photographs, tmp_path):
    shutil.copytree(work, tmp_path / "copy")
    (stack,) = cache.stacks(tmp_path / "copy", [TINY], Motion())
    note, names = stack.home / "about.json", [f"{name}.png" for name in PHOTOGRAPHS]
    cache._clear(stack, photographs, names)
    about = json.loads(note.read_text())
    assert not stack.missing() and about.pop("digest")
    note.write_text(json.dumps(about, indent=1) + "\n")  # as former versions wrote it
    cache._clear(stack, photographs, names[1:])
    assert not stack.missing()
    for other, of in ((stack, names[1:]), (stack._replace(seed=2), names)):
        shutil.copytree(work, tmp_path / "copy", dirs_exist_ok=True)
        cache._clear(other, photographs, of)
        assert len(stack.missing()) == 2 + TINY.frames


def test_every_depth_is_nearly_in_focus_in_some_photograph(work):
    """Photographs a step of 1 px apart: nothing is blurred by more than half of it in all."""
    (stack,) = cache.stacks(work, [TINY], Motion())
    disparity = stack.read_disparity()
    low, high = np.percentile(disparity, SEEN)
    assert high - low == pytest.approx(TINY.frames - 1, abs=0.05)


def test_without_numba_it_is_named(photographs, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("benchmarks.raytracing.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    command = ["--only", "0.4", "--photographs", str(photographs), "--work", str(tmp_path)]
    assert raytraced.main([*command, "--out", str(tmp_path)]) == 2
    assert "pip install numba" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scenes", "0"], "--scenes 0: has to be at least 1"),
        (["--shake", "-1"], "--shake has to be 0 px or more"),
        (["--breathing", "nan"], "--breathing between -1 and 1"),
    ],
)
def test_wrong_numbers_are_refused(photographs, tmp_path, capsys, options, said):
    command = ["--photographs", str(photographs), "--work", str(tmp_path), "--out", str(tmp_path)]
    assert raytraced.main([*command, *options]) == 2
    assert said in capsys.readouterr().err


def test_edges_are_where_blur_jumps_and_reach_twelve_pixels_at_720():
    disparity = np.tile(np.linspace(0, 20, 720, dtype=np.float32), (30, 1))
    assert not beside_edges(disparity).any()
    disparity[:, 300:] += 2
    np.testing.assert_array_equal(np.flatnonzero(beside_edges(disparity)[7]), range(288, 312))
    half = beside_edges(disparity[:, ::2])
    np.testing.assert_array_equal(np.flatnonzero(half[7]), range(144, 156))


def test_scores_are_of_the_errors_that_were_put_in():
    truth = np.full((20, 30, 3), 100, np.uint8)
    edges = np.zeros((20, 30), bool)
    edges[:, :10] = True
    fused = truth.copy()
    fused[:, 10:] += 5
    fused[:5, :10, 1] += 21
    found = score(fused, truth, edges)
    assert found["away"] == pytest.approx(20 * math.log10(255 / 5))
    assert found["edges"] == pytest.approx(10 * math.log10(255**2 / (21**2 / 12)))
    assert found["wrong"] == 0.25


def test_sets_of_frames():
    frames = [list(raytraced.frames_of(cache.CLASSES[0], name)) for name in raytraced.SETS]
    assert frames == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 7], [3, 4]]


def test_the_worst_place_is_where_the_error_is():
    truth = np.full((90, 180, 3), 100, np.uint8)
    fused = truth.copy()
    fused[10:20, 20:30] += 5
    fused[50:70, 120:140] += 50
    error, (top, left, side) = raytraced.worst_place(fused, truth)
    assert (top, left, side) == (50, 120, 20) and error == pytest.approx(2500)


def test_bars_compare_scenes_that_both_fused():
    row = {"whole": 30.0, "edges": 30.0, "away": 30.0, "wrong": 0.0}
    better = {key: value + 1 for key, value in row.items()}
    rows = {f"0.4-0{i} stack oracle selection": row for i in (1, 2)}
    rows |= {"0.4-01 stack ours": better, "0.4-02 stack ours": {"failed": "…"}}
    rows["0.4-02 ends ours"] = row  # of another set
    edges, away = raytraced.bars(rows, ["0.4"])
    assert edges.held and away.held and "+1.00 dB" in edges.text and "(1 scenes)" in edges.text
    assert raytraced.bars(rows, ["1.2"]) == []
    assert list(raytraced.means(rows, ["0.4"], "stack")) == ["ours", "oracle selection"]


@pytest.mark.parametrize(("options", "moving"), [([], False), (["--shake", "1"], True)])
def test_programs_that_cannot_align_are_left_out_where_the_camera_moves(
    photographs, tmp_path, monkeypatch, options, moving
):
    asked = []
    monkeypatch.setattr(raytraced, "CLASSES", ())
    monkeypatch.setattr(
        raytraced, "choose_peers", lambda *peers, align=False: asked.append(align) or ([], [])
    )
    command = ["--photographs", str(photographs), "--out", str(tmp_path), *options]
    assert raytraced.main(command) == 0
    assert asked == [moving]


def test_the_command_scores_stacks_and_pairs_and_goes_on(
    work, photographs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(raytraced, "CLASSES", (TINY,))
    names = ("ours", "OpenFocus StackMFF V3")
    tools = [Peer(name, sys.executable, "", first_frame) for name in names]
    monkeypatch.setattr(raytraced, "choose_peers", lambda names, peers, align: (tools, []))
    command = ["--photographs", str(photographs), "--work", str(work), "--out", str(tmp_path)]
    assert raytraced.main(command) == 0
    rows = json.loads((tmp_path / "scores.json").read_text())
    assert len(rows) == 3 * 4  # stack, ends, neighbours: ours, peer, two oracles
    assert rows["0.01-01 stack ours"]["whole"] < rows["0.01-01 stack oracle selection"]["whole"]
    text = (tmp_path / "README.md").read_text()
    assert "**missed**: beside depth edges" in text and "## 0.01 megapixels" in text
    assert (tmp_path / "worst-0.01.jpg").stat().st_size > 1000
    capsys.readouterr()
    assert raytraced.main([*command, "--resume"]) == 0
    assert "scores: " not in capsys.readouterr().out
