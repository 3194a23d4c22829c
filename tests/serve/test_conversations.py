"""Stored chats through the page's routes: streaming, stop, again, side by side."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from palmier.serve.serving import busy_process
from palmier.workspace import Workspace

from .home import SENTENCES, Server, running


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


def begin(client: httpx.Client, text: str = "Who are you?", annotator: str = "") -> int:
    number = int(client.post("/api/conversations", json={"annotator": annotator}).raise_for_status().json()["id"])
    client.post(f"/api/conversations/{number}/messages", json={"content": text}).raise_for_status()
    return number


def draw(client: httpx.Client, number: int, **wish: Any) -> list[dict[str, Any]]:
    with client.stream("POST", f"/api/conversations/{number}/answers", json={"temperature": 0} | wish) as response:
        assert response.status_code == 200
        return list(events(response))


def messages(client: httpx.Client, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/api/conversations/{number}").raise_for_status().json()["messages"]
    return found


def test_an_answer_streams_and_is_stored_with_its_version(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        number = begin(client, annotator="ada")
        got = draw(client, number)
        assert [event["type"] for event in got[:1] + got[-1:]] == ["start", "end"]
        assert "".join(event.get("text", "") for event in got) == SENTENCES["first"]
        question, answer = messages(client, number)
        assert (answer["role"], answer["content"]) == ("assistant", SENTENCES["first"])
        assert (answer["version"], answer["finish"]) == ("0001", "stop")
        assert (answer["parent"], answer["id"]) == (question["id"], got[-1]["message"])
        assert [chat["id"] for chat in client.get("/api/conversations", params={"annotator": "ada"}).json()] == [number]
        assert client.get("/api/conversations", params={"annotator": "bo"}).json() == []
    stored = first.serving.store.messages(number)[1].answer
    assert stored is not None
    assert stored.tokens
    assert len(stored.tokens) == len(stored.logprobs)


@pytest.mark.parametrize("way", ["stop", "leave"])
def test_a_stopped_answer_keeps_what_was_said(home: Callable[..., Workspace], way: str) -> None:
    with running(home("endless")) as server, httpx.Client(base_url=server.url) as client:
        number = begin(client)
        with client.stream("POST", f"/api/conversations/{number}/answers", json={"temperature": 0}) as response:
            stream = events(response)
            name = next(stream)["answer"]
            said = next(stream)["text"]
            if way == "stop":
                httpx.post(f"{server.url}/api/answers/{name}/stop").raise_for_status()
                rest = list(stream)
                assert rest[-1]["finish"] == "cancelled"
                said += "".join(event.get("text", "") for event in rest)
        for _ in range(100):
            stored = messages(client, number)
            if len(stored) == 2:
                break
        assert stored[1]["finish"] == "cancelled"
        assert stored[1]["content"].startswith(said)
        assert server.serving.turns == {}


def test_again_gives_an_alternative_and_the_last_one_is_continued(home: Callable[..., Workspace]) -> None:
    with running(home("first", "second")) as server, httpx.Client(base_url=server.url) as client:
        number = begin(client)
        draw(client, number)
        draw(client, number, model="0002")
        assert [m["version"] for m in messages(client, number)] == [None, "0001", "0002"]
        client.post(f"/api/conversations/{number}/messages", json={"content": "Tell me more, please."})
        own = draw(client, number, model="0001", own_thread=True)
        assert own[-1]["finish"] == "stop"


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/api/conversations/99/messages", {"content": "x"}, 404, "no conversation 99"),
        (f"/api/conversations/{10**25}/messages", {"content": "x"}, 404, "nothing under"),
        ("/api/conversations/abc/messages", {"content": "x"}, 404, "nothing under 'abc'"),
        ("/api/conversations/99/answers", {}, 404, "no conversation 99"),
        ("/api/conversations/1/answers", {"model": "0009"}, 404, "no version"),
        ("/api/conversations/1/answers", {"temprature": 1}, 400, "temprature"),
        ("/api/conversations/1/answers", {}, 400, "holds no message"),
        ("/api/conversations/1/messages", {"content": ""}, 400, "content"),
        ("/api/conversations", {"annotator": "x" * 101}, 400, "annotator"),
    ],
)
def test_bad_requests_are_sentences(first: Server, path: str, body: Any, status: int, word: str) -> None:
    with httpx.Client(base_url=first.url) as client:
        client.post("/api/conversations", json={}).raise_for_status()
        response = client.post(path, json=body)
    assert response.status_code == status
    assert word in response.json()["error"]["message"]


def test_the_page_learns_that_an_improve_runs(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert busy_process(workspace) == ""
    done = threading.Event()
    with workspace.exclusively("improve"):
        assert busy_process(workspace).startswith("improve (process ")
        done.set()
    assert busy_process(workspace) == ""
    workspace.lock.write_text("improve (process 999999999)", "utf-8")
    assert busy_process(workspace) == "", "a process that died holds nothing"
