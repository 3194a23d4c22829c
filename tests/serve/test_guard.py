"""A foreign page can neither read from the server nor make it do things."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from palmier.serve.guard import MOST_BYTES, POLICY, objection

from .home import Server


def scope(*headers: tuple[str, str]) -> dict[str, Any]:
    return {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers]}


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

    def status(content: Callable[[], bytes | Iterator[bytes]]) -> int:
        # The answer comes before the body is read: where the rest of it is still on its way, the system may
        # reset the connection before the client has read the answer. That is a refusal too; ask again.
        for _ in range(5):
            with contextlib.suppress(httpx.ReadError, httpx.WriteError):
                return httpx.post(url, content=content(), headers={"content-type": "application/json"}).status_code
        return 0

    url = f"{first.url}/v1/chat/completions"
    assert status(lambda: b" " * (MOST_BYTES + 1)) == 413
    assert status(parts) == 413
    assert httpx.get(f"{first.url}/health").status_code == 200


def test_no_file_outside_the_page_is_served(first: Server) -> None:
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/..%2fapp.py"):
        assert httpx.get(first.url + path).status_code in (400, 404)
