"""``kill -9`` of a serving process at random moments of its use: what it confirmed is there, and the store is whole.

One home goes through all the moments, so that each server also takes over what the one before
left. On PostgreSQL the database itself crashes at every second moment too.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest

from palmier.cli import app as command_line
from palmier.errors import Refusal
from palmier.feedback.database import problems
from palmier.feedback.store import Store
from palmier.workspace import Workspace

from ..feedback.postgres import Cluster, running_cluster  # noqa: TID252  # tests are no package: the one way to a neighbour
from ..serve.home import make_home, shared_models  # noqa: TID252

MOMENTS = int(os.environ.get("PALMIER_KILL_MOMENTS", "10"))
"""Kills in the long test; 50 is what a release is tried with."""

TIMEOUT = 300 + 60 * MOMENTS
"""Seconds for all of them, on a machine that does other things too."""

LONGEST = 1.5
"""Seconds from the first request of a server to its death, at most."""

ADA = {"annotator": "ada"}


@dataclass
class Confirmed:
    """What a server said that it had stored. Once it is told to, a conversation may be gone or not until it answers."""

    messages: dict[tuple[int, int], str] = field(default_factory=dict)
    titles: dict[int, str] = field(default_factory=dict)
    given: set[tuple[str, int]] = field(default_factory=set)
    removing: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)

    def check(self, store: Store) -> None:
        """Everything is there, and nothing that was removed came back."""
        trees: dict[int, dict[int, str]] = {}
        for (chat, message), content in self.messages.items():
            if chat in self.removing:
                continue
            if chat not in trees:
                trees[chat] = {one.id: one.message.content for one in store.messages(chat)}
            # PostgreSQL holds no U+0000, which a model of bytes may well say.
            assert trees[chat][message].replace("\0", "\ufffd") == content.replace("\0", "\ufffd")
        listed = {chat.id: chat.title for chat in store.conversations("ada")}
        for chat, title in self.titles.items():
            assert chat in self.removing or listed[chat] == title
        for chat in self.removed:
            with pytest.raises(Refusal, match="no conversation"):
                store.tree(chat)
        assert self.given <= {(fate.kind, fate.id) for fate in store.fates("ada", limit=1_000_000)}


@pytest.fixture(scope="module")
def forks() -> Any:
    """A process that has imported the server, and forks one for each moment."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["palmier.cli.serve", "palmier.serve.app"])
    return context


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


