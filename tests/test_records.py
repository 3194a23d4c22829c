"""The values that travel: JSON both ways, and every bad value refused in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Message, Ranking, Sampling

messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text())
conversations = st.lists(messages, min_size=1, max_size=4).map(lambda items: Conversation(tuple(items)))
samplings = st.builds(
    Sampling, st.floats(0, 2), st.integers(0, 50), st.floats(0.1, 1), st.integers(1, 99), st.integers(0, 2**40)
)
answers = st.builds(
    Answer,
    st.text(),
    st.text(),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.lists(st.floats(-9, 0), max_size=3).map(tuple),
    st.sampled_from(["stop", "length", "cancelled"]),
    samplings,
)


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    count = draw(st.integers(2, 9))
    return Ranking(
        draw(conversations),
        tuple(draw(st.lists(answers, min_size=count, max_size=count))),
        tuple(draw(st.lists(st.integers(1, count), min_size=count, max_size=count))),
        draw(st.booleans()),
        tuple(draw(st.permutations(range(count)))),
        draw(st.text()),
        draw(st.integers(0, 10**6)),
    )


@given(rankings())
def test_a_ranking_survives_json(ranking: Ranking) -> None:
    assert Ranking.from_json(json.loads(json.dumps(ranking.to_json()))) == ranking


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Message("robot", "x"), "role 'robot'"),
        (lambda: Message("user", 3), "must be text"),
        (lambda: Conversation.from_json([]), "non-empty list"),
        (lambda: Conversation.from_json([{"role": "user", "content": "a", "name": "b"}]), "exactly the keys"),
        (lambda: Sampling(temperature=-1), "temperature -1"),
        (lambda: Sampling(temperature="warm"), "temperature 'warm' is no number"),  # type: ignore[arg-type]
        (lambda: Sampling(temperature=True), "temperature True is no number"),
        (lambda: Sampling(seed="a"), "seed 'a' is no whole number"),  # type: ignore[arg-type]
        (lambda: Sampling(seed=1.5), "seed 1.5 is no whole number"),  # type: ignore[arg-type]
        (lambda: Sampling(max_tokens=2.5), "max_tokens 2.5 is no whole number"),  # type: ignore[arg-type]
        (lambda: Sampling(max_tokens=True), "max_tokens True is no whole number"),
        (lambda: Sampling(top_k=1.5), "top_k 1.5 is no whole number"),  # type: ignore[arg-type]
        (lambda: Sampling(logit_bias=((5.5, 1.0),)), "a token id is a whole number"),  # type: ignore[arg-type]
        (lambda: Sampling(logit_bias=((5, "a"),)), "a bias a number"),  # type: ignore[arg-type]
        (lambda: Sampling(logit_bias=((5,),)), "pairs"),  # type: ignore[arg-type]
        (lambda: Sampling(logit_bias=5), "pairs"),  # type: ignore[arg-type]
        (lambda: Sampling(temperature=float("nan")), "temperature nan"),
        (lambda: Sampling(top_k=-1), "top_k"),
        (lambda: Sampling(top_p=0), "top_p"),
        (lambda: Sampling(max_tokens=0), "max_tokens 0"),
        (lambda: Sampling(min_p=1), "min_p"),
        (lambda: Sampling(min_p=-0.1), "min_p"),
        (lambda: Sampling(repetition_penalty=0), "repetition_penalty"),
        (lambda: Sampling(repetition_penalty=float("inf")), "repetition_penalty"),
        (lambda: Sampling(presence_penalty=float("nan")), "presence_penalty"),
        (lambda: Sampling(frequency_penalty=101), "frequency_penalty"),
        (lambda: Sampling(logit_bias=((-1, 1.0),)), "logit_bias"),
        (lambda: Sampling(logit_bias=((1, 101.0),)), "logit_bias"),
        (lambda: Sampling(logit_bias=((1, 1.0), (1, 2.0))), "twice"),
        (lambda: Ranking(Conversation.ask("q"), (Answer("a"),), (1,)), "2 to 9 answers"),
        (lambda: Ranking(Conversation.ask("q"), (Answer("a"), Answer("b")), (1,)), "ranks must be"),
        (lambda: Ranking(Conversation.ask("q"), (Answer("a"), Answer("b")), (1, 2), shown=(0, 0)), "shown"),
        (lambda: Answer.from_json({"text": "a", "colour": 1}), "unknown key 'colour'"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(build, says: str) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        build()
    assert "\n" not in str(refused.value)


def test_sampling_survives_json_and_what_an_older_version_wrote_is_read() -> None:
    sampling = Sampling(0.7, 3, 0.9, 20, 5, 0.1, 1.2, 0.3, 0.4, ((7, -1.5), (9, 2.0)))
    answer = Answer("a", sampling=sampling)
    assert Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer
    old = {"temperature": 0.7, "top_k": 3, "top_p": 0.9, "max_tokens": 20, "seed": 5}
    assert Sampling.from_json(old) == Sampling(0.7, 3, 0.9, 20, 5)
    with pytest.raises(Refusal, match="unknown key 'top_q'"):
        Sampling.from_json({"top_q": 1})


def test_faithful_is_the_models_own_distribution_alone() -> None:
    assert Sampling(0.7, max_tokens=3, seed=9).faithful
    bent: list[dict[str, Any]] = [{"temperature": 0}, {"top_k": 1}, {"top_p": 0.9}, {"min_p": 0.1}]
    bent += [{"repetition_penalty": 1.1}, {"presence_penalty": 0.1}, {"frequency_penalty": 0.1}]
    for fields in [*bent, {"logit_bias": ((1, 0.5),)}]:
        assert not Sampling(**fields).faithful, fields
