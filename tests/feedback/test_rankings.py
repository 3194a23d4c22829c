from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from palmier.feedback.rankings import agreement, clear, comparisons
from palmier.records import Answer, Conversation, Ranking


def ranking(ranks: tuple[int, ...], prompt: str = "q", annotator: str = "ann", all_bad: bool = False) -> Ranking:
    answers = tuple(Answer("abcdefghi"[i]) for i in range(len(ranks)))
    return Ranking(Conversation.ask(prompt), answers, ranks, all_bad, (), annotator)


def orders(given: Ranking) -> set[tuple[str, str]]:
    return {(pair.chosen.text, pair.rejected.text) for pair in comparisons(given)}


def test_a_small_ranking_by_hand() -> None:
    assert orders(ranking((2, 1, 2, 3))) == {("b", "a"), ("b", "c"), ("b", "d"), ("a", "d"), ("c", "d")}
    assert orders(ranking((1, 1, 1))) == set()


@given(st.lists(st.integers(1, 9), min_size=2, max_size=9), st.booleans())
def test_chosen_always_stands_above_rejected(ranks: list[int], all_bad: bool) -> None:
    found = comparisons(ranking(tuple(ranks), all_bad=all_bad))
    ties = sum(ranks[i] == ranks[j] for i in range(len(ranks)) for j in range(i))
    assert len(found) == math.comb(len(ranks), 2) - ties
    for pair in found:
        assert ranks["abcdefghi".index(pair.chosen.text)] < ranks["abcdefghi".index(pair.rejected.text)]


def test_all_bad_keeps_the_order_between_the_bad() -> None:
    assert orders(ranking((1, 2), all_bad=True)) == {("a", "b")}


def test_agreement_is_between_people_and_knows_opposites() -> None:
    same = [ranking((1, 2, 3), annotator=name) for name in ("ann", "bob")]
    assert (agreement(same).same, agreement(same).total) == (3, 3)
    opposite = [ranking((1, 2, 3)), ranking((3, 2, 1), annotator="bob")]
    assert (agreement(opposite).same, agreement(opposite).total) == (0, 3)
    alone = [ranking((1, 2)), ranking((1, 2)), ranking((1, 2), prompt="other", annotator="bob")]
    assert agreement(alone).total == 0
    assert math.isnan(agreement(alone).share)
    assert agreement([ranking((1, 1, 2)), ranking((1, 2, 3), annotator="bob")]).total == 2


def test_chance_agrees_half_of_the_time() -> None:
    rng = random.Random(0)
    rankings = [
        ranking(tuple(rng.sample(range(1, 5), 4)), prompt=str(number), annotator=name)
        for number in range(300)
        for name in ("ann", "bob")
    ]
    assert abs(agreement(rankings).share - 0.5) < 0.05


def test_clear_leaves_out_ties_and_what_cancels() -> None:
    rankings = [
        ranking((1, 2), "good"),
        ranking((2, 2), "tied"),
        ranking((1, 2), "both ways"),
        ranking((2, 1), "both ways", annotator="bob"),
        ranking((1, 2), "two to one"),
        ranking((1, 2), "two to one", annotator="bob"),
        ranking((2, 1), "two to one", annotator="cid"),
    ]
    found = clear(rankings)
    assert [r.conversation.messages[0].content for r in found.rankings] == ["good"] + ["two to one"] * 3
    assert (found.prompts, found.tied, found.undone, found.contradicted, found.pairs) == (2, 1, 2, 2, 3)


def test_the_same_text_twice_is_no_contradiction() -> None:
    pair = Ranking(Conversation.ask("q"), (Answer("x"), Answer("x")), (1, 2))
    assert clear([pair]).prompts == 0
