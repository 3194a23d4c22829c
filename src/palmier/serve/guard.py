"""Who may talk to the server: pages of its own, programs on this machine, and whoever has the key.

A foreign page in the same browser can reach loopback too. Two checks keep it out: the Host
header must be a name that the server answers to (on loopback a loopback name), so that a foreign
name that was pointed at 127.0.0.1 (DNS rebinding) gets nothing; and an Origin, where a browser
sends one, must be this server's own, so that a foreign page can't make it do things (cross-site
requests). Where there is a key, everything but /health and the page that asks for it demands it.
Every answer carries a content security policy under which nothing but our own files may run.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palmier.errors import Refusal
from palmier.serve.shapes import Fault, fault_response

LOOPBACK = ("127.0.0.1", "localhost", "::1")

MOST_BYTES = 1 << 20
"""Largest body of a request: far more than any context holds."""

SHORTEST_KEY = 8

COOKIE = "palmier_key"
"""What a browser that signed in sends: not the key, but a code that only who knows the key can make."""

SIGN_IN_FILES = ("key.js", "key.css", "base.css", "theme.js", "icon.svg", "words.js", "german.js")
LANGUAGE_FILES = ("chat.js", "feedback.js", "rank.js")

OPEN = frozenset(
    {"/health", "/api/key"}
    | {f"/page/{name}" for name in SIGN_IN_FILES}
    | {f"/page/german/{name}" for name in LANGUAGE_FILES}
)
"""Answered without the key: what a monitor asks, and what the page that asks for the key is made of."""

PAGES = ("/", "/rank")
"""Where a browser without the key is asked for it."""

SIGN_IN = Path(__file__).parent / "page" / "key.html"

MOST_DISCARDED = 64 << 20
"""Bytes of a body that is too large which are read and thrown away before it is refused."""

BODY_SECONDS = 30.0
"""Seconds for which a client may send nothing of a body that it has begun."""

TOO_SLOW = Fault(408, "the rest of the request's body has not come: send it again")
TOO_LARGE = Fault(413, f"a request may bring at most {MOST_BYTES} bytes")

NO_KEY = Fault(
    401,
    "this server asks for its key: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`",
    code="invalid_api_key",
)

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

Headers = dict[bytes, list[bytes]]


@dataclass(frozen=True)
class Access:
    """Who may reach the server: the address it is bound to, its key ("" for none), and further names it answers to.

    Raises Refusal where others than this machine could reach it without a key, and for what is no key or no name.
    """

    address: str = "127.0.0.1"
    key: str = field(default="", repr=False)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.key and (len(self.key) < SHORTEST_KEY or not re.fullmatch(r"[\x21-\x7e]+", self.key)):
            raise Refusal(f"the API key must be {SHORTEST_KEY} or more ASCII characters without spaces")
        for name in self.names:
            if (
                not re.fullmatch(r"[A-Za-z0-9.:_-]+", name)
                or _name_and_port(f"//{_bracketed(name)}")[0] != name.lower()
            ):
                raise Refusal(f"--allow-host {name!r} is no name: give it without scheme, port and path")
        if not self.key and not (is_loopback(self.address) and all(map(is_loopback, self.names))):
            raise Refusal(
                "others than this machine could reach the server: give it a key with --api-key KEY or "
                "PALMIER_API_KEY, or leave --host and --allow-host out"
            )

    @property
    def hosts(self) -> frozenset[str]:
        """The names that a Host header may bring."""
        return frozenset((*LOOPBACK, self.address.lower(), *(name.lower() for name in self.names))) - {
            "",
            "0.0.0.0",
            "::",
        }

    @property
    def cookie(self) -> str:
        """What a browser keeps instead of the key."""
        return hmac.new(self.key.encode(), b"palmier's page", hashlib.sha256).hexdigest()

    def opens(self, offered: bytes) -> bool:
        """Whether this is the key."""
        return _equal(offered, self.key.encode())


def is_loopback(name: str) -> bool:
    """Whether an address, or a name, is this machine's alone."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


LOCAL = Access()
"""This machine alone, without a key."""


