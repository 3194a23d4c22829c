"""A small real server that answers as it is told to: it breaks off, sends garbage, hangs, or notes what it was asked."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

MODELS = {"object": "list", "data": [{"id": "parrot", "object": "model", "owned_by": "somebody"}]}

Part = bytes | float
"""What is sent, or for how many seconds nothing is."""


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Other:
    """Where the server listens, what it answers by path, and what it was asked."""

    url: str
    answers: dict[str, Sequence[Part]]
    asked: list[Asked] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Paths of the requests whose asker went away before the end of the answer."""

    def bodies(self, path: str = "/v1/chat/completions") -> list[dict[str, Any]]:
        return [one.body for one in self.asked if one.path == path]


def whole(value: Any, status: str = "200 OK", *headers: str, kind: str = "application/json") -> list[Part]:
    """An answer of one piece."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return ["\r\n".join([*lines, "connection: close", "", ""]).encode(), body]


def head(kind: str = "text/event-stream") -> bytes:
    """What a stream begins with: its length is not told, and each piece is a chunk."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def piece(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


END = piece(b"data: [DONE]\n\n") + piece(b"")


def event(value: Any) -> bytes:
    return piece(b"data: " + json.dumps(value).encode() + b"\n\n")


def said(text: str, finish: str | None = None) -> bytes:
    """An event of a chat completion."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def counted(prompt: int, drawn: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": drawn}})


FINE: list[Part] = [head(), said("Hello"), said(" there"), said("", "stop"), counted(7, 2), END]


@contextmanager
def other_server(chat: Sequence[Part] = FINE, models: Sequence[Part] | None = None, **more: Any) -> Iterator[Other]:
    """Listen on a free port until the block ends. ``chat`` is what /v1/chat/completions answers."""
    other = Other("", {"/v1/models": whole(MODELS) if models is None else models, "/v1/chat/completions": chat, **more})

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = _read(self.rfile)
            if asked is None:
                return
            other.asked.append(asked)
            missing = whole({"error": {"message": "no such route"}}, "404 Not Found")
            try:
                _send(self.connection, other.answers.get(asked.path, missing))
            except OSError:
                other.left.append(asked.path)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        other.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield other
        finally:
            server.shutdown()


def _read(stream: Any) -> Asked | None:
    line = stream.readline().decode("latin-1").split()
    if len(line) != 3:
        return None
    headers: dict[str, str] = {}
    while text := stream.readline().decode("latin-1").strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Asked(line[0], line[1], headers, json.loads(body) if body else {})


def _send(connection: socket.socket, parts: Iterable[Part]) -> None:
    for part in parts:
        if isinstance(part, bytes):
            connection.sendall(part)
        else:
            _rest(connection, part)


def _rest(connection: socket.socket, seconds: float) -> None:
    """Say nothing for a while. Raises OSError as soon as the asker has gone."""
    until = time.monotonic() + seconds
    connection.settimeout(0.02)
    while time.monotonic() < until:
        with suppress(TimeoutError):
            if not connection.recv(1):
                raise ConnectionResetError
    connection.settimeout(None)
