"""What the routes work with, and how an error becomes an answer that says what to do."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from palmier.errors import Refusal
from palmier.feedback.store import Store
from palmier.generate.requests import QueueFull
from palmier.serve.chat import Turn
from palmier.serve.draws import Draws
from palmier.serve.live import Busy, Live, Stopped
from palmier.versions import Versions
from palmier.workspace import Workspace

RETRY_SECONDS = "2"


@dataclass(frozen=True)
class Serving:
    """One home being served."""

    workspace: Workspace
    versions: Versions
    live: Live
    store: Store
    draws: Draws
    turns: dict[str, Turn] = field(default_factory=dict)
    """Chat answers being written, by the name under which they can be stopped."""


Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
"""The number of something stored, in an address: what a row of the store can have."""


class Missing(Refusal):
    """Something that the address or a field names does not exist (HTTP 404)."""

    def __init__(self, sentence: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(sentence)
        self.param, self.code = param, code


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


Given = Annotated[Serving, Depends(_serving)]
"""A route's parameter: the home being served."""


def check_version(serving: Serving, name: str | None) -> str | None:
    """The version that a request asks for; None for whichever is current. Raises Missing."""
    if name is None or name in ("", "current", "palmier"):
        return None
    known = [version.name for version in serving.versions.all()]
    if name not in known:
        sentence = f"there is no version {name!r}; known: current, {', '.join(known)}"
        raise Missing(sentence, "model", "model_not_found")
    return name


def stream(events: AsyncGenerator[str, None]) -> StreamingResponse:
    """Answer with server-sent events; when the reader goes away, ``events`` is closed at once."""

    async def closing() -> AsyncIterator[str]:
        async with aclosing(events) as items:
            async for item in items:
                yield item

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(closing(), media_type="text/event-stream", headers=headers)


async def gone(request: Request) -> None:
    """Return when the client has closed the connection (the body must have been read)."""
    while not await request.is_disconnected():
        await asyncio.sleep(0.1)


def busy_process(workspace: Workspace) -> str:
    """Who holds the home's lock, for example ``improve (process 12)``; "" where nobody does.

    The lock is tried only where the process that wrote its name is alive, so that the look
    itself never stands in the way of a process that takes the lock.
    """
    if not workspace.lock.is_file():
        return ""
    holder = workspace.lock.read_text("utf-8").strip()
    number = holder.rpartition("process ")[2].rstrip(")")
    if not number.isdigit() or not _alive(int(number)):
        return ""
    with workspace.lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return holder
    return ""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def add_error_handlers(app: FastAPI) -> None:
    """A Refusal is 400, what does not exist 404, no room 429 or 503; all in OpenAI's shape."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Stopped, _stopped)


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["loc"][0] == "path":
        sentence = f"there is nothing under {str(first['input'])[:40]!r}: the address holds no such number"
        return JSONResponse(error_body(sentence, "invalid_request_error"), 404)
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "extra_forbidden":
        sentence = f"the field {place!r} is not supported here: leave it out"
    elif first["type"] == "json_invalid":
        place, sentence = "", f"the body is not JSON: {first['ctx']['error']}"
    else:
        sentence = f"{place or 'the body'}: {first['msg']}"
    return JSONResponse(error_body(sentence, "invalid_request_error", place or None), 400)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    sentence = str(error)
    if isinstance(error, Missing):
        return JSONResponse(error_body(sentence, "invalid_request_error", error.param, error.code), 404)
    if isinstance(error, QueueFull):
        body = error_body(sentence, "rate_limit_error", code="queue_full")
        return JSONResponse(body, 429, headers={"retry-after": RETRY_SECONDS})
    if isinstance(error, Busy):
        return JSONResponse(error_body(sentence, "server_error", code="busy"), 503, {"retry-after": RETRY_SECONDS})
    return JSONResponse(error_body(sentence, "invalid_request_error"), 400)


async def _stopped(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(error_body(str(error), "server_error", code="stopped"), 503, {"retry-after": "10"})
