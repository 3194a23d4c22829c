"""Ranked groups: who beats whom, the very tokens that were drawn, each prompt once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palmier.data.pairs import RankedGroups
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Ranking


def ranking(prompt: str, *ranks: int, texts: tuple[str, ...] = (), all_bad: bool = False) -> Ranking:
    texts = texts or tuple(f"Answer {n}" + "." * n for n in range(len(ranks)))
    return Ranking(Conversation.ask(prompt), tuple(Answer(text) for text in texts), ranks, all_bad)


def test_golden_group(template: Template) -> None:
    groups = RankedGroups([ranking("Hi", 2, 1, 2, 3)], template, 64)
    batch = groups.batch(0)
    prompt = template.prompt(Conversation.ask("Hi"))
    assert groups.length % 16 == 0
    assert batch["tokens"].shape == (1, 4, groups.length)
    for column in range(4):
        answer = [*template.tokenizer.encode(f"Answer {column}" + "." * column), template.stop_ids[0]]
        end = len(prompt) + len(answer)
        assert batch["tokens"][0, column, :end].tolist() == prompt + answer
        assert batch["answer_mask"][0, column].nonzero().flatten().tolist() == list(range(len(prompt), end))
        assert batch["targets"][0, column, len(prompt) - 1 : end - 1].tolist() == answer
        assert (batch["targets"][0, column] != -100).sum() == len(answer)
        assert batch["last"][0, column] == end - 1
        assert batch["tokens"][0, column, batch["last"][0, column]] == template.stop_ids[0]
    chosen_and_rejected = batch["weights"][0].nonzero().tolist()
    assert chosen_and_rejected == [[0, 3], [1, 0], [1, 2], [1, 3], [2, 3]]
    assert batch["weights"][0][1, 0] == pytest.approx(1 / 5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 4), min_size=2, max_size=5)), min_size=1, max_size=7
    )
)
def test_each_prompt_counts_once_and_ties_not_at_all(
    template: Template, given_ranks: list[tuple[str, list[int]]]
) -> None:
    rankings = [ranking(prompt, *ranks) for prompt, ranks in given_ranks]
    ordered = [one for one in rankings if len(set(one.ranks)) > 1]
    if not ordered:
        with pytest.raises(Refusal, match="all are ties"):
            RankedGroups(rankings, template, 64)
        return
    groups = RankedGroups(rankings, template, 64, batch=2, seed=1)
    assert len(groups) == len(ordered)
    assert groups.without_pairs == len(rankings) - len(ordered)
    total: dict[Conversation, float] = {}
    seen = []
    for step in range(groups.steps_per_epoch):
        batch = groups.batch(step)
        assert batch["tokens"].shape == (2, groups.width, groups.length)
        for number, weights, last in zip(batch["group"].tolist(), batch["weights"], batch["last"], strict=True):
            if number < 0:
                assert not weights.any()
                assert not last.any()
                continue
            seen.append(number)
            one = ordered[number]
            total[one.conversation] = total.get(one.conversation, 0.0) + float(weights.sum())
            for i, j in weights.nonzero().tolist():
                assert one.ranks[i] < one.ranks[j]
            beaten = sum(a < b for a in one.ranks for b in one.ranks)
            assert len(weights.nonzero()) == beaten
    assert sorted(seen) == list(range(len(ordered)))
    assert all(weight == pytest.approx(1.0) for weight in total.values())


def test_drawn_tokens_are_never_encoded_again(template: Template) -> None:
    split = tuple(token for letter in "harbour" for token in template.tokenizer.encode(letter))
    assert list(split) != template.tokenizer.encode("harbour")
    drawn = Answer("harbour", "0001", (*split, template.stop_ids[0]))
    cut = Answer("harbour", "0001", split, finish="length")
    groups = RankedGroups([Ranking(Conversation.ask("Hi"), (drawn, cut), (1, 2))], template, 64)
    batch = groups.at([0])
    assert batch["tokens"][0, 0][batch["answer_mask"][0, 0]].tolist() == [*split, template.stop_ids[0]]
    assert batch["tokens"][0, 1][batch["answer_mask"][0, 1]].tolist() == list(split)


def test_tokens_of_another_tokenizer_are_refused(template: Template) -> None:
    def one(text: str, tokens: tuple[int, ...]) -> Ranking:
        return Ranking(Conversation.ask("Hi"), (Answer(text, "0001", tokens), Answer("b")), (1, 2))

    foreign = tuple(template.tokenizer.encode("something else"))
    with pytest.raises(Refusal, match=r"ranking 2: the tokens of an answer of version '0001'"):
        RankedGroups([ranking("a", 1, 2), one("Hello", foreign)], template, 64)
    with pytest.raises(Refusal, match="tokens of an answer"):
        RankedGroups([one("Hello", (999_999,))], template, 64)
    more_than_its_text = tuple(template.tokenizer.encode("Hello\nUser:"))  # a stop string cut the text
    assert len(RankedGroups([one("Hello", more_than_its_text)], template, 64)) == 1


def test_too_long_answers_are_left_out_and_counted(template: Template) -> None:
    long = "word " * 60
    some = [
        ranking("Hi", 1, 2, 3, texts=("a", long, "b")),
        ranking("Ho", 1, 2, texts=("a", long)),
        ranking("Ha", 1, 1, 2, texts=("a", "b", long)),
    ]
    groups = RankedGroups(some, template, 70)
    assert (len(groups), groups.too_long, groups.without_pairs) == (1, 3, 2)
    assert groups.length <= 64
    assert groups.at([0])["weights"][0].nonzero().tolist() == [[0, 1]]
    with pytest.raises(Refusal, match=r"no comparison in 1 rankings: 1 answers are longer than 64 tokens"):
        RankedGroups(some[1:2], template, 70)


def test_all_ties_and_no_rankings_are_refused(template: Template) -> None:
    with pytest.raises(Refusal, match="no comparison in 2 rankings"):
        RankedGroups([ranking("Hi", 1, 1), ranking("Ho", 2, 2, 2)], template, 64)
    with pytest.raises(Refusal, match="no comparison in 0 rankings"):
        RankedGroups([], template, 64)


def test_one_ranking_and_contradicting_ones_are_data_too(template: Template) -> None:
    assert RankedGroups([ranking("Hi", 1, 2)], template, 64).steps_per_epoch == 1
    both = RankedGroups([ranking("Hi", 1, 2), ranking("Hi", 2, 1)], template, 64, batch=2).batch(0)
    assert both["weights"].sum(0).tolist() == [[0.0, 0.5], [0.5, 0.0]]


def test_all_bad_keeps_the_order_between_the_bad(template: Template) -> None:
    marked, plain = (RankedGroups([ranking("Hi", 2, 1, all_bad=bad)], template, 64).at([0]) for bad in (True, False))
    assert torch.equal(marked["weights"], plain["weights"])


def test_a_conversation_that_ends_with_an_answer_is_refused(template: Template) -> None:
    ended = Ranking(Conversation.ask("Hi").reply("Yes?"), (Answer("a"), Answer("b")), (1, 2))
    with pytest.raises(Refusal, match="ranking 1: the last message is the assistant's"):
        RankedGroups([ended], template, 64)


def test_the_same_seed_and_step_give_the_same_batch(template: Template) -> None:
    some = [ranking(f"Prompt {n}", 1, 2, 3) for n in range(7)]
    first, again, other = (RankedGroups(some, template, 64, batch=3, seed=seed) for seed in (0, 0, 1))
    steps = [first.batch(step) for step in range(6)]
    for step in (5, 0, 3):
        assert all(torch.equal(again.batch(step)[name], steps[step][name]) for name in steps[step])
    assert [other.batch(step)["group"].tolist() for step in range(3)] != [one["group"].tolist() for one in steps[:3]]
