"""Intervals, pair accuracy and changes against numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from palmier.demo import measures
from palmier.demo.gold import Gold
from palmier.errors import Refusal
from palmier.records import Answer, Conversation


def _golds(*scores: float) -> list[Gold]:
    return [Gold(facts=score) for score in scores]


def test_outcomes_are_every_new_answer_against_every_old_one_with_ties_half() -> None:
    assert measures.outcomes([_golds(5, 1)], [_golds(1, 5)]) == [[1.0, 0.5, 0.5, 0.0]]


def test_pair_accuracy_counts_pairs_that_differ_in_gold_and_far_ones_alone_where_asked() -> None:
    golds = [_golds(9, 5, 5, 1)]
    right = measures.pair_accuracy(golds, [[4.0, 3.0, 2.0, 1.0]], 0.0, seed=0)
    assert right is not None
    assert right.mean == 1.0
    wrong = measures.pair_accuracy(golds, [[1.0, 2.0, 3.0, 4.0]], 0.0, seed=0)
    assert wrong is not None
    assert wrong.mean == 0.0
    level = measures.pair_accuracy(golds, [[1.0, 1.0, 1.0, 1.0]], 0.0, seed=0)
    assert level is not None
    assert level.mean == 0.5
    # Only the pair 9–1 is 8 apart; the scores order it rightly and most others wrongly.
    far = measures.pair_accuracy(golds, [[2.0, 4.0, 4.0, 1.0]], 8.0, seed=0)
    assert far is not None
    assert far.mean == 1.0
    assert measures.pair_accuracy([_golds(5, 5)], [[1.0, 2.0]], 0.0, seed=0) is None


def test_spread_is_the_highest_less_the_lowest_score() -> None:
    assert measures.spread([_golds(9, 5), _golds(2.5, 4)]) == 6.5


def test_a_change_has_the_difference_of_means_and_an_interval_around_it() -> None:
    old, new = [_golds(2, 4)] * 50, [_golds(4, 4)] * 25 + [_golds(3, 3)] * 25
    found = measures.change(new, old, "facts", seed=0)
    assert found.mean == pytest.approx(0.5)
    assert found.low < 0.5 < found.high
    assert found.n == 50


def test_the_judge_as_a_program_knows_what_it_was_told_and_nothing_else() -> None:
    from palmier.demo import judging
    from palmier.demo.tasks import demonstrate, draw_tasks
    from palmier.demo.world import create
    from palmier.feedback.reward import load_reward_spec

    world = create(9)
    tasks = draw_tasks(world, "train", 8, "judging")
    judging.learn(tasks)
    reward = load_reward_spec(judging.SPEC)
    shown = demonstrate(world, "train", tasks, "judging")
    asked = [Conversation.ask(task.prompt) for task in tasks]
    scores = reward.score(asked, [Answer(one.answer) for one in shown])
    assert max(scores) > 5
    assert reward.score(asked[:1], [Answer("")]) == [0.0]
    with pytest.raises(Refusal, match="does not know the request 'Hello'"):
        reward.score([Conversation.ask("Hello")], [Answer("Hi")])
