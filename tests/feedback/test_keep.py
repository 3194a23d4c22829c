"""Backup while others write, the doctor's findings, and what a store does where it can't go on."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from palmier.cli import app
from palmier.errors import Refusal, Unable
from palmier.feedback import database
from palmier.feedback.store import Store, open_store
from palmier.records import Answer, Conversation, Message, Ranking
from palmier.versions import Versions
from palmier.workspace import Workspace


def ranking(number: int) -> Ranking:
    return Ranking(Conversation.ask(str(number)), (Answer("a" * 2000), Answer("b")), (1, 2), annotator="ann")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def busy(workspace: Workspace) -> Iterator[list[int]]:
    """A store to which somebody adds without a pause; the numbers of what was confirmed."""
    store, confirmed, ended = Store(workspace.store), [0], threading.Event()
    store.add_ranking(ranking(0), "0")

    def work() -> None:
        while not ended.is_set():
            store.add_ranking(ranking(confirmed[-1] + 1), str(confirmed[-1] + 1))
            confirmed.append(confirmed[-1] + 1)

    thread = threading.Thread(target=work)
    thread.start()
    yield confirmed
    ended.set()
    thread.join()


def test_a_backup_is_whole_while_others_write(workspace: Workspace, busy: list[int], tmp_path: Path) -> None:
    target = tmp_path / "copies" / "copy.sqlite"
    for _ in range(5):
        before = busy[-1]
        assert app.run(["backup", str(target), "--home", str(workspace.home)]) == 0
        assert [path.name for path in target.parent.iterdir()] == ["copy.sqlite"], "one file, nothing beside it"
        copy = Store(target)
        assert before + 1 <= copy.count() <= busy[-1] + 2
        copy.close()
        with sqlite3.connect(target) as connection:
            assert database.problems(connection) == []
            connection.execute("PRAGMA journal_mode=DELETE")


def test_a_backup_that_fails_leaves_the_old_one(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--home", str(workspace.home)]
    target = tmp_path / "copy.sqlite"
    assert app.run(["backup", str(target), *at]) == 2
    assert "holds no feedback yet" in capsys.readouterr().err
    store = Store(workspace.store)
    store.add_ranking(ranking(0), "0")
    assert app.run(["backup", str(workspace.store), *at]) == 2
    assert "the store itself" in capsys.readouterr().err
    assert app.run(["backup", str(target), *at]) == 0
    before = target.read_bytes()
    # Not a whole copy: a page of the store is damaged.
    store.close()
    with workspace.store.open("r+b") as handle:
        handle.seek(8 * 4096)
        handle.write(b"\xff" * 4096)
    assert app.run(["backup", str(target), *at]) == 2
    assert "could not be copied" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.sqlite", "home"]


def findings(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = app.run(["doctor", "--home", str(workspace.home)])
    return status, capsys.readouterr().out


def test_the_doctor(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(workspace, capsys)[0] == 1, "there is no home"
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "weights").write_text("whole")
    versions = Versions(workspace)
    version = versions.add(model, label="first")
    versions.promote(version.name)
    store = Store(workspace.store)
    chat = store.new_conversation()
    store.add_message(chat, Message("user", "x"))
    store.add_message(chat, Message("assistant", "y"))
    status, said = findings(workspace, capsys)
    assert (status, said.splitlines()[-1]) == (0, "Everything is whole.")

    (version.folder / "weights").write_text("changed")
    (workspace.versions / "0007").mkdir()
    (workspace.versions / ".partial-999999999-1-0002").mkdir()
    workspace.draws.mkdir()
    (workspace.draws / ".partial-999999999-1-y.json").write_text("")  # of a killed server: the next one clears it
    (workspace.draws / "x.json").write_text("no")
    with sqlite3.connect(workspace.store) as connection:
        connection.execute(
            "INSERT INTO answers (text, version, seed, sampling, finish, tokens, logprobs) "
            "VALUES ('', '', '0', '{}', 'stop', '[]', '[]')"
        )
        connection.execute("INSERT INTO withdrawals (ranking_id, created) VALUES (77, 'now')")
    status, said = findings(workspace, capsys)
    assert status == 1
    for word in (
        "0001 is damaged",
        "no card",
        "half written",
        "x.json",
        "belong to no message",
        "of withdrawals refers",
    ):
        assert word in said, word
    assert "6 problems found." in said


def test_the_doctor_names_a_damaged_store(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(workspace.store)
    for number in range(20):
        store.add_ranking(ranking(number), str(number))
    store.close()
    with workspace.store.open("r+b") as handle:
        handle.seek(10 * 4096)
        handle.write(b"\xff" * 4096 * 4)
    status, said = findings(workspace, capsys)
    assert status == 1
    assert "✗ the store" in said
    workspace.store.write_bytes(b"not a database" * 1000)
    status, said = findings(workspace, capsys)
    assert status == 1
    assert "can't be read" in said


def test_the_doctor_names_a_newer_schema(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    Store(workspace.store).close()
    with sqlite3.connect(workspace.store) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    status, said = findings(workspace, capsys)
    assert status == 1
    assert "newer Palmier (schema 0099)" in said


def test_a_locked_database_is_one_line_and_goes_on_afterwards(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    store = Store(workspace.store)
    store.add_ranking(ranking(0), "0")
    with sqlite3.connect(workspace.store, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unable, match=r"locked by another program: .*nothing was changed"):
            store.add_ranking(ranking(1), "1")
        assert store.count() == 1, "who reads does not wait"
        other.execute("COMMIT")
    store.add_ranking(ranking(1), "1")
    assert store.count() == 2


def test_a_disk_without_room_is_one_line_and_loses_nothing(workspace: Workspace) -> None:
    store = Store(workspace.store)
    confirmed: list[int] = []
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    store.close()
    from sqlalchemy import event

    @event.listens_for(store._engine, "connect")
    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")

    def fill() -> None:
        for number in range(1000):
            store.add_ranking(ranking(number), str(number))
            confirmed.append(number)

    with pytest.raises(Unable, match="the disk is full: make room and try again; nothing was changed"):
        fill()
    assert len(confirmed) > 5
    other = Store(workspace.store)
    assert other.count() == len(confirmed)
    other.add_ranking(ranking(1000), "after")
    with sqlite3.connect(workspace.store) as raw:
        assert database.problems(raw) == []


def test_an_address_that_is_none_is_one_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for address, word in (
        ("mysql://x@y/z", "kind mysql"),
        ("no address", "can't be read"),
        ("postgresql://palmier:secret@/nowhere?host=/nonexistent", "can't be used"),
    ):
        monkeypatch.setenv("PALMIER_DATABASE", address)
        if address.startswith("postgresql"):
            pytest.importorskip("pg8000")
        with pytest.raises(Refusal, match=word) as refused:
            open_store(workspace)
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_backup_of_an_older_store_is_that_store(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    workspace.home.mkdir()
    with sqlite3.connect(workspace.store) as connection:
        connection.executescript((Path(__file__).parent / "released" / "0002.sql").read_text("utf-8"))
    assert app.run(["backup", str(tmp_path / "copy.sqlite"), "--home", str(workspace.home)]) == 0
    for path in (workspace.store, tmp_path / "copy.sqlite"):
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0002",), path
