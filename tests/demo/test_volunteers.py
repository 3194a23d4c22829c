"""Simulated volunteers flip 15 % of the pairs, consistently, and tie what is equal."""

from __future__ import annotations

import random

import pytest

from palmier.demo.tasks import demonstrate, draw_tasks
from palmier.demo.volunteers import FLIPPED, flipped_pairs, noisy_ranks, rank, true_ranks
from palmier.demo.world import create
from palmier.errors import Refusal
from palmier.records import Answer, Ranking


@pytest.mark.parametrize(
    "levels", [(0, 1), (0, 0, 1), (0, 1, 2), (0, 1, 2, 3), (0, 0, 1, 2), (0, 0, 1, 1), (0, 1, 1, 1), (0, 1, 2, 3, 4)]
)
def test_fifteen_percent_of_the_pairs_are_flipped_whatever_the_ties(levels: tuple[int, ...]) -> None:
    draw = random.Random(f"flips {levels}")
    flipped = pairs = 0
    for _ in range(4000):
        scores = [float(level) for level in draw.sample(levels, len(levels))]
        wrong, count = flipped_pairs(scores, noisy_ranks(scores, draw))
        flipped, pairs = flipped + wrong, pairs + count
    assert flipped / pairs == pytest.approx(FLIPPED, abs=0.015)


def test_on_the_worlds_own_answers_the_realised_rate_is_fifteen_percent() -> None:
    world = create(5)
    tasks = draw_tasks(world, "train", 400, "rates")
    draw = random.Random(1)
    people = [demonstrate(world, "train", tasks, f"person {number}") for number in range(4)]
    flipped = pairs = 0
    from palmier.demo.gold import judge

    for answers in zip(*people, strict=True):
        given = [Answer(d.answer) for d in answers]
        ranking = rank(answers[0].task, given, draw)
        wrong, count = flipped_pairs([judge(answers[0].task, answer).score for answer in given], ranking.ranks)
        flipped, pairs = flipped + wrong, pairs + count
    assert pairs > 1500
    assert 0.13 < flipped / pairs < 0.17


def test_without_noise_the_order_is_the_true_one_and_equal_answers_are_tied() -> None:
    draw = random.Random(0)
    assert true_ranks([7.0, 9.0, 7.0, 1.0]) == (2, 1, 2, 3)
    assert noisy_ranks([7.0, 9.0, 7.0, 1.0], draw, flipped=0.0) == (2, 1, 2, 3)
    for _ in range(200):
        ranks = noisy_ranks([7.0, 9.0, 7.0, 1.0], draw)
        assert ranks[0] == ranks[2]
        assert sorted(set(ranks)) == [1, 2, 3]
    assert noisy_ranks([5.0, 5.0], draw) == (1, 1)


def test_a_ranking_is_a_record_with_everything_a_person_would_leave() -> None:
    world = create(5)
    (demonstration,) = demonstrate(world, "train", draw_tasks(world, "train", 4, "one")[:1], "one")
    answers = [Answer(demonstration.answer), Answer("!!!!"), Answer(""), Answer(demonstration.answer + " Thanks.")]
    ranking = rank(demonstration.task, answers, random.Random(2))
    assert Ranking.from_json(ranking.to_json()) == ranking
    assert ranking.annotator.startswith("volunteer-")
    assert ranking.milliseconds > 0
    assert sorted(ranking.shown) == [0, 1, 2, 3]
    assert ranking.ranks[1] == ranking.ranks[2]


def test_too_many_answers_are_refused() -> None:
    with pytest.raises(Refusal, match="2 to 6 answers, not 9"):
        noisy_ranks([1.0] * 9, random.Random(0))