class Guard:
    """A layer around the app (ASGI)."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        telling = _with_headers(send)
        fault = objection(scope, self._access)
        if fault is NO_KEY and scope["path"] in PAGES and scope["method"] in ("GET", "HEAD"):
            page = FileResponse(SIGN_IN, 401, {"cache-control": "no-store"})
            await page(scope, receive, telling)
        elif fault is not None:
            await _refuse(scope, receive, telling, fault)
        else:
            body = _Body(scope, receive, telling)
            await self._app(scope, body.receive, body.send)


def objection(scope: Scope, access: Access = LOCAL) -> Fault | None:
    """Why a request is not answered; None where it is welcome."""
    headers: Headers = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    hosts = [value.decode("latin-1") for value in headers.get(b"host", [])]
    if len(hosts) != 1 or _name_and_port(f"//{hosts[0]}")[0] not in access.hosts:
        return Fault(421, f"this server does not answer to this name, but to {', '.join(sorted(access.hosts))}")
    for value in headers.get(b"origin", []):
        if not _is_own(value.decode("latin-1"), hosts[0], access):
            return Fault(403, "requests from other web pages are not answered")
    if access.key and scope["path"] not in OPEN and not _has_key(headers, access):
        return NO_KEY
    if int(headers.get(b"content-length", [b"0"])[0] or 0) > MOST_BYTES:
        return TOO_LARGE
    return None


def _is_own(origin: str, host: str, access: Access) -> bool:
    """Whether a page of this origin is ours: on loopback any loopback name at our port, else the very name asked for."""
    name, port = _name_and_port(origin)
    asked, own_port = _name_and_port(f"//{host}")
    if asked in LOOPBACK:
        return origin.startswith("http://") and name in LOOPBACK and port == own_port
    # Before the server may stand another one that encrypts: then the scheme is https, and the port that one's.
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}") and name in access.hosts


def _has_key(headers: Headers, access: Access) -> bool:
    offered = list(headers.get(b"x-api-key", []))
    for value in headers.get(b"authorization", []):
        scheme, _, rest = value.partition(b" ")
        if scheme.lower() == b"bearer":
            offered.append(rest.strip())
    if any([access.opens(one) for one in offered]):
        return True
    cookies = b";".join(headers.get(b"cookie", [])).split(b";")
    found = [value for name, _, value in (one.strip().partition(b"=") for one in cookies) if name == COOKIE.encode()]
    return any([_equal(one, access.cookie.encode()) for one in found])


def _equal(one: bytes, other: bytes) -> bool:
    # Digests have one length, so that the comparison's time tells nothing of the key's.
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _name_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        return (parts.hostname or ""), (parts.port or 80)
    except ValueError:
        return "", 0


class _Body:
    """Counts a body whose length was not told beforehand, and waits for it only so long.

    Past a limit the answer is 413 or 408, whatever the app says.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._seen = 0
        self._refused = self._whole = False

    async def receive(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), None if self._whole else BODY_SECONDS)
        except TimeoutError:
            return await self._give_up(TOO_SLOW)
        self._whole = not message.get("more_body", False)
        self._seen += len(message.get("body", b""))
        if self._seen <= MOST_BYTES:
            return message
        return await self._give_up(TOO_LARGE, more=not self._whole)

    async def _give_up(self, fault: Fault, *, more: bool = True) -> Message:
        """Answer with the fault, once; for the app it is as if the client had gone."""
        if not self._refused:
            self._refused = True
            await _refuse(self._scope, self._receive, self._send, fault, more)
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


async def _discard(receive: Receive) -> None:
    """Read on: an answer to somebody who is still sending is lost with the connection that is closed upon it."""
    seen = 0
    while seen < MOST_DISCARDED:
        try:
            message = await asyncio.wait_for(receive(), BODY_SECONDS)
        except TimeoutError:
            return
        seen += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def _refuse(scope: Scope, receive: Receive, send: Send, fault: Fault, more: bool = True) -> None:
    """Answer with the fault; ``more``: whether some of the body may still be on its way."""
    if fault is TOO_LARGE and more:
        await _discard(receive)
    response = fault_response(scope["path"], fault)
    response.headers["connection"] = "close"
    await response(scope, receive, send)
