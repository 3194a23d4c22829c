"""A small hub on loopback that speaks what the hub's client asks for, and can be told to fail.

Large files are redirected to another path, as the real one redirects to its store.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LARGE = 50_000
"""From this size on a file is stored as a large one: its SHA-256 is told."""


@dataclass
class Hub:
    """What it holds, how it fails, and what it was asked for."""

    url: str = ""
    commit: str = "c" * 40
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    lies: dict[str, bytes] = field(default_factory=dict)
    """Files that are sent otherwise than they are described."""
    hang_after: dict[str, int] = field(default_factory=dict)
    """Bytes of a file after which the connection stays open and nothing more comes."""
    break_after: dict[str, list[int]] = field(default_factory=dict)
    """Bytes of a file after which the connection is closed: one number for each request."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range header or "") of every request for a file's content."""
    hanging: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def hold(self, repository: str, folder: Path) -> None:
        """Offer a folder's files."""
        self.repositories[repository] = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}

    def ranges(self, name: str) -> list[str]:
        return [asked for path, asked in self.asked if path.endswith(f"/{name}")]

    def describe(self, repository: str) -> dict[str, Any]:
        siblings = []
        for name, content in self.repositories[repository].items():
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            one: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
            if len(content) >= LARGE:
                digest = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(one)
        return {"id": repository, "modelId": repository, "sha": self.commit, "siblings": siblings}


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that was killed is no error
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.over.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        words = path.strip("/").split("/")
        if words[:2] == ["api", "models"] and words[4:] == ["revision", "main"]:
            self._describe("/".join(words[2:4]))
        elif len(words) == 5 and words[2:4] == ["resolve", self.hub.commit]:
            content = self.hub.repositories["/".join(words[:2])].get(words[4])
            if content is not None and len(content) >= LARGE:
                self._reply(302, b"", {"location": f"{self.hub.url}/store/{'/'.join(words[:2])}/{words[4]}"})
            else:
                self._file(path, words[4], content)
        elif words[0] == "store":
            self._file(path, words[3], self.hub.repositories["/".join(words[1:3])][words[3]])
        else:
            self._reply(404, b"", {})

    def _describe(self, repository: str) -> None:
        if repository in self.hub.gated:
            self._reply(403, b"", {"x-error-code": "GatedRepo", "x-error-message": "gated"})
        elif repository not in self.hub.repositories:
            self._reply(404, b"", {"x-error-code": "RepoNotFound", "x-error-message": "not found"})
        else:
            body = json.dumps(self.hub.describe(repository)).encode()
            self._reply(200, body, {"content-type": "application/json"})

    def _file(self, path: str, name: str, content: bytes | None) -> None:
        asked = self.headers.get("range", "")
        self.hub.asked.append((path, asked))
        if content is None:
            self._reply(404, b"", {"x-error-code": "EntryNotFound"})
            return
        content = self.hub.lies.get(name, content)
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        headers = {"etag": f'"{hashlib.sha256(content).hexdigest()}"', "x-repo-commit": self.hub.commit}
        if asked:
            headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if asked else 200)
        for key, value in (headers | {"content-length": str(len(content) - start)}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.hub.break_after.get(name):
            end = start + self.hub.break_after[name].pop(0)
            self.wfile.write(content[start:end])
            self.close_connection = True
        elif name in self.hub.hang_after:
            self.wfile.write(content[start : self.hub.hang_after[name]])
            self.hub.hanging.set()
            self.hub.over.wait(60)
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET
