"""Feedback as files: the field's forms out and in, Open-Assistant's trees, a bad line, constant memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palmier.cli import app
from palmier.data.prompts import read_conversations, write_jsonl
from palmier.errors import Refusal
from palmier.feedback import formats
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Demonstration, Label, Message, Ranking

ASK = [{"role": "user", "content": "hello"}]


def spoken(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home" / "feedback.sqlite")


def fill(store: Store) -> None:
    """Of each kind one thing with consent, and one without."""
    asked = Conversation.ask("hello")
    for who in ("ann", "bob"):
        ranking = Ranking(asked, (Answer("a"), Answer("b"), Answer("b"), Answer("c")), (2, 1, 1, 3), annotator=who)
        label = Label(asked, Answer("a"), False, who)
        better = Demonstration(asked, "d", Answer("a"), who)
        store.add_all([(f"{who} {number}", one) for number, one in enumerate((ranking, label, better))])
    store.set_consent("ann", True, "words")


def test_each_form_holds_what_may_be_used_and_nothing_else(store: Store, tmp_path: Path) -> None:
    fill(store)
    pairs = [*formats.lines(store, "preference")]
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [
        (spoken(better), spoken(worse)) for better, worse in ("ac", "ba", "bc", "ba", "bc", "da")
    ]
    assert {json.dumps(pair["prompt"]) for pair in pairs} == {json.dumps(ASK)}
    assert [*formats.lines(store, "unpaired")] == [{"prompt": ASK, "completion": spoken("a"), "label": False}]
    assert [*formats.lines(store, "messages")] == [{"messages": [*ASK, *spoken("d")]}]
    assert [line["annotator"] for line in formats.lines(store, "rankings")] == ["ann", "ann"]
    write_jsonl(tmp_path / "m.jsonl", formats.lines(store, "messages"))
    assert read_conversations(tmp_path / "m.jsonl") == [Conversation.ask("hello").reply("d")]


@pytest.mark.parametrize("form", ["rankings", "preference", "unpaired", "messages"])
def test_what_was_exported_can_be_imported(store: Store, tmp_path: Path, form: Any) -> None:
    fill(store)
    file = tmp_path / "out.jsonl"
    assert app.run(["feedback", "export", str(file), "--format", form, "--home", str(tmp_path / "home")]) == 0
    other = tmp_path / "other"
    assert app.run(["feedback", "import", str(file), "--consent", "--home", str(other)]) == 0
    again = tmp_path / "again.jsonl"
    assert app.run(["feedback", "export", str(again), "--format", form, "--home", str(other)]) == 0
    # The same two answers in two rankings are one preference.
    assert set(again.read_text().splitlines()) == set(file.read_text().splitlines()) != set()
    taken = formats.take(Store(other / "feedback.sqlite"), file, formats.name_of(file))
    assert taken.fresh == 0, "the same thing counts once"


@pytest.mark.parametrize(
    ("line", "item"),
    [
        ({"prompt": "hello", "chosen": "a", "rejected": "b"}, ("a", "b")),
        ({"prompt": ASK, "chosen": spoken("a"), "rejected": spoken("b")}, ("a", "b")),
        ({"chosen": [*ASK, *spoken("a")], "rejected": [*ASK, *spoken("b")], "score": 3}, ("a", "b")),
        ({"prompt": "hello", "completion": "a", "label": True}, True),
        ({"messages": [*ASK, *spoken("a")]}, "a"),
    ],
)
def test_the_forms_that_are_read(line: dict[str, Any], item: Any) -> None:
    (one,) = formats.read(line, "imported")
    assert one.conversation == Conversation.ask("hello")
    assert one.annotator == "imported"
    if isinstance(one, Ranking):
        assert (tuple(answer.text for answer in one.answers), one.ranks) == (item, (1, 2))
    else:
        assert (one.good if isinstance(one, Label) else one.text) == item


def node(text: str, role: str, *replies: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"text": text, "role": role, "replies": list(replies), "message_id": text, "lang": "en"} | fields


TREE = {
    "message_tree_id": "x",
    "tree_state": "ready_for_export",
    "prompt": node(
        "hello",
        "prompter",
        node("worst", "assistant", rank=2),
        node(
            "best",
            "assistant",
            node(
                "more",
                "prompter",
                node("second", "assistant", rank=1),
                node("spam", "assistant", rank=0, deleted=True),
                node("first", "assistant", rank=0),
                node("refused", "assistant", rank=2, review_result=False),
            ),
            node("alone", "prompter", node("only", "assistant", rank=0)),
            rank=0,
        ),
        node("unranked", "assistant", rank=None),
    ),
}


def test_open_assistants_trees(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "trees.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as handle:
        handle.write(json.dumps(TREE) + "\n" + json.dumps({"prompt": node("nothing", "prompter")}) + "\n")
    taken = formats.take(store, file, "imported")
    assert (taken.total, taken.fresh, taken.empty, taken.annotators) == (2, 2, 1, frozenset({"open-assistant"}))
    assert store.training_rankings() == [], "not without consent"
    store.set_consent("open-assistant", True, "words")
    first, second = store.training_rankings()
    assert [answer.text for answer in first.answers] == ["best", "worst"]
    assert (first.conversation, first.ranks) == (Conversation.ask("hello"), (1, 3))
    assert second.conversation.messages == (
        Message("user", "hello"),
        Message("assistant", "best"),
        Message("user", "more"),
    )
    assert ([answer.text for answer in second.answers], second.ranks) == (["first", "second"], (1, 2))


DEEP: Any = node("x", "prompter")
for _ in range(30):
    DEEP = node("x", "prompter", node("y", "assistant", DEEP, rank=1), node("z", "assistant", rank=0))


def test_a_deep_tree() -> None:
    assert len(formats.read({"prompt": DEEP}, "")) == 30


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ({"colour": 1}, "colour"),
        ({"ranks": [1]}, "conversation"),
        ({"prompt": "x", "chosen": 3, "rejected": "b"}, "conversation"),
        ({"prompt": spoken("x"), "chosen": "a", "rejected": "b"}, "user"),
        ({"prompt": "x", "chosen": [*ASK, *spoken("a")], "rejected": "b"}, "chosen"),
        ({"chosen": [*ASK, *spoken("a")], "rejected": [*spoken("c"), *spoken("b")]}, "different"),
        ({"prompt": "x", "completion": "a", "label": "yes"}, "true or false"),
        ({"completion": "a", "label": True}, "conversation"),
        ({"messages": ASK}, "no answer"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
        ({"prompt": node("x", "robot")}, "robot"),
        (
            {"prompt": node("x", "prompter", node("a", "assistant", rank="best"), node("b", "assistant", rank=1))},
            "rank",
        ),
        ({"prompt": node("x", "prompter") | {"replies": 3}}, "replies"),
        ({"prompt": node("x", "prompter") | {"text": 3}}, "text"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_taken(store: Store, tmp_path: Path, line: Any, word: str) -> None:
    good = {"prompt": "hello", "chosen": "a", "rejected": "b"}
    file = tmp_path / "bad.jsonl"
    write_jsonl(file, [good] * 300 + [line])
    with pytest.raises(Refusal, match=rf"bad\.jsonl:301: .*{word}"):
        formats.take(store, file, "imported")
    assert store.count() == 0


def test_a_packed_file_that_is_cut_off(store: Store, tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(TREE).encode() * 50)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.jsonl.gz").write_bytes(b"plain")
    for name in ("cut", "none"):
        with pytest.raises(Refusal, match=rf"{name}\.jsonl\.gz:1: .*damaged"):
            formats.take(store, tmp_path / f"{name}.jsonl.gz", "imported")


def many(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"prompt": f"question {number}", "chosen": "a" * 300, "rejected": "b" * 300}


@pytest.mark.long
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (500, 4000):
        store = Store(tmp_path / f"{count}.sqlite")
        store.set_consent("imported", True, "words")
        file = tmp_path / f"{count}.jsonl"
        write_jsonl(file, many(count))
        tracemalloc.start()
        formats.take(store, file, "imported")
        assert write_jsonl(tmp_path / "out.jsonl", formats.lines(store, "preference")) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        store.close()
    assert peaks[1] < 1.3 * peaks[0] + 200_000, peaks
