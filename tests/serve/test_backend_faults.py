"""Backends that misbehave, over real sockets: one clear line in the right shape, never a traceback; the key told to nobody."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from palmier.errors import Refusal
from palmier.records import Sampling
from palmier.serve import remote
from palmier.serve.backend import Model
from palmier.serve.relayed import asked

from .home import Server, in_front_of
from .other_server import END, FINE, MODELS, Other, Part, counted, event, head, other_server, piece, said, whole
from .test_completions import ASK, complete, under_way, wait_until
from .test_conversations import begin, messages
from .test_feedback import compare
from .test_ranking import drawn

KEY = "sk-a-secret-key-of-the-backend"

Front = Callable[..., Any]


@pytest.fixture
def before(tmp_path: Path) -> Front:
    """Serve in front of a server that answers as it is told to."""

    @contextmanager
    def start(
        chat: Sequence[Part] = FINE, key: str = "", silence: float = 20, **more: Any
    ) -> Iterator[tuple[Other, Server]]:
        with other_server(chat, **more) as other, in_front_of(other.url, tmp_path / "front", key, silence) as front:
            yield other, front

    return start


def conversation(front: Server) -> tuple[int, str]:
    """What the page gets for an answer: the status, and the sentence of the error ("" where there is none)."""
    with httpx.Client(base_url=front.url, timeout=30) as client:
        number = begin(client)
        with client.stream("POST", f"/api/conversations/{number}/answers", json={}) as response:
            body = response.read().decode()
    if response.status_code != 200:
        return response.status_code, str(json.loads(body)["error"]["message"])
    last = json.loads(body.strip().rpartition("data: ")[2])
    return 200, last.get("message", "") if last["type"] == "error" else ""


REFUSALS = [
    ("401 Unauthorized", 502, "refuses its key (401): no: …"),
    ("403 Forbidden", 502, "refuses its key (403): no: …"),
    ("404 Not Found", 404, "knows no such model or address (404): no: …"),
    ("429 Too Many Requests", 429, "has no room at this moment (429): no: …"),
    ("503 Service Unavailable", 503, "is not ready (503): no: …"),
    ("400 Bad Request", 400, "refuses the request (400): no: …"),
    ("413 Payload Too Large", 413, "refuses the request (413): no: …"),
    ("418 I'm a teapot", 400, "refuses the request (418): no: …"),
    ("500 Internal Server Error", 502, "failed (500): no: …"),
    ("204 No Content", 502, "failed (204)"),
]


@pytest.mark.parametrize(("status", "ours", "sentence"), REFUSALS)
def test_what_it_refuses_is_told_in_each_shape(before: Front, status: str, ours: int, sentence: str) -> None:
    """Each carries the backend's own words, without the key that they repeat, and without its traceback."""
    words = {"error": {"message": f"no: {KEY}\n\x1b[31m", "type": "x"}}
    answer = whole(b"" if "204" in status else words, status, "retry-after: 7")
    with before(answer, KEY) as (other, front):
        said_there = f"the backend at {other.url} {sentence}"
        code, told = conversation(front)
        assert (code, told.startswith(said_there)) == (ours, True)
        for stream in (False, True):
            response = complete(front, stream=stream)
            error = response.json()["error"]
            assert (response.status_code, error["message"].startswith(said_there)) == (ours, True)
            assert (response.headers.get("retry-after") == "7") == (ours in (429, 503))
        wish = {"model": "current", "max_tokens": 5, "messages": ASK}
        anthropics = httpx.post(f"{front.url}/v1/messages", json=wish)
        assert anthropics.json()["type"] == "error"
        assert anthropics.json()["error"]["message"].startswith(said_there)
        ranked = httpx.post(f"{front.url}/api/rank/draws", json={"prompt": "x"})
        assert ranked.json()["error"]["message"].startswith(said_there)
        assert ranked.status_code == ours
        assert KEY not in response.text + anthropics.text + ranked.text
        assert {one.headers.get("authorization") for one in other.asked} == {f"Bearer {KEY}"}


