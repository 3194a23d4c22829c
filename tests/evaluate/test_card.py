from __future__ import annotations

from dataclasses import replace

import pytest

from palmier.evaluate.card import Evidence, decide, ended
from palmier.evaluate.winrate import Interval
from palmier.records import Answer

GOOD = Evidence(
    judge=Interval(0.72, 0.65, 0.79, 50),
    win_rate=Interval(0.70, 0.60, 0.80, 50),
    equal_length=Interval(0.66, 0.55, 0.77, 50),
    ended_old=0.60,
    ended_new=0.65,
    loss_old=0.80,
    loss_new=0.90,
)


def test_what_is_better_is_promoted() -> None:
    verdict = decide(GOOD)
    assert verdict.promote
    assert "70%" in verdict.sentence


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"judge": Interval(0.55, 0.49, 0.61, 50)}, "chance"),
        ({"judge": Interval(0.30, 0.20, 0.40, 50)}, "chance"),
        ({"win_rate": Interval(0.56, 0.50, 0.62, 50)}, "interval"),
        ({"win_rate": Interval(0.30, 0.20, 0.40, 50)}, "interval"),
        ({"ended_new": 0.45}, "come to an end"),
        ({"loss_new": 1.5}, "likely"),
        ({"loss_new": float("nan")}, "likely"),
    ],
)
def test_each_condition_alone_keeps_it_back(changes: dict[str, object], reason: str) -> None:
    verdict = decide(replace(GOOD, **changes))
    assert not verdict.promote
    assert reason in verdict.sentence


def test_a_judge_at_chance_is_the_first_reason() -> None:
    assert "chance" in decide(replace(GOOD, judge=Interval(0.5, 0.4, 0.6, 9), win_rate=Interval(0, 0, 0.1, 9))).sentence


def test_an_answer_that_says_nothing_does_not_count_as_ended() -> None:
    answers = [[Answer("yes"), Answer(" \n")], [Answer("cut", finish="length"), Answer("no")]]
    assert ended(answers) == 0.5
