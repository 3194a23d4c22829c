"""The pages' files name no other host than the one that they came from; and serving asks for none."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from palmier.serve.app import PAGE
from palmier.workspace import Workspace

from ..serve.home import make_home, running, shared_models  # noqa: TID252  # tests are no package: the one way to a neighbour

ADDRESS = re.compile(r"""(?:\b[a-z][a-z0-9+.-]{1,10}:)?//[^\s"'`<>()\\]+""", re.IGNORECASE)
"""What a browser may take for the address of another host: with a scheme, or `//host`."""

NAMES = re.compile(r"https?://www\.w3\.org/(?:\d{4}/[\w/-]+|TR/[\w/.-]*)")
"""Names of languages, which no browser asks for: namespaces of SVG, MathML and XHTML."""

LOADS = re.compile(
    r"""(?:\b(?:src|href|srcset|action|poster|data|formaction|xlink:href)\s*=\s*|
        \bfrom\s*|\bimport\s*\(?\s*|\bfetch\s*\(\s*|\bnew\s+(?:EventSource|WebSocket|Worker|SharedWorker|URL)\s*\(\s*|
        \burl\s*\(\s*|@import\s*|\bsendBeacon\s*\(\s*|\bimportScripts\s*\(\s*|\.open\s*\([^,()]*,\s*)
        ["'`]?\s*((?:[a-z][a-z0-9+.-]{1,10}:)?//[^\s"'`<>()]+)""",
    re.IGNORECASE | re.VERBOSE,
)
"""A place where an address is loaded from."""

SCHEMES = ("blob:", "data:")


def without_comments(text: str, suffix: str) -> str:
    """The text without comments. A `//` inside of a string, as in an address, begins none."""
    if suffix in (".html", ".svg"):
        return re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
    if suffix == ".css":
        return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    strings = r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'|" + r"`(?:\\.|[^`\\])*`"
    return re.sub(rf"({strings})|/\*.*?\*/|(?<![:\\/\w])//[^\n]*", lambda m: m[1] or " ", text, flags=re.DOTALL)


def foreign(text: str, suffix: str, ours: bool) -> Iterator[str]:
    """The other hosts in a file: of ours every address, of what others wrote every one that something is loaded from."""
    bare = without_comments(text, suffix)
    found = [match[0] for match in ADDRESS.finditer(bare)] if ours else LOADS.findall(bare)
    for address in found:
        if not NAMES.fullmatch(address.rstrip("/.,;")) and not address.startswith(SCHEMES):
            yield address


def files() -> list[Path]:
    kinds = (".html", ".js", ".mjs", ".css", ".svg", ".json", ".webmanifest")
    return sorted(path for path in PAGE.rglob("*") if path.is_file() and path.suffix in kinds)


def test_no_file_of_the_pages_names_another_host() -> None:
    assert len(files()) > 20
    found = [
        f"{path.relative_to(PAGE)}: {address}"
        for path in files()
        for address in foreign(path.read_text("utf-8"), path.suffix, "vendor" not in path.parts)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ".html"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', ".html"),
        ("@import 'https://fonts.example/css';", ".css"),
        ("a { background: url(//x.example/y.png) }", ".css"),
        ('import x from "https://cdn.example/x.js";', ".js"),
        ("await import('//cdn.example/x.js')", ".js"),
        ('fetch("https://count.example/hit")', ".js"),
        ("fetch(`https://count.example/hit`)", ".js"),
        ('new WebSocket("wss://x.example")', ".js"),
        ('request.open("GET", "https://x.example")', ".js"),
        ('<image xlink:href="http://x.example/a.png"/>', ".svg"),
    ],
)
@pytest.mark.parametrize("ours", [True, False])
def test_the_reading_of_a_file_sees_them(text: str, suffix: str, ours: bool) -> None:
    assert list(foreign(text, suffix, ours)), text


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("// see https://x.example\n/* and https://y.example */ const a = 1; // b", ".js"),
        ("/*! MIT, https://x.example */ a { color: red }", ".css"),
        ("<!-- https://x.example --><p>hello</p>", ".html"),
        ('document.createElementNS("http://www.w3.org/2000/svg", "path")', ".js"),
        ('const half = a / 2; const url = new URL("/api", location); /x\\/\\/y/.test(a)', ".js"),
    ],
)
def test_the_reading_of_a_file_lets_the_rest_be(text: str, suffix: str) -> None:
    assert list(foreign(text, suffix, ours=True)) == []


_asked: list[tuple[str, Any]] = []
_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        _asked.append((event, arguments[0] if event.startswith("socket.get") else arguments[1]))


@pytest.fixture
def asked() -> Iterator[list[tuple[str, Any]]]:
    """Where this process connects to, and what names it looks up."""
    global _watching
    if _watch not in _hooked:  # a hook can't be taken away again
        sys.addaudithook(_watch)
        _hooked.append(_watch)
    _asked.clear()
    _watching = True
    yield _asked
    _watching = False


_hooked: list[Callable[..., None]] = []


def test_a_chat_a_comparison_and_a_ranking_connect_to_nobody_else(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[str, Any]]
) -> None:
    """The quick half of faults/test_offline.py, which watches the system calls."""
    workspace: Workspace = make_home(tmp_path / "home", shared_models(tmp_path_factory), "first", "second")
    with running(workspace) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        use(client)
        mine = {"127.0.0.1", str(client.base_url.host)}
    hosts = {place if isinstance(place, str) else place[0] for _, place in asked}
    assert hosts, "the watch sees nothing"
    assert hosts <= mine


def use(client: httpx.Client) -> None:
    def post(path: str, **body: Any) -> Any:
        return client.post(path, json=body).raise_for_status().json()

    number = post("/api/conversations")["id"]
    message = post(f"/api/conversations/{number}/messages", content="Who are you?")["message"]
    client.post(f"/api/conversations/{number}/answers", json={"max_tokens": 8}).raise_for_status()
    compared = post(f"/api/conversations/{number}/comparisons", to=message, n=2, against="0002", max_tokens=8)
    post(f"/api/comparisons/{compared['id']}", pick=0)
    drawn = post("/api/rank/draws", prompt="x", n=2, max_tokens=8)
    post("/api/rank/rankings", draw=drawn["id"], ranks=[1, 2])
    post("/api/feedback/consent", granted=True)
    for path in ("/", "/rank", "/metrics", "/health", "/api/state", "/v1/models", "/page/chat.js"):
        client.get(path).raise_for_status()
