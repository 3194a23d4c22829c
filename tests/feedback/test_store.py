"""The store keeps what was confirmed, changes nothing, and lets no unwilling ranking through."""

from __future__ import annotations

import contextlib
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from palmier.errors import Refusal
from palmier.feedback import schema
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Message, Ranking, Sampling

WORDS = "May your rankings be used for training?"


def ranking(prompt: str = "Write to Ann.", annotator: str = "ann", ranks: tuple[int, ...] = (2, 1, 2)) -> Ranking:
    drawn = Answer(
        "Dear Ann", "0001", (5, 7, 2), (-0.1, -2.25, -1e-9), "length", Sampling(0.9, 40, 0.95, 3, 2**63 + 11)
    )
    answers = (drawn, Answer("Hi — ✓"), Answer(""))
    return Ranking(Conversation.ask(prompt), answers, ranks, False, (2, 0, 1), annotator, 1234)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "feedback.sqlite"


def test_a_ranking_comes_back_as_it_was_given(place: Path | str) -> None:
    store = Store(place)
    store.set_consent("ann", True, WORDS)
    first, second = ranking(), ranking("Other", ranks=(1, 1, 1))
    assert [store.add_ranking(first, "a"), store.add_ranking(second, "b")] == [1, 2]
    assert Store(place).training_rankings() == [first, second]


def test_the_same_key_counts_once(place: Path | str) -> None:
    store = Store(place)
    assert store.add_ranking(ranking(), "a") == store.add_ranking(ranking(), "a")
    assert store.count("ann") == 1
    with pytest.raises(Refusal, match="ranked already"):
        store.add_ranking(ranking(ranks=(1, 2, 3)), "a")
    with pytest.raises(Refusal, match="key"):
        store.add_ranking(ranking(), "")


def test_without_consent_nothing_reaches_training(place: Path | str) -> None:
    store = Store(place)
    for name in ("ann", "bob", "cid"):
        store.add_ranking(ranking(annotator=name), name)
    assert store.training_rankings() == []
    store.set_consent("ann", True, WORDS)
    store.set_consent("bob", False, WORDS)
    assert [r.annotator for r in store.training_rankings()] == ["ann"]
    assert (store.consent("ann"), store.consent("bob"), store.consent("cid")) == (True, False, None)


def test_the_latest_answer_about_consent_wins(place: Path | str) -> None:
    store = Store(place)
    store.add_ranking(ranking(), "a")
    for granted in (True, False, True, False):
        store.set_consent("ann", granted, WORDS)
        store.set_consent("bob", not granted, WORDS)
        assert bool(store.training_rankings()) == granted
        assert store.consent("ann") == granted
    with pytest.raises(Refusal, match="words"):
        store.set_consent("ann", True, " ")


def test_undo_withdraws_the_last_ranking_of_this_person(place: Path | str) -> None:
    store = Store(place)
    store.set_consent("ann", True, WORDS)
    for key in ("a", "b"):
        store.add_ranking(ranking(key), key)
    store.add_ranking(ranking(annotator="bob"), "c")
    assert store.undo("ann")
    assert [r.conversation.messages[0].content for r in store.training_rankings()] == ["a"]
    assert store.undo("ann")
    assert not store.undo("ann")
    assert (store.training_rankings(), store.count("ann"), store.count()) == ([], 0, 1)
    # The withdrawn ranking, sent once more by a slow network, stays withdrawn.
    store.add_ranking(ranking("b"), "b")
    assert store.count("ann") == 0


def test_chats(place: Path | str) -> None:
    store = Store(place)
    first, empty = store.new_conversation("ann"), store.new_conversation("ann")
    second = store.new_conversation("ann")
    answer = ranking().answers[0]
    store.add_message(first, Message("system", "Be brief."))
    store.add_message(first, Message("user", "Hello\n there"))
    store.add_message(second, Message("user", "Second"))
    store.add_message(first, Message("assistant", "Dear Ann"), answer)
    assert store.conversation(first) == Conversation(
        (Message("system", "Be brief."), Message("user", "Hello\n there"), Message("assistant", "Dear Ann"))
    )
    assert [stored.answer for stored in store.messages(first)] == [None, None, answer]
    assert [(chat.id, chat.title) for chat in store.conversations("ann")] == [
        (second, "Second"),
        (first, "Hello there"),
    ]
    assert store.conversations("bob") == []
    assert store.messages(empty) == []
    with pytest.raises(Refusal, match="no conversation 99"):
        store.add_message(99, Message("user", "x"))


