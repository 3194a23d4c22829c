"""The values that travel: JSON both ways, and every bad value refused in one line."""

from __future__ import annotations

import json

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
        (lambda: Sampling(temperature=float("nan")), "temperature nan"),
        (lambda: Sampling(top_k=-1), "top_k"),
        (lambda: Sampling(top_p=0), "top_p"),
        (lambda: Sampling(max_tokens=0), "max_tokens 0"),
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
