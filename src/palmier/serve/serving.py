"""What the routes work with, and how an error becomes an answer that says what to do."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from palmier.errors import Refusal, Unable
from palmier.feedback.store import NotStored, Store
from palmier.generate.requests import QueueFull
from palmier.serve.answerer import Answerer, Catalogue, Reply
from palmier.serve.chat import drain
from palmier.serve.draws import Draws
from palmier.serve.guard import HEADERS
from palmier.serve.live import Busy, Live, Stopped
from palmier.serve.remote import Trouble
from palmier.serve.shapes import NOT_JSON, Fault, fault_response
from palmier.workspace import Workspace

Result = TypeVar("Result")

RETRY_SECONDS = "2"

NO_ENGINE = (
    "another server answers here (--backend), and this asks about a model in this process: ask that server itself"
)


@dataclass(frozen=True)
class Serving:
    """One home being served."""

    workspace: Workspace
    versions: Catalogue
    live: Answerer
    store: Store
    draws: Draws
    turns: dict[str, Reply] = field(default_factory=dict)
    """Chat answers being written, by the name under which they can be stopped."""


Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
"""The number of something stored, in an address: what a row of the store can have."""


class Missing(Refusal):
    """Something that the address or a field names does not exist (HTTP 404)."""


class Absent(Refusal):
    """What only a model in this process could tell, where another server answers (HTTP 501)."""


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


Given = Annotated[Serving, Depends(_serving)]
"""A route's parameter: the home being served."""


def check_version(serving: Serving, name: str | None) -> str | None:
    """The version that a request asks for; None for whichever is current. Raises Missing."""
    if name is None or name in ("", "current", "palmier"):
        return None
    try:
        return serving.versions.get(name).name
    except Refusal:
        known = [version.name for version in serving.versions.all()]
        sentence = f"there is no version {name[:80]!r}; known: current, {', '.join(known)}"
        raise Missing(sentence, "model", "model_not_found") from None


def engines(serving: Serving) -> Live:
    """This process's own engines, for what asks about tokens. Raises Absent where another server answers."""
    if not isinstance(serving.live, Live):
        raise Absent(NO_ENGINE)
    return serving.live


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


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What ``work`` gives; None where the client went away before: then it is cancelled."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
    if working.cancelled() or not working.done():
        return None
    return working.result()


async def read_to_end(pieces: AsyncGenerator[Any, None], request: Request) -> bool:
    """Draw to the end; False where the client went away before (its slots are free again)."""

    async def to_end() -> bool:
        await drain(pieces)
        return True

    return await unless_gone(request, to_end()) or False


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
    """A Refusal is 400, what does not exist 404, no room 429 or 503, a full disk 503, a bug 500; in the shape of the path's API."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Stopped, _refused)
    app.add_exception_handler(Exception, _broken)


def fault_of(error: Refusal | Stopped) -> Fault:
    """How a refusal is told over HTTP."""
    sentence = str(error)
    if isinstance(error, Stopped):
        return Fault(503, sentence, "server_error", code="stopped", retry="10")
    if isinstance(error, Missing):
        return Fault(404, sentence, param=error.param, code=error.code)
    if isinstance(error, Trouble):
        return error.fault
    if isinstance(error, Absent):
        return Fault(501, sentence, code="not_with_a_backend")
    if isinstance(error, NotStored):
        return Fault(404, sentence)
    if isinstance(error, QueueFull):
        return Fault(429, sentence, "rate_limit_error", code="queue_full", retry=RETRY_SECONDS)
    if isinstance(error, Busy):
        return Fault(503, sentence, "server_error", code="busy", retry=RETRY_SECONDS)
    if isinstance(error, Unable):
        return Fault(503, sentence, "server_error", code="unable", retry=RETRY_SECONDS)
    return Fault(400, sentence, param=error.param, code=error.code)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["loc"][0] == "path":
        sentence = f"there is nothing under {str(first['input'])[:40]!r}: the address holds no such number"
        return fault_response(request.url.path, Fault(404, sentence))
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "extra_forbidden":
        sentence = f"the field {place!r} is not supported here: leave it out"
    elif first["type"] == "json_invalid":
        place, sentence = "", f"the body is not JSON: {first['ctx']['error']}"
    elif not place and isinstance(first["input"], bytes):  # FastAPI reads JSON only where the header says so
        sentence = "the body: send JSON, with the header content-type: application/json"
    else:
        sentence = f"{place or 'the body'}: {first['msg']}"
    return fault_response(request.url.path, Fault(400, sentence, param=place or None))


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    """No such route, another method, a body that can't even be decoded."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    sentence = {
        400: NOT_JSON,
        404: f"there is nothing under {path[:80]!r}",
        405: f"{path[:80]} is not asked with {request.method[:20]}",
    }.get(error.status_code, str(error.detail))
    response = fault_response(path, Fault(error.status_code, sentence))
    response.headers.update(error.headers or {})
    return response


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal | Stopped)
    return fault_response(request.url.path, fault_of(error))


async def _broken(request: Request, _error: Exception) -> JSONResponse:
    """A bug: whoever asked is told so, the traceback goes to the log."""
    fault = Fault(500, "the server failed at this request: its output tells why", "server_error")
    response = fault_response(request.url.path, fault)
    # This answer is made outside of the guard.
    response.raw_headers.extend(HEADERS)
    return response
