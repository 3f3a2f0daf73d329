"""Whether frames follow one another in an order of focus, told only where it matters."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from focus_stacks import Sharpest, focus_stack, save_stack

from benchmarks.synthetic_stacks import Motion, stack
from fusion.fuse import fuse
from fusion.order import is_shuffled, sharpness
from run_inference import main

FRAMES = focus_stack(6)
MIXED = (3, 0, 4, 1, 5, 2)


@pytest.mark.parametrize(("layers", "frames"), [(2, 5), (3, 9), (4, 8), (5, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_an_ordered_stack_is_not_shuffled_either_way(seed, layers, frames):
    made = stack(seed, (160, 200), layers, frames, noise=0.005)
    maps = [sharpness(frame) for frame in made.frames]
    assert not is_shuffled(maps) and not is_shuffled(maps[::-1])


def test_most_orders_of_six_are_none():
    """And those that are nearly right are no matter."""
    maps = [sharpness(frame) for frame in FRAMES]
    found = {order: is_shuffled([maps[i] for i in order]) for order in permutations(range(6))}
    steps = {order: np.abs(np.diff(order)).sum() for order in found}  # 5, if in order
    assert not any(found[order] for order, length in steps.items() if length <= 6)
    assert all(found[order] for order, length in steps.items() if length >= 13)
    assert np.mean(list(found.values())) > 0.75


def test_few_and_equal_frames_are_in_any_order():
    maps = [sharpness(frame) for frame in focus_stack(3)]
    assert not any(is_shuffled([maps[i] for i in order]) for order in permutations(range(3)))
    noise = np.random.default_rng(0).normal(0, 0.01, (8, len(maps[0])))
    assert not is_shuffled(list(maps[0] * (1 + noise)))


@pytest.mark.parametrize("order", [range(8), range(7, -1, -1), (5, 0, 3, 6, 1, 7, 2, 4)])
@pytest.mark.parametrize("motion", [None, Motion(6)])
def test_it_is_told_of_frames_that_are_registered(order, motion):
    made = stack(1, (160, 200), 4, 8, motion=motion)
    frames = [made.frames[i] for i in order]
    mixed = order[0] == 5
    assert fuse(frames, Sharpest()).shuffled == mixed
    assert not fuse(frames, Sharpest(), align=False).shuffled


@pytest.mark.parametrize(
    ("options", "said"), [([], True), (["--order", "focus"], False), (["--no-align"], False)]
)
def test_the_command_line_names_the_option(tmp_path, weights, capsys, options, said):
    moved = [np.roll(FRAMES[i], 2 * place, 0) for place, i in enumerate(MIXED)]
    save_stack(tmp_path / "in", moved)
    report = tmp_path / "r.json"
    given = ["--stack", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*given, "--weights", weights, "--json", str(report), *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "--order focus" in line]
    assert len(lines) == said
    assert json.loads(report.read_text())["stacks"][0]["shuffled"] == said
