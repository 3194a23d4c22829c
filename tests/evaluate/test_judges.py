from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from palmier.errors import Refusal
from palmier.evaluate.judges import accuracy, length_differences, outcomes
from palmier.records import Answer, Conversation, Ranking


class Scored:
    """A judge by a function of the text."""

    def __init__(self, function: Callable[[str], float]) -> None:
        self.function = function

    def score(self, conversations: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
        assert len(conversations) == len(answers)
        return [self.function(answer.text) for answer in answers]


SHORTEST = Scored(lambda text: -len(text))
ASKED = [Conversation.ask("a"), Conversation.ask("b")]
NEW = [[Answer("x"), Answer("xxx")], [Answer("xxxx")]]
OLD = [[Answer("xx"), Answer("xxx")], [Answer("x")]]


def test_every_new_answer_meets_every_old_one() -> None:
    assert outcomes(SHORTEST, ASKED, NEW, OLD) == [[1.0, 1.0, 0.0, 0.5], [0.0]]
    assert outcomes(SHORTEST, ASKED, OLD, NEW) == [[0.0, 1.0, 0.0, 0.5], [1.0]]
    assert length_differences(NEW, OLD) == [[-1.0, -2.0, 1.0, 0.0], [3.0]]


def ranked(texts: Sequence[str], order: Callable[[str], float], prompt: str) -> Ranking:
    best_first = sorted(texts, key=order)
    return Ranking(Conversation.ask(prompt), tuple(map(Answer, texts)), tuple(best_first.index(t) + 1 for t in texts))


def test_a_judge_of_the_same_taste_is_right_and_of_the_opposite_wrong() -> None:
    rankings = [ranked(["x" * n for n in (3, 1, 4, 2)], len, str(i)) for i in range(20)]
    assert accuracy(SHORTEST, rankings, 0).mean == 1.0
    assert accuracy(Scored(len), rankings, 0).mean == 0.0
    assert accuracy(Scored(lambda text: 7.0), rankings, 0).mean == 0.5


def test_a_judge_of_random_rankings_is_not_better_than_chance() -> None:
    rng = random.Random(1)
    shown = 0
    for trial in range(40):
        rankings = [ranked(["x" * n for n in range(1, 5)], lambda _: rng.random(), str(i)) for i in range(30)]
        shown += accuracy(SHORTEST, rankings, trial).low > 0.5
    assert shown <= 3


def test_ties_alone_try_no_judge() -> None:
    with pytest.raises(Refusal, match="ties"):
        accuracy(SHORTEST, [Ranking(ASKED[0], (Answer("a"), Answer("b")), (1, 1))], 0)
