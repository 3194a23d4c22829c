"""Conversations as trees: branches, notes, search, removal, files; on either database."""

from __future__ import annotations

import itertools
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from palmier.errors import Refusal
from palmier.feedback import exchange, rows
from palmier.feedback.store import ROOT, Store
from palmier.records import Answer, Conversation, Message, Ranking

XSS = '<script>alert(1)</script><img src=x onerror="alert(2)">[x](javascript:alert(3))'


def user(text: str) -> Message:
    return Message("user", text)


def said(store: Store, chat: int, text: str, version: str = "0001", under: int | None = None) -> int:
    return store.add_message(chat, Message("assistant", text), Answer(text, version), under)


def talk(store: Store, annotator: str = "ann") -> tuple[int, list[int]]:
    """hello → one | two; two → more → three; and an edited beginning, HELLO → four."""
    chat = store.new_conversation(annotator)
    hello = store.add_message(chat, user("hello"))
    one, two = said(store, chat, "one", "0001", hello), said(store, chat, "two", "0002", hello)
    more = store.add_message(chat, user("more"), under=two)
    three = said(store, chat, "three", "0001", more)
    edited = store.add_message(chat, user("HELLO"), under=ROOT)
    four = said(store, chat, "four", "0001", edited)
    return chat, [hello, one, two, more, three, edited, four]


def spoken(store: Store, chat: int) -> list[str]:
    return [message.content for message in store.conversation(chat).messages]


def test_edits_and_branches(place: Path | str) -> None:
    store = Store(place)
    chat, (hello, one, two, _, three, edited, _) = talk(store)
    assert spoken(store, chat) == ["HELLO", "four"]
    tree = store.tree(chat)
    assert [child.id for child in tree.children(None)] == [hello, edited]
    assert [child.id for child in tree.children(hello)] == [one, two]
    assert store.choose(chat, hello) == three, "the newest end of the branch"
    assert spoken(store, chat) == ["hello", "two", "more", "three"]
    assert store.choose(chat, one) == one
    assert spoken(store, chat) == ["hello", "one"]
    store.add_message(chat, user("and?"))
    assert spoken(store, chat) == ["hello", "one", "and?"], "what is added goes on from the chosen branch"
    for number, word in ((99, "no message 99"), (0, "no message 0")):
        with pytest.raises(Refusal, match=word):
            store.choose(chat, number)
    with pytest.raises(Refusal, match="not another answer"):
        said(store, chat, "five", under=one)


def test_a_branch_is_gone_back_to_where_one_stood_in_it(place: Path | str) -> None:
    store = Store(place)
    chat, (hello, one, two, _, three, edited, four) = talk(store)
    assert store.choose(chat, one) == one
    assert store.choose(chat, edited) == four
    assert store.choose(chat, hello) == one, "it was gone to after all of it was said"
    newer = said(store, chat, "newer", under=hello)
    assert store.choose(chat, edited) == four
    assert store.choose(chat, hello) == newer, "what was said since counts"
    more = store.add_message(chat, user("more"), under=one)
    said(store, chat, "newest", under=hello)
    store.choose(chat, one)
    store.choose(chat, edited)
    assert store.choose(chat, hello) == more
    assert store.choose(chat, two) == three


def test_what_an_answer_continues(place: Path | str) -> None:
    store = Store(place)
    chat, (hello, _, _, more, _, _, _) = talk(store)
    tree = store.tree(chat)

    def texts(to: int, version: str | None = None) -> list[str]:
        return [message.content for message in tree.thread(to, version).messages]

    assert texts(more) == ["hello", "two", "more"]
    assert texts(more, "0001") == ["hello", "one", "more"], "a version goes on from its own words"
    assert texts(more, "0003") == ["hello", "two", "more"]
    store.note(chat, settings={"system": "Be brief.", "temperature": 0.1})
    tree = store.tree(chat)
    assert tree.thread(hello) == Conversation((Message("system", "Be brief."), user("hello")))
    assert tree.settings["temperature"] == 0.1


