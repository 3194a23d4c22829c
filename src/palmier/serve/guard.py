"""Who may talk to the server: pages of its own, and programs on this machine.

A foreign page in the same browser can reach loopback too. Two checks keep it out: the Host
header must be a loopback name, so that a foreign name that was pointed at 127.0.0.1 (DNS
rebinding) gets nothing; and an Origin, where a browser sends one, must be this server's own,
so that a foreign page can't make it do things (cross-site requests). Every answer carries a
content security policy under which nothing but our own files may run.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")

MOST_BYTES = 1 << 20
"""Largest body of a request: far more than any context holds."""

TOO_LARGE = (413, f"a request may bring at most {MOST_BYTES} bytes")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guard:
    """The outermost layer of the app (ASGI)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reason = objection(scope)
        if reason is not None:
            await _refuse(_with_headers(send), *reason)
            return
        body = _Body(receive, _with_headers(send))
        await self._app(scope, body.receive, body.send)


def objection(scope: Scope) -> tuple[int, str] | None:
    """Why a request is not answered: HTTP status and sentence; None where it is welcome."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    hosts = [value.decode("latin-1") for value in headers.get(b"host", [])]
    if len(hosts) != 1 or _name_and_port(f"//{hosts[0]}")[0] not in LOOPBACK:
        return 421, "this server answers to the names 127.0.0.1 and localhost alone"
    for value in headers.get(b"origin", []):
        origin = value.decode("latin-1")
        name, port = _name_and_port(origin)
        own_port = _name_and_port(f"//{hosts[0]}")[1]
        if not origin.startswith("http://") or name not in LOOPBACK or port != own_port:
            return 403, "requests from other web pages are not answered"
    if int(headers.get(b"content-length", [b"0"])[0] or 0) > MOST_BYTES:
        return TOO_LARGE
    return None


def _name_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        return (parts.hostname or ""), (parts.port or 80)
    except ValueError:
        return "", 0


class _Body:
    """Counts a body whose length was not told beforehand; past the limit the answer is 413, whatever the app says."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._seen = 0
        self._refused = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen <= MOST_BYTES:
            return message
        if not self._refused:
            self._refused = True
            await _refuse(self._send, *TOO_LARGE)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self._refused:
            await self._send(message)


def _with_headers(send: Send) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return adding


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": {"message": reason, "type": "invalid_request_error", "param": None, "code": None}})
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
