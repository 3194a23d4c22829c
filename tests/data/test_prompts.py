"""Conversations and rankings on disk: read as they were written, a bad line named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palmier.data.prompts import read_conversations, read_rankings, write_jsonl
from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Message, Ranking, Sampling

texts = st.one_of(st.text(max_size=20), st.just("half a \ud83e pair é"))
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts)
conversations = st.builds(lambda items: Conversation(tuple(items)), st.lists(messages, min_size=1, max_size=4))
answers = st.builds(
    Answer,
    texts,
    st.sampled_from(["", "0001"]),
    st.lists(st.integers(0, 9), max_size=4).map(tuple),
    st.just((-0.5,)),
    st.sampled_from(["stop", "length", "cancelled"]),
    st.builds(Sampling, st.sampled_from([0.0, 0.7]), seed=st.integers(0, 5)),
)
rankings = st.builds(
    Ranking, conversations, st.tuples(answers, answers, answers), st.just((2, 1, 1)), st.booleans(), st.just((2, 0, 1))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(conversations, min_size=1, max_size=4), st.lists(rankings, min_size=1, max_size=3))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, talks: list[Conversation], orders: list[Ranking]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    assert write_jsonl(folder / "talks.jsonl", talks) == len(talks)
    assert read_conversations(folder / "talks.jsonl") == talks
    assert write_jsonl(folder / "orders.jsonl", iter(orders)) == len(orders)
    assert read_rankings(folder / "orders.jsonl") == orders


def test_other_keys_of_a_conversation_are_ignored(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"messages": [{"role": "user", "content": "Hi"}], "source": "me"}])
    assert read_conversations(tmp_path / "a.jsonl") == [Conversation.ask("Hi")]


FINE = {"conversation": [{"role": "user", "content": "Hi"}], "answers": [{"text": "a"}, {"text": "b"}], "ranks": [1, 2]}


@pytest.mark.parametrize(
    ("read", "value", "said"),
    [
        (read_conversations, {"prompt": "Hi"}, 'no key "messages"'),
        (read_conversations, {"messages": []}, "non-empty list"),
        (read_conversations, {"messages": [{"role": "bot", "content": ""}]}, "'bot' is unknown"),
        (read_conversations, {"messages": [{"role": "user", "content": 3}]}, "must be text"),
        (read_rankings, FINE | {"ranks": [1]}, "must be 2 numbers"),
        (read_rankings, FINE | {"ranks": ["1", "2"]}, "wrong form"),
        (read_rankings, FINE | {"ranks": 3}, "wrong form"),
        (read_rankings, FINE | {"rank": [1, 2]}, "unknown key 'rank'"),
        (read_rankings, FINE | {"answers": [3, 4]}, "wrong form"),
        (read_rankings, FINE | {"answers": [{"text": "a"}]}, "2 to 9 answers"),
        (read_rankings, {"ranks": [1, 2], "answers": FINE["answers"]}, "non-empty list"),
        (read_rankings, {"conversation": FINE["conversation"], "answers": FINE["answers"]}, "must be 2 numbers"),
    ],
)
def test_a_bad_line_is_named(read: Any, value: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = FINE | {"messages": FINE["conversation"]} if read is read_conversations else FINE
    path.write_text(json.dumps(good) + "\n" + json.dumps(value) + "\n")
    with pytest.raises(Refusal) as refusal:
        read(path)
    assert str(refusal.value).startswith(f"{path}:2: ")
    assert said in str(refusal.value)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(Refusal, match=r"empty\.jsonl is empty"):
        read_rankings(tmp_path / "empty.jsonl")
    with pytest.raises(Refusal, match=r"cannot read .*gone\.jsonl"):
        read_conversations(tmp_path / "gone.jsonl")
    with pytest.raises(Refusal, match="cannot read"):
        read_conversations(tmp_path)