def test_titles_folders_and_pins(place: Path | str) -> None:
    store = Store(place)
    first, second, third = (talk(store)[0] for _ in range(3))
    assert [chat.id for chat in store.conversations("ann")] == [third, second, first]
    store.note(first, title="Letters", folder="work", pinned=True)
    store.note(second, title="draft", folder="work")
    store.note(second, title="Poems")
    listed = store.conversations("ann")
    assert [(chat.id, chat.title, chat.folder, chat.pinned) for chat in listed] == [
        (first, "Letters", "work", True),
        (third, "hello", "", False),
        (second, "Poems", "work", False),
    ]
    store.note(first, pinned=False, folder="")
    assert [chat.id for chat in store.conversations("ann", folder="work")] == [second]
    assert store.conversations("ann", pinned=True) == []
    with pytest.raises(Refusal, match="colour"):
        store.note(first, colour="red")
    with pytest.raises(Refusal, match="no conversation 99"):
        store.note(99, title="x")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("strasse", [1]),
        ("STRASSE", [1]),
        ("Straße", [1]),
        ("ÉTÉ", [2]),
        ("100%", [3]),
        ("0%0", []),
        ("a_b", [3]),
        ("a%b", []),
        ("letters", [2]),
        ("", [3, 2, 1]),
        ("' OR 1=1 --", []),
        ("'; DROP TABLE messages; --", []),
        ("\\", []),
        ("東京", [3]),
    ],
)
def test_search(place: Path | str, search: str, found: list[int]) -> None:
    store = Store(place)
    for text in ("Wo ist die Straße?", "un été", "100% of a_b in 東京"):
        chat = store.new_conversation("ann")
        store.add_message(chat, user("x"))
        said(store, chat, text)
    store.note(2, title="Letters")
    other = store.new_conversation("bob")
    store.add_message(other, user("strasse été 100% a_b 東京 letters"))
    assert [chat.id for chat in store.conversations("ann", search)] == found
    assert len(store.conversations("bob")) == 1


def test_a_removed_conversation_is_gone_and_what_was_said_of_it_stays(place: Path | str) -> None:
    store = Store(place)
    chat, (_, one, _, _, three, _, _) = talk(store)
    store.set_consent("ann", True, "words")
    ranking = Ranking(Conversation.ask("hello"), (Answer("one"), Answer("two")), (1, 2), annotator="ann")
    store.add_ranking(ranking, "k")
    store.set_label("ann", chat, one, True)
    store.write_better("ann", chat, three, "a better one")
    kept = [*store.training_rankings()], [*store.training_labels()], [*store.training_demonstrations()]
    store.note(chat, title="a secret title")
    store.remove(chat)
    assert ([*store.training_rankings()], [*store.training_labels()], [*store.training_demonstrations()]) == kept
    assert [label.conversation for label in kept[1]] == [Conversation.ask("hello")]
    for call in (store.tree, store.remove, store.messages):
        with pytest.raises(Refusal, match=f"no conversation {chat}"):
            call(chat)
    with pytest.raises(Refusal, match="no conversation"):
        store.add_message(chat, user("x"))
    assert store.conversations("ann") == store.conversations("ann", "hello") == []
    assert store.new_conversation("ann") > chat, "a number is never given again"
    if isinstance(place, Path):
        with sqlite3.connect(place) as connection:
            texts = {text for (text,) in connection.execute("SELECT text FROM answers")}
        assert texts == {"one", "two", "three"}, "the others belonged to nobody"


def test_what_was_removed_is_not_in_the_files_any_more(tmp_path: Path) -> None:
    store = Store(tmp_path / "feedback.sqlite")
    chat = store.new_conversation()
    store.add_message(chat, user("my secret question"))
    said(store, chat, "my secret answer")
    store.note(chat, title="my secret title")
    assert any(b"my secret" in path.read_bytes() for path in tmp_path.iterdir())
    store.remove(chat)
    assert not any(b"my secret" in path.read_bytes() for path in tmp_path.iterdir())


