"""Learning-rate schedules: factor on the base rate at a step of so many."""

import math

WARM_UP = 200  # steps
DECAY = 0.3  # share of the steps in which a trapezoid falls


def paper(step: int, steps: int) -> float:
    """× 0.2 after 40, 60 and 80 % of the training (epochs 40, 60, 80 of 100)."""
    return 0.2 ** sum(step >= share * steps for share in (0.4, 0.6, 0.8))


def cosine(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    progress = min(1.0, max(0, step - WARM_UP) / max(1, steps - WARM_UP))
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))


def trapezoid(step: int, steps: int) -> float:
    """Linear warm-up, constant, then linear down to zero.

    Until the decay begins it does not depend on the number of steps, so a run can be made longer
    (or cut short) by resuming it with another ``train.steps``.
    """
    return min(1.0, (step + 1) / WARM_UP, max(0.0, (steps - step) / (DECAY * steps)))


SCHEDULES = {"paper": paper, "cosine": cosine, "trapezoid": trapezoid}
