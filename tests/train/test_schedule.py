"""The learning rate's factor against hand-made values and against its promises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmier.train import dpo, reward_model, sft
from palmier.train.schedule import Schedule, factor

KINDS: tuple[Schedule, ...] = ("constant", "linear", "cosine", "wsd")


@pytest.mark.parametrize("stage", [dpo, reward_model, sft])
def test_a_share_that_is_not_given_lets_any_run_reach_the_full_rate(stage: Any) -> None:
    settings = stage.Settings(Path("out"), "model", Path("data"))
    for steps in range(1, 60):
        how = settings.optimization(steps)
        rates = curve(how.schedule, steps, how.warmup, how.decay, how.floor)
        assert max(rates) == 1.0, steps
        assert rates.index(1.0) <= 0.1 * steps + 0.5, steps


def curve(schedule: Schedule, steps: int, warmup: int = 0, decay: float = 0.4, floor: float = 0.0) -> list[float]:
    return [factor(s, steps, schedule=schedule, warmup=warmup, decay=decay, floor=floor) for s in range(steps)]


def test_wsd_by_hand() -> None:
    assert curve("wsd", 10, warmup=3) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_wsd_with_decay_one_is_linear_and_with_zero_constant() -> None:
    assert curve("wsd", 12, warmup=4, decay=1.0) == curve("linear", 12, warmup=4)
    assert curve("wsd", 12, warmup=4, decay=0.0) == curve("constant", 12, warmup=4)


def test_linear_and_cosine_by_hand() -> None:
    assert curve("linear", 4) == pytest.approx([1, 0.75, 0.5, 0.25])
    assert curve("cosine", 4) == pytest.approx([(1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)])
    assert curve("cosine", 4, floor=0.1)[2] == pytest.approx(0.1 + 0.9 * 0.5)


@given(st.sampled_from(KINDS), st.integers(1, 200), st.integers(0, 50), st.floats(0, 1), st.floats(0, 1))
def test_it_rises_then_never_rises_again_and_is_never_zero(
    kind: Schedule, steps: int, warmup: int, decay: float, floor: float
) -> None:
    values = curve(kind, steps, warmup, decay, floor)
    assert all(0.0 < value <= 1.0 for value in values)
    rise, rest = values[:warmup], values[warmup:]
    assert rise == sorted(rise)
    assert rest == sorted(rest, reverse=True)
    assert all(value >= floor - 1e-12 for value in rest)
