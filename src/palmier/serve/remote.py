"""One other server that speaks OpenAI's API: asked over HTTP, its faults told in one line, its key told to nobody else.

Nothing is asked of any address but the one that was given: redirects are not followed, and no proxy is taken from
the environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from palmier.errors import Refusal
from palmier.serve.answerer import Stopped
from palmier.serve.shapes import Fault

SILENCE = 300.0
"""Seconds without a byte after which a server is given up: a long prompt, or a model that is loaded first, takes its time."""

CONNECT_SECONDS = 10.0

MOST_STREAMS = 128
"""Answers that the other server is asked for at a time."""

MOST_LINE = 4 << 20
MOST_BODY = 32 << 20
"""Bytes of one event, and of one whole answer."""

MOST_REASON = 300
"""Characters of the other server's own words that are repeated."""

LONGEST_NAME = 500

END = "[DONE]"

STOPPING = "the server is stopping"


class Trouble(Refusal):
    """The other server does not do what it was asked: ``fault`` says how that is told."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.sentence)
        self.fault = fault


class Remote:
    """An OpenAI-compatible server at ``url`` (with or without the final ``/v1``). Raises Refusal for what is no address.

    ``silence`` is the longest that it may say nothing, in seconds. Used from one event loop.
    """

    def __init__(self, url: str, key: str = "", silence: float = SILENCE) -> None:
        self.address = _checked(url)
        self._base = f"{self.address}/v1"
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise Refusal("the backend's key must be ASCII characters without spaces")
        self._key, self._silence, self._stopping = key, silence, False
        # Compressed, the pieces of a stream could come late.
        self._headers = {"accept-encoding": "identity", "content-type": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._tls = httpx.create_ssl_context()
        self._client = httpx.AsyncClient(
            **self._settings(),
            timeout=httpx.Timeout(silence, connect=min(CONNECT_SECONDS, silence)),
            # A little more than what is asked for at a time, so that nobody ever waits for a connection.
            limits=httpx.Limits(max_connections=MOST_STREAMS + 16, max_keepalive_connections=16, keepalive_expiry=3),
        )

    def models_at_start(self) -> dict[str, str]:
        """What `models` gives, before there is an event loop. Raises Trouble."""
        try:
            with httpx.Client(**self._settings(), timeout=min(CONNECT_SECONDS, self._silence)) as client:
                response = client.get(f"{self._base}/models")
        except httpx.HTTPError as error:
            raise self._failed(error) from None
        if response.status_code != 200:
            raise self._refused(response, response.content)
        return self._names(self._read(response.content))

    async def models(self) -> dict[str, str]:
        """The names of its models, and who it says made each: its own kind, mostly. Raises Trouble where there is none."""
        return self._names(await self.get("/models", seconds=CONNECT_SECONDS))

    async def get(self, path: str, seconds: float | None = None) -> dict[str, Any]:
        """The JSON object below an address. Raises Trouble."""
        limit = min(self._silence, seconds or self._silence)
        request = self._client.build_request("GET", self._base + path, timeout=limit)
        async with self._answer(request) as response:
            return self._read(await self._body(response))

    async def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What it answers as a whole. Raises Trouble."""
        async with self._answer(self._posted(path, body)) as response:
            return self._read(await self._body(response))

    @asynccontextmanager
    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[AsyncGenerator[dict[str, Any], None]]:
        """What it answers event by event, from when it begins to; the connection ends with the block. Raises Trouble.

        The events end with the `[DONE]` that it says, or raise Trouble.
        """
        async with self._answer(self._posted(path, body)) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip()
            if kind != "text/event-stream":
                raise self.garbage(f"it was asked for a stream and sends {kind[:60] or 'something without a type'}")
            yield self._events(response)

    async def stop(self) -> None:
        """Close every connection; who reads from one, or asks for one from now on, gets Stopped."""
        self._stopping = True
        await self._client.aclose()

    def late(self, seconds: float | None) -> Trouble:
        """What to raise where an answer took longer than it may."""
        return self._trouble(504, f"has not ended its answer within {seconds:g} seconds", "backend_late")

    def _settings(self) -> dict[str, Any]:
        return {"headers": self._headers, "verify": self._tls, "trust_env": False, "follow_redirects": False}

    def _posted(self, path: str, body: dict[str, Any]) -> httpx.Request:
        # In ASCII: half a character, which JSON can name, has no bytes of its own.
        return self._client.build_request("POST", self._base + path, content=json.dumps(body).encode())

    @asynccontextmanager
    async def _answer(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """An answer with status 200, whose body is still to come; whatever goes wrong with it becomes Trouble."""
        if self._stopping:
            raise Stopped(STOPPING)
        response: httpx.Response | None = None
        try:
            response = await self._client.send(request, stream=True)
            if response.status_code != 200:
                raise self._refused(response, await self._body(response, short=True))
            yield response
        except httpx.HTTPError as error:
            raise self._failed(error, begun=response is not None) from None
        finally:
            if response is not None:
                await response.aclose()

    async def _body(self, response: httpx.Response, *, short: bool = False) -> bytes:
        """Everything it sends; ``short``: as far as it is needed to say what is wrong."""
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if short and len(body) > 1 << 16:
                break
            if len(body) > MOST_BODY:
                raise self.garbage(f"its answer is longer than {MOST_BODY >> 20} MiB")
        return body

    async def _events(self, response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
        async for data in self._data(response):
            if data == END:
                return
            event = self._read(data.encode())
            if event.get("error"):
                reason = self._reason(json.dumps(event).encode())
                raise self._trouble(502, f"failed in the middle of an answer: {reason}", "backend_failed")
            yield event
        raise self._trouble(502, "broke off in the middle of an answer", "backend_broke_off")

    async def _parts(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """What comes. Whoever reads gets Trouble here already, not only when the block of `stream` is left with it."""
        try:
            async for part in response.aiter_bytes():
                yield part
        except httpx.HTTPError as error:
            raise self._failed(error, begun=True) from None

    async def _data(self, response: httpx.Response) -> AsyncGenerator[str, None]:
        """The data of each server-sent event; comments, which keep a connection open, and other fields are skipped."""
        rest, data = b"", list[str]()
        async for part in self._parts(response):
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) > MOST_LINE or sum(map(len, data)) > MOST_LINE:
                raise self.garbage("a line of its stream does not end")
            for line in lines:
                try:
                    text = line.rstrip(b"\r").decode()
                except UnicodeDecodeError:
                    raise self.garbage("its stream is not UTF-8") from None
                if text.startswith("data:"):
                    data.append(text[5:].removeprefix(" "))
                elif not text and data:
                    yield "\n".join(data)
                    data.clear()
                elif text and not re.match(r":|(event|id|retry):", text):
                    raise self.garbage(f"its stream holds {self._clean(text[:60])!r}")
        if data:  # the last event of a server that leaves the empty line out
            yield "\n".join(data)

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            # NaN and infinity are no JSON, though some say them; half a character has no bytes.
            value = json.loads(body, parse_constant=lambda _: None)
            if b"\\ud" in body or b"\\uD" in body:
                value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        except ValueError:
            raise self.garbage("it is no JSON") from None
        except RecursionError:
            raise self.garbage("its JSON is nested too deeply") from None
        if not isinstance(value, dict):
            raise self.garbage("it is no JSON object")
        return value

    def _names(self, listed: dict[str, Any]) -> dict[str, str]:
        data = listed.get("data") or []  # some say null where there is none
        if not isinstance(data, list) or not all(isinstance(one, dict) and _is_name(one.get("id")) for one in data):
            raise self.garbage("its list of models has another form")
        if not data:
            raise self._trouble(502, "lists no model: load one there first", "backend_without_model")
        return {one["id"]: str(one.get("owned_by", "")) for one in data}

    # ── what is told of a fault ──────────────────────────────────────────────────────────

    def _failed(self, error: httpx.HTTPError, *, begun: bool = False) -> Trouble | Stopped:
        if self._stopping:
            return Stopped(STOPPING)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            why = self._clean(str(error)) or "no answer in time"
            return self._trouble(502, f"can't be reached ({why}): is it running?", "backend_unreachable")
        if isinstance(error, httpx.TimeoutException):
            waited = error.request.extensions["timeout"]["read"]  # a list of models is waited for less long
            return self._trouble(504, f"said nothing for {waited:g} seconds", "backend_silent")
        if begun:
            return self._trouble(502, "broke off in the middle of an answer", "backend_broke_off")
        return self._trouble(502, "closed the connection without an answer", "backend_broke_off")

    def _refused(self, response: httpx.Response, body: bytes) -> Trouble:
        """What a status other than 200 means to whoever asked us."""
        status, reason = response.status_code, self._reason(body)
        told = f" ({status}){': ' if reason else ''}{reason}"
        if status in (401, 403):
            what = f"refuses its key{told}" if self._key else f"wants a key{told}"
            sentence = f"{what}; give the right one to --backend-key or PALMIER_BACKEND_KEY"
            return self._trouble(502, sentence, "backend_key")
        if status == 404:
            return self._trouble(404, f"knows no such model or address{told}", "backend_not_found")
        if status in (429, 503):
            wait = response.headers.get("retry-after", "")
            retry = wait if re.fullmatch(r"\d{1,5}", wait) else "2"
            what = "has no room at this moment" if status == 429 else "is not ready"
            return self._trouble(status, f"{what}{told}", "backend_busy", retry)
        if 300 <= status < 400:
            sentence = f"sends on to another address{told}, where nothing of yours goes: give that address itself"
            return self._trouble(502, sentence, "backend_redirects")
        if 400 <= status < 500:
            return self._trouble(
                status if status in (413, 422) else 400, f"refuses the request{told}", "backend_refuses"
            )
        return self._trouble(502, f"failed{told}", "backend_failed")

    def garbage(self, what: str) -> Trouble:
        """What to raise where it answers, but not as OpenAI's API does: ``what`` it says instead."""
        sentence = f"answers with something that is not OpenAI's API ({what}): is its address right?"
        return self._trouble(502, sentence, "backend_garbage")

    def _trouble(self, status: int, what: str, code: str, retry: str = "") -> Trouble:
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        return Trouble(Fault(status, f"the backend at {self.address} {what}", kind, code=code, retry=retry))

    def _reason(self, body: bytes) -> str:
        """The other server's own words, where it has any."""
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError):
            return ""
        for name in ("error", "message", "detail"):
            if isinstance(value, dict) and value.get(name):
                value = value[name]
        if isinstance(value, dict | list):
            value = json.dumps(value) if value else ""
        return self._clean(str(value))

    def _clean(self, text: str) -> str:
        """One line without control characters, not too long, and without the key, which some servers repeat."""
        text = text.replace(self._key, "…") if self._key else text
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= MOST_REASON else f"{text[:MOST_REASON]}…"


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _checked(url: str) -> str:
    """An address without its final slash and ``/v1``. Raises Refusal."""
    wanted = f"--backend {url!r}: give an address such as http://127.0.0.1:8080"
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise Refusal(wanted) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise Refusal(wanted)
    if "@" in parts.netloc:
        raise Refusal("--backend: leave name and password out of the address; a key goes to PALMIER_BACKEND_KEY")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise Refusal(f"{wanted}, without ? and #")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
