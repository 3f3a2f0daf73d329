"""Learning-rate schedules against what they say."""

from __future__ import annotations

from functools import partial

import pytest

from training.schedules import SCHEDULES, cosine, paper, trapezoid


@pytest.mark.parametrize("steps_per_epoch", [1, 13])
def test_paper_multiplies_by_a_fifth_at_epochs_40_60_80(steps_per_epoch):
    factor = partial(paper, steps=100 * steps_per_epoch)
    for epoch in range(100):
        expected = 0.2 ** ((epoch >= 40) + (epoch >= 60) + (epoch >= 80))
        for step in (epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1):
            assert factor(step) == pytest.approx(expected)


def test_cosine_warms_up_then_falls_to_zero():
    factor = partial(cosine, steps=1200)
    assert factor(0) == pytest.approx(1 / 200)
    assert factor(99) == pytest.approx(0.5)
    assert factor(200) == pytest.approx(1)
    assert factor(700) == pytest.approx(0.5)  # half of the way down
    assert factor(450) == pytest.approx((2 + 2**0.5) / 4)  # cos(π/4)
    assert factor(1200) == pytest.approx(0, abs=1e-12)
    falling = [factor(step) for step in range(200, 1201)]
    assert falling == sorted(falling, reverse=True)


def test_trapezoid_is_constant_until_its_decay_and_does_not_know_its_length_before():
    factor = partial(trapezoid, steps=1000)
    assert factor(99) == pytest.approx(0.5)
    assert factor(199) == factor(400) == factor(700) == 1
    assert factor(850) == pytest.approx(0.5)
    assert factor(1000) == 0
    longer = partial(trapezoid, steps=5000)
    assert all(longer(step) == factor(step) for step in range(0, 700, 7))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 7, 300, 20000])
def test_factors_stay_in_range_however_short_the_training(name, steps):
    factor = partial(SCHEDULES[name], steps=steps)
    assert all(0 < factor(step) <= 1 for step in range(0, steps, max(1, steps // 50)))
