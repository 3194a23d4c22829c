"""A foreign page can neither read from the server nor make it do things; with a key, nobody can who has none."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from starlette.types import Message, Receive, Scope, Send

from palmier.serve import guard
from palmier.serve.guard import LOCAL, MOST_BYTES, OPEN, POLICY, Access, Guard, objection
from palmier.workspace import Workspace

from .home import Server, running

KEY = "a-key-of-some-length"


def scope(*headers: tuple[str, str]) -> dict[str, Any]:
    return {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers]}


@pytest.fixture
def locked(home: Callable[..., Workspace]) -> Iterator[Server]:
    """A server that asks for a key."""
    with running(home("first"), access=Access(key=KEY)) as server:
        yield server


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", None),
        ("localhost:8000", None),
        ("LOCALHOST", None),
        ("[::1]:8000", None),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8000", 421),
        ("127.0.0.1@evil.example", 421),
        ("[::1", 421),
        ("", 421),
        ("192.168.0.7:8000", 421),
    ],
)
def test_only_loopback_names_are_answered(host: str, status: int | None) -> None:
    found = objection(scope(("host", host)))
    assert (None if found is None else found[0]) == status


def test_a_request_without_a_host_or_with_two_is_not_answered() -> None:
    assert objection(scope())
    assert objection(scope(("host", "localhost"), ("host", "evil.example")))


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://localhost:3000", False),
        ("https://localhost:8000", False),
        ("http://evil.example:8000", False),
        ("http://localhost.evil.example:8000", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("chrome-extension://abc", False),
    ],
)
def test_only_our_own_pages_may_ask(origin: str, welcome: bool) -> None:
    assert (objection(scope(("host", "127.0.0.1:8000"), ("origin", origin))) is None) == welcome


def test_the_running_server_refuses_them(first: Server) -> None:
    ask = {"messages": [{"role": "user", "content": "Who are you?"}]}
    url = f"{first.url}/v1/chat/completions"
    assert httpx.post(url, json=ask, headers={"origin": "http://evil.example"}).status_code == 403
    rebound = httpx.get(f"{first.url}/api/conversations", headers={"host": "evil.example"})
    assert rebound.status_code == 421
    assert httpx.post(url, json=ask, headers={"origin": first.url}).status_code == 200
    preflight = httpx.options(url, headers={"origin": "http://evil.example", "access-control-request-method": "POST"})
    assert preflight.status_code == 403
    assert "access-control-allow-origin" not in preflight.headers


@pytest.mark.parametrize("path", ["/", "/rank", "/page/chat.js", "/health", "/nowhere"])
def test_every_answer_carries_the_policy(first: Server, path: str) -> None:
    headers = httpx.get(first.url + path).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY


def test_a_body_beyond_the_limit_is_refused_with_and_without_its_length(first: Server) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 65536 + 2):
            yield b" " * 65536

    def status(content: bytes | Iterator[bytes]) -> int:
        return httpx.post(url, content=content, headers={"content-type": "application/json"}).status_code

    url = f"{first.url}/v1/chat/completions"
    assert status(b" " * (MOST_BYTES + 1)) == 413
    assert status(parts()) == 413
    assert httpx.get(f"{first.url}/health").status_code == 200


@pytest.mark.parametrize("told", [True, False])
def test_a_body_that_is_too_large_is_read_to_its_end_before_it_is_refused(told: bool) -> None:
    # Beside the network: over a socket it depends on the kernel's buffers whether the sender notices.
    parts = [b" " * (MOST_BYTES // 2)] * 5
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]]
    waiting.append({"type": "http.request", "body": parts[-1], "more_body": False})
    left: list[int] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            left.append(len(waiting))
            assert message["status"] == 413

    async def app(_scope: Scope, hear: Receive, _send: Send) -> None:
        while (await hear())["type"] != "http.disconnect":
            pass

    headers = [(b"host", b"localhost"), *([(b"content-length", b"%d" % sum(map(len, parts)))] if told else [])]
    asked = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
    asyncio.run(Guard(app, LOCAL)(asked, receive, send))
    assert left == [0]


@pytest.mark.parametrize("begun", [False, True])
def test_a_body_that_stops_coming_is_given_up(first: Server, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
    with socket.create_connection(("127.0.0.1", httpx.URL(first.url).port or 0), timeout=10) as client:
        client.sendall(head + b"Content-Type: application/json\r\n\r\n" + (b'{"prompt"' if begun else b""))
        told = b"".join(iter(lambda: client.recv(4096), b""))
    assert told.startswith(b"HTTP/1.1 408")
    assert json.loads(told.partition(b"\r\n\r\n")[2])["error"]["message"].startswith("the rest of the request's body")
    assert b"connection: close" in told


def test_an_answer_that_takes_long_is_no_body_that_stops_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app waits for the client to go away, long after the last part of the body."""
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    waiting: list[Message] = [{"type": "http.request", "body": b"{}"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop() if waiting else await asyncio.Future[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(_scope: Scope, hear: Receive, _send: Send) -> None:
        assert (await hear())["body"] == b"{}"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hear(), 0.3)

    asked = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(app, LOCAL)(asked, receive, send))
    assert sent == []


def test_the_schema_tells_no_answer_that_is_never_given(first: Server) -> None:
    paths = httpx.get(f"{first.url}/api/schema").json()["paths"]
    told = {status for path in paths.values() for one in path.values() for status in one["responses"]}
    assert "422" not in told
    assert "4XX" in told


def test_no_file_outside_the_page_is_served(first: Server) -> None:
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/..%2fapp.py"):
        assert httpx.get(first.url + path).status_code in (400, 404)


def test_with_a_key_every_route_but_health_demands_it(locked: Server) -> None:
    with httpx.Client(base_url=locked.url) as client:
        routes = client.get("/api/schema", headers={"x-api-key": KEY}).raise_for_status().json()["paths"]
        asked = {path.format(number=1, name="0001") for path in routes if path != "/api/key"}
        assert {"/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/score", "/api/conversations"} <= asked
        for path in asked | {"/metrics", "/api/schema", "/page/chat.js", "/nothing", "/health/"}:
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                response = client.request(method, path)
                assert response.status_code == 401, (method, path)
                assert response.headers["content-security-policy"] == POLICY
        assert client.get("/health").status_code == 200
        assert client.get("/metrics", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
        assert client.get("/v1/models", headers={"host": "evil.example", "x-api-key": KEY}).status_code == 421
        assert client.get("/v1/models", headers={"origin": "null", "x-api-key": KEY}).status_code == 403
    files = ("key.js", "key.css", "base.css", "theme.js", "icon.svg", "words.js", "german.js")
    german = ("german/chat.js", "german/feedback.js", "german/rank.js")
    assert {"/health", "/api/key", *(f"/page/{name}" for name in (*files, *german))} == OPEN


def test_their_clients_bring_the_key_and_raise_their_own_errors_without(locked: Server) -> None:
    asked: list[Any] = [{"role": "user", "content": "Who are you?"}]
    right = openai.OpenAI(base_url=f"{locked.url}/v1", api_key=KEY, max_retries=0)
    assert right.chat.completions.create(model="current", messages=asked, max_tokens=2).choices
    with pytest.raises(openai.AuthenticationError, match="asks for its key") as refused:
        right.with_options(api_key="another-key").models.list()
    assert (refused.value.code, refused.value.response.headers["www-authenticate"]) == ("invalid_api_key", "Bearer")
    theirs = anthropic.Anthropic(base_url=locked.url, api_key=KEY, max_retries=0)
    assert theirs.messages.create(model="current", messages=asked, max_tokens=2).content
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        theirs.with_options(api_key="another-key").messages.create(model="current", messages=asked, max_tokens=2)
    assert unknown.value.response.json()["error"]["type"] == "authentication_error"


def test_a_browser_gives_the_key_once_and_keeps_a_cookie_that_scripts_can_not_read(locked: Server) -> None:
    with httpx.Client(base_url=locked.url) as browser:
        for path in ("/", "/rank"):
            page = browser.get(path)
            assert (page.status_code, page.headers["content-type"]) == (401, "text/html; charset=utf-8")
            assert 'type="password"' in page.text
            assert page.headers["content-security-policy"] == POLICY
        for wrong in ("another-key", "", KEY[:-1], KEY + " "):
            refused = browser.post("/api/key", json={"key": wrong})
            assert (refused.status_code, dict(browser.cookies)) == (401, {})
        assert browser.post("/api/key", json={"key": KEY}, headers={"origin": "http://evil.example"}).status_code == 403
        assert browser.post("/api/key", json={"key": 5}).status_code == 400
        assert browser.post("/api/key", json={"key": "a" * 1001}).status_code == 400
        told = browser.post("/api/key", json={"key": KEY})
        assert told.status_code == 204
        cookie = told.headers["set-cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/", "max-age="))
        assert KEY not in told.headers["set-cookie"], "what a browser keeps is not the key"
        assert "What shall I write?" in browser.get("/").raise_for_status().text
        assert browser.get("/api/state").raise_for_status().json()["current"] == "0001"
        assert browser.delete("/api/key").status_code == 204
        assert browser.get("/api/state").status_code == 401


def test_without_a_key_there_is_nothing_to_sign_in_to(first: Server) -> None:
    response = httpx.post(f"{first.url}/api/key", json={"key": KEY})
    assert (response.status_code, "set-cookie" in response.headers) == (400, False)
    assert httpx.get(f"{first.url}/").status_code == 200
