"""A store that each released schema wrote is brought up with everything that is in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from palmier.errors import Refusal
from palmier.feedback import database
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Message, Ranking, Sampling

RELEASED = Path(__file__).parent / "released"
"""Stores as those Palmiers wrote them, dumped as SQL: the same conversations and rankings in each."""

DRAWN = Answer("Dear Ann", "0001", (5, 7, 2), (-0.1, -2.25, -1e-9), "length", Sampling(0.9, 40, 0.95, 3, 2**63 + 11))


def ranking(prompt: str, annotator: str, ranks: tuple[int, ...]) -> Ranking:
    answers = (DRAWN, Answer("Hi — ✓"), Answer(""))
    return Ranking(Conversation.ask(prompt), answers, ranks, False, (2, 0, 1), annotator, 1234)


@pytest.fixture(params=["0001", "0002"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "feedback.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((RELEASED / f"{request.param}.sql").read_text("utf-8"))
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found == (request.param,)
    return path


def test_everything_is_there_and_linear_conversations_are_trees(old: Path) -> None:
    store = Store(old)
    # Ann said yes, Bob no; Ann's second ranking was undone.
    assert store.training_rankings() == [ranking("Write to Ann.", "ann", (2, 1, 2))]
    assert (store.count(), store.count("ann"), store.count("bob")) == (2, 1, 1)
    assert (store.consent("ann"), store.consent("bob"), store.consent("cid")) == (True, False, None)
    assert store.consented("ann") == (True, 1), "it was asked for rankings alone"
    first, second = 1, 2
    assert [(chat.id, chat.title) for chat in store.conversations("ann")] == [
        (second, "Straße?"),
        (first, "Hello there"),
    ]
    tree = store.tree(first)
    contents = {one.id: one.message.content for one in tree.messages}
    assert [(contents.get(one.parent or 0), one.message.content) for one in tree.messages] == [
        (None, "Be brief."),
        ("Be brief.", "Hello\n there"),
        ("Hello\n there", "Dear Ann"),
        ("Hello\n there", "second try"),
        ("second try", "More"),
        ("More", "third"),
    ]
    assert [one.answer for one in tree.messages[2:4]] == [DRAWN, Answer("second try")]
    assert store.conversation(first) == Conversation(
        (
            Message("system", "Be brief."),
            Message("user", "Hello\n there"),
            Message("assistant", "second try"),
            Message("user", "More"),
            Message("assistant", "third"),
        )
    )
    assert [chat.id for chat in store.conversations("ann", "STRASSE")] == [second], "old messages are found too"
    # What came with the new schema works on what came before it.
    store.set_label("ann", first, tree.messages[3].id, True)
    store.write_better("ann", first, tree.messages[5].id, "better")
    store.remove(second)
    assert [chat.id for chat in store.conversations("ann")] == [first]
    store.close()
    with sqlite3.connect(old) as connection:
        assert database.problems(connection) == []
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (database.revisions()[0],)
        for table in ("messages", "rankings", "answers", "conversations"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(f"DELETE FROM {table}")


def test_a_migration_that_fails_changes_nothing(old: Path) -> None:
    with sqlite3.connect(old) as connection:
        before = list(connection.iterdump())
        connection.execute("CREATE TABLE notes (id)")
    with pytest.raises(Refusal, match="can't be used"):
        Store(old)
    with sqlite3.connect(old) as connection:
        connection.execute("DROP TABLE notes")
        assert list(connection.iterdump()) == before