def test_the_database_itself_refuses_changes(path: Path) -> None:
    store = Store(path)
    store.add_ranking(ranking(), "a")
    store.set_consent("ann", False, WORDS)
    store.undo("ann")
    chat = store.new_conversation("ann")
    store.add_message(chat, Message("user", "x"))
    answer = store.add_message(chat, Message("assistant", "y"))
    store.note(chat, title="x")
    store.set_label("ann", chat, answer, True)
    number, _ = store.write_better("ann", chat, answer, "z")
    store.withdraw("ann", "demonstration", number)
    store.note_uses("0002", [("demonstration", number)])
    gone = store.new_conversation("ann")
    store.remove(gone)
    tables = [table for table in schema.metadata.tables if table != "alembic_version"]
    with sqlite3.connect(path) as connection:
        for table in tables:
            column = connection.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchone()[0]
            for change in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    connection.execute(change)


def test_a_commit_waits_for_the_disk(path: Path) -> None:
    store = Store(path)
    with store._engine.connect() as connection:  # the pragma holds for a connection, so only the store's own tells
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_many_threads_and_two_stores_on_one_file(place: Path | str) -> None:
    stores = [Store(place), Store(place)]
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                stores[number % 2].add_ranking(ranking(f"{number} {step}", f"p{number}"), f"{number} {step}")
                stores[number % 2].count()
        except BaseException as error:  # noqa: BLE001  # a thread's error must reach the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stores[0].count() == 80


def test_two_processes_may_open_a_new_store_at_once(path: Path) -> None:
    code = (
        f"from pathlib import Path; from palmier.feedback.store import Store; print(Store(Path({str(path)!r})).count())"
    )
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    assert [child.communicate(timeout=60)[0] for child in children] == [b"0\n", b"0\n"]


CONFIRM = """
import sys
from pathlib import Path
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Ranking
store = Store(Path(sys.argv[1]))
for number in range(100000):
    pair = (Answer("a" * 3000), Answer("b"))
    store.add_ranking(Ranking(Conversation.ask(str(number)), pair, (1, 2), annotator="ann"), f"key {number}")
    print(number, flush=True)
"""


@pytest.mark.parametrize("wanted", [1, 30])
def test_what_was_confirmed_survives_kill_9(path: Path, wanted: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", CONFIRM, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    confirmed = [int(child.stdout.readline()) for _ in range(wanted)]
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    confirmed += [int(line) for line in child.stdout.read().split("\n")[:-1]]
    store = Store(path)
    store.set_consent("ann", True, WORDS)
    found = store.training_rankings()
    assert [int(r.conversation.messages[0].content) for r in found][: len(confirmed)] == confirmed
    assert all(len(r.answers) == 2 for r in found)  # none half written
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_newer_store_is_refused_and_left_alone(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    before = path.read_bytes()
    with pytest.raises(Refusal, match="newer Palmier"):
        Store(path)
    assert path.read_bytes() == before


def test_the_migrations_make_the_tables_that_the_code_uses(path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    store = Store(path)
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be read as one" * 50)
    with pytest.raises(Refusal, match="can't be used"):
        Store(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE songs (id)")
    with pytest.raises(Refusal, match="something else"):
        Store(tmp_path / "other")
    (tmp_path / "folder").mkdir()
    with pytest.raises(Refusal, match="can't be used"):
        Store(tmp_path / "folder")


FILL = """
import resource, sys
from pathlib import Path
from palmier.errors import Refusal
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Ranking
path = Path(sys.argv[1])
store = Store(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
for number in range(1000):
    try:
        pair = (Answer("a" * 50_000), Answer("b"))
        store.add_ranking(Ranking(Conversation.ask(str(number)), pair, (1, 2), annotator="ann"), str(number))
    except Refusal as refusal:
        print(number, refusal)
        break
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on a file's size here")
def test_a_full_disk_is_a_refusal_and_loses_nothing(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True)
    count, _, said = done.stdout.partition(" ")
    assert int(count) > 0
    assert "nothing was changed" in said
    assert Store(path).count("ann") == int(count)
