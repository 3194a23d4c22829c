"""What PostgreSQL must do by itself: refuse changes, let one writer in at a time, say what is wrong in a line."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from palmier.cli.keep import backup
from palmier.errors import Refusal
from palmier.feedback import schema
from palmier.feedback.doctor import examine
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Message, Ranking
from palmier.workspace import Workspace

from .postgres import Cluster


def everything(store: Store) -> None:
    """A row in every table."""
    chat = store.new_conversation("ann")
    store.add_message(chat, Message("user", "x"))
    answer = store.add_message(chat, Message("assistant", "y\0z"))
    store.note(chat, title="x")
    pair = (Answer("a", tokens=(1,), logprobs=(-0.5,)), Answer("b"))
    store.add_ranking(Ranking(Conversation.ask("hello"), pair, (1, 2), annotator="ann"), "k")
    store.set_consent("ann", True, "words")
    store.undo("ann")
    store.set_label("ann", chat, answer, True)
    number, _ = store.write_better("ann", chat, answer, "better")
    store.withdraw("ann", "demonstration", number)
    store.note_uses("0002", [("demonstration", number)])
    gone = store.new_conversation("ann")
    store.add_message(gone, Message("user", "x"))
    store.remove(gone)


def test_the_database_itself_refuses_changes(postgresql: Cluster) -> None:
    import pg8000.dbapi

    address = postgresql.new_database()
    store = Store(address)
    everything(store)
    name = address.split("/")[3].partition("?")[0]
    for table in schema.metadata.tables:
        column = "conversation_id" if table == "removals" else next(iter(schema.metadata.tables[table].c)).name
        changes = (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE")
        for change in changes:
            with pytest.raises(pg8000.dbapi.DatabaseError, match="append-only"):
                postgresql.say(change, name)


def test_a_newer_schema_and_a_foreign_database_are_refused(
    postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = postgresql.new_database()
    Store(address).close()
    name = address.split("/")[3].partition("?")[0]
    postgresql.say("UPDATE alembic_version SET version_num = '0099'", name)
    with pytest.raises(Refusal, match="newer Palmier"):
        Store(address)
    other = postgresql.new_database()
    postgresql.say("CREATE TABLE songs (id int)", other.split("/")[3].partition("?")[0])
    with pytest.raises(Refusal, match="something else"):
        Store(other)
    monkeypatch.setenv("PALMIER_DATABASE", postgresql.new_database())
    with pytest.raises(Refusal, match="pg_dump"):
        backup(Path("copy"))


def test_the_migrations_make_the_tables_that_the_code_uses(postgresql: Cluster) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    store = Store(postgresql.new_database())
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_a_new_database_may_be_opened_by_many_at_once(postgresql: Cluster) -> None:
    address = postgresql.new_database()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            store = Store(address)
            store.add_ranking(Ranking(Conversation.ask("x"), (Answer("a"), Answer("b")), (1, 2)), "the same key")
            store.close()
        except BaseException as error:  # noqa: BLE001  # a thread's error must reach the test
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Store(address).count() == 1


def test_the_doctor_looks_and_changes_nothing(postgresql: Cluster, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    address = postgresql.new_database()
    name = address.split("/")[3].partition("?")[0]

    def problem() -> str:
        return next(examine(workspace, address)).problem

    assert problem() == ""
    tables = "SELECT 1 FROM pg_tables WHERE schemaname = 'public'"
    assert postgresql.say(tables, name) == [], "it made no tables"
    Store(address).close()
    assert problem() == ""
    postgresql.say("UPDATE alembic_version SET version_num = '0099'", name)
    assert "newer Palmier (schema 0099)" in problem()
    address = postgresql.url("nowhere")
    assert re.search("does not exist|whether the database exists", problem())
