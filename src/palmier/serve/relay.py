"""OpenAI's routes where another server answers: what was asked is passed on, and what comes back is looked at.

The body goes as it came, so that whatever the other server knows (tools, images, logarithms of probabilities) works;
only the model's name becomes the one that it knows. An answer, and each event of a stream, must be OpenAI's JSON.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from palmier.errors import Refusal
from palmier.serve.answerer import Stopped
from palmier.serve.backend import Backend
from palmier.serve.chat import server_event
from palmier.serve.relayed import usage_of
from palmier.serve.remote import END
from palmier.serve.serving import NO_ENGINE, Absent, Given, Missing, check_version, stream, unless_gone
from palmier.serve.shapes import NOT_JSON, error_body

router = APIRouter(prefix="/v1")


def _backend(serving: Given) -> Backend:
    assert isinstance(serving.live, Backend)  # these routes are there where it is
    return serving.live


Asked = Annotated[Backend, Depends(_backend)]


@dataclass
class _Timed:
    """One request, for the metrics."""

    version: str
    began: float = field(default_factory=time.monotonic)
    heard: dict[int, float] = field(default_factory=dict)


@router.post("/chat/completions")
async def complete(serving: Given, backend: Asked, request: Request) -> Response:
    """Answer a conversation."""
    return await _passed_on(serving, backend, request, "/chat/completions")


@router.post("/completions")
async def complete_text(serving: Given, backend: Asked, request: Request) -> Response:
    """Continue a text."""
    return await _passed_on(serving, backend, request, "/completions")


@router.get("/models")
async def models(backend: Asked, request: Request) -> Response:
    """The other server's models, in its own words."""
    found = await unless_gone(request, backend.remote.get("/models"))
    return Response(status_code=499) if found is None else JSONResponse(found)


@router.get("/models/{name:path}")
async def model(backend: Asked, name: str) -> dict[str, Any]:
    listed = (await backend.remote.get("/models")).get("data")
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and one.get("id") == name:
            return one
    raise Missing(f"the backend at {backend.remote.address} lists no model {name!r}", "model", "model_not_found")


@router.post("/embeddings")
@router.post("/score")
async def absent() -> None:
    raise Absent(NO_ENGINE)


async def _passed_on(serving: Given, backend: Backend, request: Request, path: str) -> Response:
    body = await _read(request)
    name = body.get("model")
    if not isinstance(name, str | None):
        raise Refusal("model: give the name of a model, or leave it out")
    version = check_version(serving, name) or backend.state.current
    body["model"] = backend.models.get(version).id
    timed = _Timed(version)
    if body.get("stream") is True:
        return await _streamed(backend, request, path, body, timed)
    with backend.busy(version):
        found = await unless_gone(request, _in_time(backend, backend.remote.ask(path, body)))
    if found is None:
        return Response(status_code=499)  # nobody is there to read it
    _count(backend, timed, found)
    return JSONResponse(found)


async def _read(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refusal(NOT_JSON) from None
    if not isinstance(body, dict):
        raise Refusal("the body is not a JSON object")
    return body


async def _in_time(backend: Backend, asking: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(backend.request_seconds):
            return await asking
    except TimeoutError:
        raise backend.remote.late(backend.request_seconds) from None


async def _streamed(backend: Backend, request: Request, path: str, body: dict[str, Any], timed: _Timed) -> Response:
    options = body.get("stream_options")
    wished = isinstance(options, dict) and options.get("include_usage") is True
    if options is None or isinstance(options, dict):
        # Always, so that the metrics are true; who did not ask is not told.
        body["stream_options"] = (options or {}) | {"include_usage": True}
    async with AsyncExitStack() as until_answered:
        until_answered.enter_context(backend.busy(timed.version))
        entering = until_answered.enter_async_context(backend.remote.stream(path, body))
        events = await unless_gone(request, entering)
        if events is None:
            return Response(status_code=499)
        held = until_answered.pop_all()
    return stream(_events(backend, held, events, timed, wished))


async def _events(
    backend: Backend,
    held: AsyncExitStack,
    events: AsyncGenerator[dict[str, Any], None],
    timed: _Timed,
    wished: bool,
) -> AsyncGenerator[str, None]:
    seconds = backend.request_seconds
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    async with held, aclosing(events):
        try:
            while (event := await _next(backend, events, deadline)) is not None:
                if event.get("choices") and backend.metrics is not None:
                    backend.metrics.times(timed, [0])
                _count(backend, timed, event)
                if not wished and event.pop("usage", None) and not event.get("choices"):
                    continue
                yield server_event(event)
        except (Refusal, Stopped) as error:
            yield server_event(error_body(str(error), "server_error"))
            return
    yield f"data: {END}\n\n"


async def _next(
    backend: Backend, events: AsyncGenerator[dict[str, Any], None], deadline: float | None
) -> dict[str, Any] | None:
    """The next event; None after the last one. Raises Trouble, also where it is later than the deadline."""
    try:
        async with asyncio.timeout_at(deadline):
            return await anext(events, None)
    except TimeoutError:
        raise backend.remote.late(backend.request_seconds) from None


def _count(backend: Backend, timed: _Timed, told: dict[str, Any]) -> None:
    usage = usage_of(told)
    if usage is not None and backend.metrics is not None:
        backend.metrics.tokens(timed.version, usage.prompt, usage.drawn)