def test_the_database_lets_only_removed_messages_go(tmp_path: Path) -> None:
    store = Store(tmp_path / "feedback.sqlite")
    first, second = talk(store)[0], talk(store)[0]
    store.note(first, title="x")
    store.remove(second)
    with sqlite3.connect(tmp_path / "feedback.sqlite") as connection:
        for table in ("messages", "notes", "answers", "removals", "conversations"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(f"DELETE FROM {table}")


def test_a_conversation_comes_back_from_its_file(place: Path | str) -> None:
    store = Store(place)
    chat, numbers = talk(store)
    said(store, chat, XSS, under=numbers[0])
    store.choose(chat, numbers[3])
    store.note(chat, title=XSS, folder="work", pinned=True, settings={"system": XSS, "top_k": 3})
    file = json.loads(exchange.dump(store.tree(chat)))
    taken = exchange.from_json(file)
    again = store.add_tree("bob", taken.messages, taken.notes, taken.created)
    assert exchange.to_json(store.tree(again)) == file
    assert spoken(store, again) == spoken(store, chat) == ["hello", "two", "more", "three"]
    assert store.conversations("bob")[0].title == XSS, "markup stays text"
    assert [stored.answer.version for stored in store.messages(again) if stored.answer][:2] == ["0001", "0002"]
    text = exchange.to_markdown(store.tree(again), "Hello")
    for part in ("# Hello", "hello", "‹2/3›", "## 6 · You ‹2/2›", "· after 1", XSS):
        assert part in text


GOOD: dict[str, Any] = {
    "format": "palmier conversation",
    "version": 1,
    "messages": [
        {"id": 1, "parent": None, "role": "user", "content": "hello"},
        {"id": 2, "parent": 1, "role": "assistant", "content": "hi", "model": "0001", "finish": "stop"},
    ],
}


def message(**changes: Any) -> dict[str, Any]:
    return GOOD | {"messages": [GOOD["messages"][0], GOOD["messages"][1] | changes]}


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ([], "no conversation"),
        ({}, "no conversation"),
        (GOOD | {"version": 2}, "version is 2"),
        (GOOD | {"colour": 1}, "colour"),
        (GOOD | {"messages": []}, "no messages"),
        (GOOD | {"messages": [GOOD["messages"][0]] * 10_001}, "at most 10000"),
        (message(parent=2), "circle"),
        (message(parent=7), "missing"),
        (
            GOOD | {"messages": [{"id": 1, "parent": 2, "role": "user", "content": "x"}, *GOOD["messages"][1:]]},
            "circle",
        ),
        (message(parent="1"), "parent"),
        (message(id=1), "id 1"),
        (message(id="x"), "id 'x'"),
        (message(role="robot"), "robot"),
        (message(content=None), "text"),
        (message(content="half a \ud83d"), "half of a character"),
        (GOOD | {"title": "\ud83d"}, "half of a character"),
        (message(content="x" * 200_001), "200001"),
        (message(finish="bored"), "finish"),
        (message(colour=1), "keys"),
        (message(created="yesterday"), "yesterday"),
        (GOOD | {"leaf": 3}, "leaf"),
        (GOOD | {"title": 3}, "title"),
        (GOOD | {"title": "x" * 201}, "title"),
        (GOOD | {"messages": [*GOOD["messages"], GOOD["messages"][1] | {"id": 3, "parent": 2}]}, "not another answer"),
    ],
)
def test_a_bad_file_is_refused_and_names_the_place(file: Any, word: str) -> None:
    with pytest.raises(Refusal, match=word):
        exchange.from_json(file)
    exchange.from_json(GOOD)


def test_a_clock_that_goes_backwards_changes_no_order(place: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(23, -1)
    monkeypatch.setattr(rows, "now", lambda: f"2026-01-01T{next(hours) % 24:02}:00:00.000+00:00")
    store = Store(place)
    chat, numbers = talk(store)
    store.note(chat, title="first")
    store.note(chat, title="second")
    store.set_consent("ann", False, "words")
    store.set_consent("ann", True, "words")
    store.set_label("ann", chat, numbers[1], True)
    store.set_label("ann", chat, numbers[1], False)
    newer = store.new_conversation("ann")
    store.add_message(newer, user("later"))
    assert [one.id for one in store.conversations("ann")] == [newer, chat]
    assert store.conversations("ann")[1].title == "second"
    assert [label.good for label in store.training_labels()] == [False]
    assert spoken(store, chat) == ["HELLO", "four"]
