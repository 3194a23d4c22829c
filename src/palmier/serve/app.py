"""The HTTP server: the pages, OpenAI's and Anthropic's API, and the pages' own; by default for this machine alone."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from palmier import __version__
from palmier.errors import Refusal
from palmier.feedback.store import open_store
from palmier.model.gguf import embedded_model
from palmier.models.names import resolve_model
from palmier.scale.precision import Precision
from palmier.serve import (
    answers,
    anthropic,
    compare,
    completions,
    conversations,
    embeddings,
    feedback,
    monitoring,
    ranking,
    relay,
    score,
    signin,
    text_completions,
)
from palmier.serve.backend import Backend
from palmier.serve.draws import Draws
from palmier.serve.guard import LOCAL, Access, Guard
from palmier.serve.live import Live
from palmier.serve.loading import check
from palmier.serve.monitoring import READ, Meter, Metrics
from palmier.serve.remote import Remote
from palmier.serve.score import Scorer
from palmier.serve.serving import Serving, add_error_handlers
from palmier.versions import CARD, Version, Versions
from palmier.workspace import Workspace

GRACE_SECONDS = 2
"""How long connections may stay open after Ctrl-C."""

PAGE = Path(__file__).parent / "page"

pages = APIRouter(include_in_schema=False)


class _Files(StaticFiles):
    """The pages' own files; a browser asks each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


@pages.api_route("/", methods=READ)
async def chat_page() -> FileResponse:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})


@pages.api_route("/rank", methods=READ)
async def rank_page() -> FileResponse:
    return FileResponse(PAGE / "rank.html", headers={"cache-control": "no-cache"})


def first_version(workspace: Workspace, spec: str | None = None) -> Version:
    """The version that answers. A new home gets its first one, out of the embedded model.

    Where ``spec`` names a version it is promoted; another model is made a version first,
    unless it is one already. Raises Refusal, with the home as it was, where it can't answer.
    """
    versions = Versions(workspace)
    current = versions.current()
    if spec is None:
        if current is not None:
            return current
        return versions.promote(_as_version(versions, embedded_model(workspace)).name)
    if any(version.name == spec for version in versions.all()):
        check(versions.get(spec).folder)
        return versions.promote(spec)
    model = resolve_model(spec, workspace)
    check(model)
    return versions.promote(_as_version(versions, model).name)


def _as_version(versions: Versions, model: Path) -> Version:
    """The version made of a model's folder before, or a new one."""
    for version in versions.all():
        if version.card.get("source") == str(model.resolve()) and _same_files(version, model):
            return version
    name = "SmolLM2-135M-Instruct" if model.name == "smollm2-135m-instruct" else model.name
    if (model.parent / "latest").is_file():  # a step of a run is called by the run's name
        name = model.parent.resolve().name
    # Another process that adds a version at this moment would take the same number.
    with versions.workspace.exclusively("serve"):
        return versions.add(model, label=name, source=str(model.resolve()))


def _same_files(version: Version, model: Path) -> bool:
    """By size and age: a run that went on since has newer files."""
    for path in model.iterdir():
        copy = version.folder / path.name
        if path.is_file() and path.name != CARD:
            same = copy.is_file() and copy.stat().st_size == path.stat().st_size
            if not same or copy.stat().st_mtime_ns != path.stat().st_mtime_ns:
                return False
    return True


def open_home(
    workspace: Workspace, spec: str | None = None, precision: Precision = "auto", database: str = ""
) -> Serving:
    """Load the version that answers, and the store (``database``: at this address). Raises Refusal."""
    first_version(workspace, spec)
    live = Live(Versions(workspace), precision)
    try:
        store = open_store(workspace, database)
        return Serving(workspace, Versions(workspace), live, store, Draws(workspace.draws, live))
    except Refusal:
        live.close()
        raise


def open_backend(workspace: Workspace, remote: Remote, database: str = "") -> Serving:
    """Let another server answer; the home keeps what people say, and no model is loaded. Raises Refusal."""
    backend = Backend(remote)
    store = open_store(workspace, database)
    return Serving(workspace, backend.models, backend, store, Draws(workspace.draws, backend))


OWN = (completions.router, text_completions.router, embeddings.router, score.router)
"""What asks about tokens, or about a model of the home: where another server answers, `relay` stands in its place."""

ROUTERS = (
    pages,
    monitoring.router,
    signin.router,
    anthropic.router,
    conversations.router,
    answers.router,
    feedback.router,
    compare.router,
    ranking.router,
)


def create_app(serving: Serving, access: Access = LOCAL) -> FastAPI:
    """The ASGI application; it closes ``serving`` when it ends."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with serving.live.open():
            yield
            await serving.draws.close()
        serving.store.close()

    # FastAPI's own documentation pages load scripts from elsewhere, so they are off.
    app = FastAPI(
        title="Palmier",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/schema",
        responses={"4XX": {"description": "What is wrong with the request, in the shape of the path's API"}},
    )
    app.state.serving, app.state.access = serving, access
    app.state.metrics, app.state.scorer = Metrics(serving.live), Scorer(serving.workspace)
    for router in (*ROUTERS, *(OWN if isinstance(serving.live, Live) else (relay.router,))):
        app.include_router(router)
    # Text shrinks to a third; streams are never compressed, for their pieces would come late.
    app.mount("/page", GZipMiddleware(_Files(directory=PAGE)), name="page")
    add_error_handlers(app)
    app.add_middleware(Guard, access=access)
    app.add_middleware(Meter, metrics=app.state.metrics)
    return app


TURN_SECONDS = 0.0005
"""How long the engine's thread may go on with Python while the event loop waits for the interpreter.

Python's own 5 ms add up: a request takes the interpreter back after each of its system calls.
"""


class Server(uvicorn.Server):
    """Serves one home until Ctrl-C; answers that are being written then end at once."""

    def __init__(self, serving: Serving, access: Access = LOCAL) -> None:
        self._live = serving.live
        config = uvicorn.Config(
            create_app(serving, access),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        sys.setswitchinterval(TURN_SECONDS)
        # Connections inherit it. asyncio sets it only where a socket names its protocol, which a listener of ours does
        # not; without it every second write of an answer waits 40 ms for the client's delayed acknowledgement.
        for listener in sockets or ():
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # First what the open streams wait for: they would keep the server up until the grace is over.
        await asyncio.to_thread(self._live.close)
        await super().shutdown(sockets)