def start(forks: Any, home: Path, database: str) -> tuple[BaseProcess, str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", "--no-browser", "--port", str(port), "--home", str(home)]
    words += ["--database", database] if database else []
    process: BaseProcess = forks.Process(target=command_line.run, args=(words,))
    process.start()
    deadline = time.monotonic() + 60
    while True:
        assert process.is_alive(), "the server ended at its start"
        assert time.monotonic() < deadline, "the server did not start"
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
            return process, f"http://127.0.0.1:{port}"
        time.sleep(0.02)


def use(client: httpx.Client, seen: Confirmed, draw: random.Random) -> None:
    """One turn of a person who does everything; what is confirmed is noted."""
    chat = ask(client, "/api/conversations", ADA)["id"]
    asked = say(client, seen, chat, f"Who are you? {draw.random()}")
    answers = [answer(client, seen, chat, asked) for _ in range(2)]
    where = ADA | {"conversation": chat}
    label = ask(client, "/api/feedback/labels", where | {"message": answers[0], "good": True})
    seen.given.add(("label", label["id"]))
    text = f"I am better. {draw.random()}"
    better = ask(client, "/api/feedback/demonstrations", where | {"message": answers[1], "text": text})
    seen.given.add(("demonstration", better["id"]))
    seen.messages[chat, better["message"]] = text
    title = f"title {draw.random()}"
    client.patch(f"/api/conversations/{chat}", json={"title": title}).raise_for_status()
    seen.titles[chat] = title
    drawn = ask(client, f"/api/conversations/{chat}/comparisons", ADA | {"to": asked, "max_tokens": 8})
    chosen = ask(client, f"/api/comparisons/{drawn['id']}", ADA | {"pick": 0, "strength": "clear"})
    seen.given.add(("ranking", chosen["id"]))
    ranked = ask(client, "/api/rank/draws", ADA | {"prompt": "Hello", "n": 2, "max_tokens": 8})
    ranking = ask(client, "/api/rank/rankings", ADA | {"draw": ranked["id"], "ranks": [2, 1]})
    seen.given.add(("ranking", ranking["id"]))
    file = client.get(f"/api/conversations/{chat}/export").raise_for_status().json()
    taken = client.post("/api/conversations/import", params=ADA, json=file).raise_for_status().json()["id"]
    seen.titles[taken] = title
    if draw.random() < 0.5:
        seen.removing.add(taken)
        client.delete(f"/api/conversations/{taken}").raise_for_status()
        seen.removed.add(taken)


def ask(client: httpx.Client, address: str, body: dict[str, Any]) -> Any:
    return client.post(address, json=body).raise_for_status().json()


def say(client: httpx.Client, seen: Confirmed, chat: int, text: str) -> int:
    number = int(ask(client, f"/api/conversations/{chat}/messages", {"content": text})["message"])
    seen.messages[chat, number] = text
    return number


def answer(client: httpx.Client, seen: Confirmed, chat: int, asked: int) -> int:
    wish = {"to": asked, "max_tokens": 12, "temperature": 1.0}
    with client.stream("POST", f"/api/conversations/{chat}/answers", json=wish) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    # A stream that broke off ends without an end: nothing was confirmed.
    if not events or events[-1]["type"] != "end":
        raise httpx.ReadError("broken off")
    seen.messages[chat, events[-1]["message"]] = "".join(event.get("text", "") for event in events)
    return int(events[-1]["message"])


def kill_and_look(forks: Any, home: Path, database: str, seen: Confirmed, draw: random.Random) -> None:
    process, url = start(forks, home, database)
    moment = threading.Timer(draw.uniform(0.0, LONGEST), process.kill)
    try:
        with httpx.Client(base_url=url, timeout=30) as client, contextlib.suppress(httpx.TransportError):
            moment.start()
            while True:
                use(client, seen, draw)
    finally:
        process.kill()
        process.join(30)
        moment.join()


def look(place: Path | str, seen: Confirmed) -> None:
    store = Store(place)
    seen.check(store)
    store.close()
    if isinstance(place, Path):
        with contextlib.closing(sqlite3.connect(place)) as connection:
            assert problems(connection) == []


@pytest.mark.parametrize("moments", [2, pytest.param(MOMENTS, marks=[pytest.mark.long, pytest.mark.timeout(TIMEOUT)])])
def test_a_killed_server_on_sqlite(
    forks: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, moments: int
) -> None:
    home: Workspace = make_home(tmp_path / "home", shared_models(tmp_path_factory), "varied")
    seen, draw = Confirmed(), random.Random(moments)
    for _ in range(moments):
        kill_and_look(forks, home.home, "", seen, draw)
        look(home.store, seen)
    assert len(seen.messages) > moments, "the servers were killed before they did anything"


@pytest.mark.long
@pytest.mark.timeout(TIMEOUT)
def test_a_killed_server_on_postgresql(
    forks: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, postgresql: Cluster
) -> None:
    home: Workspace = make_home(tmp_path / "home", shared_models(tmp_path_factory), "varied")
    database = postgresql.new_database()
    seen, draw = Confirmed(), random.Random(0)
    for moment in range(MOMENTS):
        kill_and_look(forks, home.home, database, seen, draw)
        if moment % 2:
            postgresql.control("-m", "immediate", "restart")
        look(database, seen)
    assert len(seen.messages) > MOMENTS, "the servers were killed before they did anything"