BROKEN: dict[str, tuple[list[Part], str]] = {
    "closes at once": ([], "closed the connection without an answer"),
    "sends half a head": ([b"HTTP/1.1 200 OK\r\nconte"], "closed the connection without an answer"),
    "is no HTTP": ([b"220 ready for mail\r\n"], "closed the connection without an answer"),
    "breaks off": ([head(), said("Half an ans")], "broke off in the middle of an answer"),
    "breaks off in an event": ([head(), said("Half"), b"40\r\ndata: {"], "broke off in the middle of an answer"),
    "ends without its last word": ([head(), said("Half"), piece(b"")], "broke off in the middle of an answer"),
    "sends garbage": ([head(), said("Half"), piece(b"data: {nonsense\n\n"), END], "not OpenAI's API (it is no JSON)"),
    "sends no events": ([head(), piece(b"<h1>Hello</h1>\n\n"), END], "not OpenAI's API (its stream holds '<h1>"),
    "sends another JSON": ([head(), event({"choices": "x"}), END], "its events are none of a chat completion"),
    "sends a list": ([head(), event([1, 2]), END], "it is no JSON object"),
    "sends a number as text": (
        [head(), event({"choices": [{"delta": {"content": 5}}]}), END],
        "its events are none of a chat completion",
    ),
    "is not UTF-8": ([head(), piece(b"data: \xff\xfe\n\n"), END], "its stream is not UTF-8"),
    "nests without an end": ([head(), piece(b"data: " + b'{"a":' * 200_000 + b"\n\n"), END], "nested too deeply"),
    "sends a line without an end": ([head(), *[piece(b"data: " + b"x" * 500_000)] * 10], "a line of its stream does"),
    "sends a page": (whole(b"<html>", kind="text/html"), "asked for a stream and sends text/html"),
    "fails in the middle": (
        [head(), said("Half"), event({"error": {"message": "out of memory", "code": 500}}), END],
        "failed in the middle of an answer: out of memory",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_stream_that_is_broken_is_one_line(before: Front, capfd: pytest.CaptureFixture[str], how: str) -> None:
    parts, sentence = BROKEN[how]
    with before(parts) as (other, front):
        status, told = conversation(front)
        assert sentence in told, how
        assert (told.count("\n"), told.startswith(f"the backend at {other.url} ")) == (0, True)
        assert status in (200, 502)
        if status == 200:  # what was said before is kept
            with httpx.Client(base_url=front.url) as client:
                kept = [m for m in messages(client, 1) if m["role"] == "assistant"]
            assert [m["content"] for m in kept] == ([] if "Half" not in str(parts) else [kept[0]["content"]])
            assert all(m["content"].startswith("Half") and m["finish"] == "cancelled" for m in kept)
        streamed = complete(front, stream=True)
        if "none of a chat completion" not in sentence:  # whose events these are the asker's own to judge
            assert sentence in streamed.text
            assert streamed.status_code in (200, 502)
        with httpx.Client(base_url=front.url, timeout=30) as client:
            failed = client.post("/api/rank/draws", json={"prompt": "x"})
            assert (failed.status_code, sentence in failed.json()["error"]["message"]) == (502, True)
        wait_until(lambda: under_way(front) == 0, 3)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("body", [b"", b"{nonsense", b"[1]", b"<html>", b'{"choices": "\xff"}'])
def test_a_whole_answer_that_is_garbage_is_one_line(before: Front, body: bytes) -> None:
    with before(whole(body)) as (_, front):
        response = complete(front)
        assert (response.status_code, response.json()["error"]["code"]) == (502, "backend_garbage")
        assert "is its address right?" in response.json()["error"]["message"]


@pytest.mark.long
def test_a_backend_that_hangs_is_given_up(before: Front) -> None:
    hanging: dict[str, list[Part]] = {
        "from the beginning": [30.0],
        "after its head": [head(), 30.0],
        "in the middle": [head(), said("Half"), 30.0],
    }
    for how, parts in hanging.items():
        with before(parts, silence=1.5) as (other, front):
            began = time.monotonic()
            status, told = conversation(front)
            assert told == f"the backend at {other.url} said nothing for 1.5 seconds", how
            assert status == 200, "the page was told that it has begun long before"
            for stream in (False, True):
                response = complete(front, stream=stream)
                assert "said nothing for 1.5 seconds" in response.text
                assert response.status_code in (200, 504)
            assert time.monotonic() - began < 8
            wait_until(lambda: len(other.left) == 3, 3)  # done before the next round
            wait_until(lambda: under_way(front) == 0, 3)


def test_nothing_is_sent_to_where_a_redirect_leads(before: Front) -> None:
    with other_server() as elsewhere:
        for status in ("301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"):
            moved = whole({}, status, f"location: {elsewhere.url}/v1/chat/completions")
            with before(moved, KEY) as (_, front):
                code, told = conversation(front)
                assert (code, "sends on to another address" in told) == (502, True)
                assert complete(front).status_code == 502
                assert complete(front, stream=True).status_code == 502
        assert elsewhere.asked == []
    moved = whole({}, "301 Moved", "location: http://127.0.0.1:1/v1/models")
    with pytest.raises(Refusal, match="sends on to another address"), before(models=moved):
        pass


def test_no_proxy_of_the_environment_is_used(before: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    with other_server() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with before(key=KEY) as (_, front):
            with httpx.Client(base_url=front.url, trust_env=False) as client:
                number = begin(client)
                answer = client.post(f"/api/conversations/{number}/answers", json={})
            assert "Hello" in answer.text
        assert proxy.asked == []


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (whole({"data": []}), "lists no model"),
        (whole({"data": None}), "lists no model"),
        (whole({"data": [{"name": "x"}]}), "its list of models has another form"),
        (whole({"data": "x"}), "its list of models has another form"),
        (whole(b"<html>"), "it is no JSON"),
        (whole(MODELS, "401 Unauthorized"), "wants a key (401)"),
        ([], "closed the connection without an answer"),
        ([30.0], "said nothing for 0.5 seconds"),
    ],
)
def test_a_backend_that_can_not_answer_is_refused_at_the_start(
    before: Front, models: list[Part], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than the longest silence: a list of models is no long prompt.
    monkeypatch.setattr(remote, "CONNECT_SECONDS", 0.5)
    with pytest.raises(Refusal) as refused, before(models=models, silence=1):
        pass
    assert sentence in str(refused.value)


def test_what_openai_does_not_know_is_sent_only_where_it_is_set(before: Front) -> None:
    openais = {"model", "messages", "stream", "stream_options", "max_tokens", "temperature", "top_p", "seed"}
    with before() as (other, front), httpx.Client(base_url=front.url, timeout=30) as client:
        number = begin(client)
        client.post(f"/api/conversations/{number}/answers", json={"top_p": 1.0})
        compare(client, number, n=2, annotator="")
        drawn(client, annotator="")
        plain = other.bodies()
        settings = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.5}
        client.patch(f"/api/conversations/{number}", json={"settings": settings | {"system": "Be kind.", "top_p": 0.8}})
        client.post(f"/api/conversations/{number}/answers", json={"seed": 5, "max_tokens": 9}).raise_for_status()
        last = other.bodies()[-1]
    assert len(plain) == 1 + 2 + 3
    assert all(set(body) == openais for body in plain)
    assert len({body["seed"] for body in plain}) == 6
    assert (last["model"], last["messages"][0]) == ("parrot", {"role": "system", "content": "Be kind."})
    assert {key: value for key, value in last.items() if key not in openais} == settings
    assert [body["top_p"] for body in (*plain, last)] == [1.0] * 6 + [0.8]
    assert (last["seed"], last["max_tokens"], last["stream_options"]) == (5, 9, {"include_usage": True})


def test_llama_cpp_is_told_the_repetition_penalty_by_the_name_that_it_knows() -> None:
    from palmier.records import Conversation

    talk, sampling = Conversation.ask("x"), Sampling(repetition_penalty=1.2)
    theirs = asked(Model("m", "m@x", "llamacpp"), talk, sampling, 1)
    others = asked(Model("m", "m@x", "vllm"), talk, sampling, 1)
    assert (theirs["repeat_penalty"], "repetition_penalty" in theirs) == (1.2, False)
    assert (others["repetition_penalty"], "repeat_penalty" in others) == (1.2, False)
    assert "repeat_penalty" not in asked(
        Model("m", "m@x", "llamacpp"), talk, replace(sampling, repetition_penalty=1.0), 1
    )


def test_a_proxied_body_goes_as_it_came(before: Front) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    more = {"tools": tools, "response_format": {"type": "json_object"}, "half": "\ud83d", "model": None}
    answer = {"choices": [{"message": {"content": None, "tool_calls": [1]}}], "half": "\ud83d", "usage": None}
    with before(whole(answer)) as (other, front):
        content = json.dumps({"messages": ASK} | more)
        response = httpx.post(f"{front.url}/v1/chat/completions", content=content)
        assert response.json() == answer | {"half": "?"}, "half a character has no bytes"
        assert other.bodies() == [{"messages": ASK} | more | {"model": "parrot"}]
        for body, sentence in ((b"[]", "not a JSON object"), (b"{", "not JSON"), (b'{"model": 5}', "model: give")):
            bad = httpx.post(f"{front.url}/v1/chat/completions", content=body)
            assert (bad.status_code, sentence in bad.json()["error"]["message"]) == (400, True)
        missing = httpx.post(f"{front.url}/v1/completions", json={"prompt": "x"})
        assert (missing.status_code, "no such route" in missing.text) == (404, True)


def test_thoughts_and_comments_are_no_text(before: Front) -> None:
    """What some servers put into a stream beside the answer."""
    thought = event({"choices": [{"delta": {"role": "assistant", "reasoning_content": "Hm."}, "finish_reason": None}]})
    bare = event({"choices": [{"delta": None, "finish_reason": "stop"}]})
    parts = [head("text/event-stream; charset=utf-8"), piece(b": ping\n\n"), thought, said("Yes"), said("\ud83d"), bare]
    with before([*parts, counted(3, 9), piece(b"event: end\r\ndata: [DONE]\r\n\r\n"), piece(b"")]) as (_, front):
        assert conversation(front) == (200, "")
        with httpx.Client(base_url=front.url) as client:
            assert messages(client, 1)[-1]["content"] == "Yes?"
    with before([head(), said("No last word", "stop"), piece(b"")]) as (_, front):
        assert conversation(front) == (200, ""), "it had said why it ended"


def test_the_key_stands_in_no_log(before: Front, capfd: pytest.CaptureFixture[str]) -> None:
    with before([], KEY) as (_, front):
        conversation(front)
        state = [httpx.get(front.url + path).text for path in ("/api/state", "/health", "/metrics", "/v1/models")]
        assert KEY not in "".join(state)
        assert KEY not in repr(front.serving)
        files = [path.read_bytes() for path in front.workspace.home.rglob("*") if path.is_file()]
        assert files
        assert not any(KEY.encode() in content for content in files)
    out, err = capfd.readouterr()
    assert KEY not in out + err


def test_too_many_at_once_are_sent_away(before: Front) -> None:
    with before([head(), said("la"), 20.0]) as (_, front), httpx.Client(base_url=front.url, timeout=30) as client:
        front.serving.live.bound = 3  # type: ignore[misc]
        draws = client.post("/api/rank/draws", json={"prompt": "x", "n": 3, "wait": False}).raise_for_status().json()
        number = begin(client)
        full = client.post(f"/api/conversations/{number}/answers", json={})
        assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
        assert complete(front).status_code == 429
        client.delete(f"/api/rank/draws/{draws['id']}").raise_for_status()
        wait_until(lambda: under_way(front) == 0, 3)
