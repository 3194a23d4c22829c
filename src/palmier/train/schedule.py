"""The learning rate over a run, as a factor of its peak. Pure functions of the step."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine", "wsd"]


def factor(step: int, steps: int, *, schedule: Schedule, warmup: int, decay: float, floor: float) -> float:
    """The factor, in (0, 1], on the peak learning rate in step ``step`` (from 0) of ``steps``.

    It rises linearly over ``warmup`` steps and then follows ``schedule`` down to ``floor``:
    constant stays at 1; linear and cosine (Loshchilov & Hutter 2017, one period) fall over all
    that is left; wsd (warm-up, stable, decay: Hu et al. 2024, MiniCPM) stays at 1 and falls
    linearly over the last ``decay`` (a share of ``steps``).
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    start = max(float(warmup), steps * (1.0 - decay)) if schedule == "wsd" else float(warmup)
    if step <= start:
        return 1.0
    progress = min(1.0, (step - start) / max(1.0, steps - start))
    fall = 0.5 * (1.0 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0 - progress
    return floor + (1.0 - floor) * fall
