"""What a monitor asks: /health, and /metrics in Prometheus's text format.

Both are read from counts that other threads keep, so that they answer while the engine is busy.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palmier.generate.requests import Event
from palmier.serve.answerer import Answerer
from palmier.serve.serving import Given
from palmier.serve.ticket import Ticket

router = APIRouter(include_in_schema=False)

READ = ["GET", "HEAD"]
"""How monitors and proxies ask whether somebody is there."""

FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Borders of the histograms, in seconds."""


class Timed(Protocol):
    """A request whose tokens are timed: who answers it, when it came, when each sample's last token did."""

    @property
    def version(self) -> str: ...

    @property
    def began(self) -> float: ...

    @property
    def heard(self) -> dict[int, float]: ...


class Metrics:
    """The counts of one server."""

    def __init__(self, live: Answerer) -> None:
        self.registry = CollectorRegistry()
        own, by = self.registry, ["version"]
        self._requests = Counter(
            "palmier_requests", "HTTP requests that have ended.", ["route", "status"], registry=own
        )
        self._prompt = Counter("palmier_prompt_tokens", "Tokens of the prompts that were answered.", by, registry=own)
        self._drawn = Counter("palmier_generated_tokens", "Tokens that were drawn.", by, registry=own)
        name, text = "palmier_time_to_first_token_seconds", "From a request's arrival to its first token."
        self._first = Histogram(name, text, by, registry=own, buckets=FIRST)
        name, text = "palmier_time_between_tokens_seconds", "Between two tokens of an answer."
        self._between = Histogram(name, text, by, registry=own, buckets=BETWEEN)
        self.registry.register(_Engines(live))
        ProcessCollector(registry=self.registry)
        live.count_for(self)

    def answered(self, route: str, status: int) -> None:
        """Count an HTTP request."""
        self._requests.labels(route, str(status)).inc()

    def watch(self, ticket: Ticket, events: Sequence[Event]) -> None:
        """Count what a step drew of a request; in the engine's thread."""
        drawn = [event.index for event in events if event.token is not None]
        if drawn and not ticket.heard:
            self.tokens(ticket.version, len(ticket.prompt), 0)
        self.times(ticket, drawn)
        self.tokens(ticket.version, 0, len(drawn))

    def times(self, request: Timed, drawn: Sequence[int]) -> None:
        """Note that a token of each of these samples has just come."""
        now = time.monotonic()
        if drawn and not request.heard:
            self._first.labels(request.version).observe(now - request.began)
        for index in drawn:
            if index in request.heard:
                self._between.labels(request.version).observe(now - request.heard[index])
            request.heard[index] = now

    def tokens(self, version: str, prompt: int, drawn: int) -> None:
        """Count tokens that were read and drawn."""
        self._prompt.labels(version).inc(prompt)
        self._drawn.labels(version).inc(drawn)


class _Engines(Collector):
    """What the versions are doing, looked at when it is asked for."""

    def __init__(self, live: Answerer) -> None:
        self._live = live

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = {
            "requests_running": "Requests that are being answered.",
            "requests_waiting": "Requests of which an answer waits for a slot.",
            "cache_pages_used": "Pages of keys and values that answers hold.",
            "cache_pages_total": "Pages of keys and values.",
            "cache_bytes": "Memory of the keys and values.",
        }
        families = {
            name: GaugeMetricFamily(f"palmier_{name}", text, labels=["version"]) for name, text in found.items()
        }
        for load in self._live.loads:
            # What another server keeps of keys and values is not known here, so nothing is told of it.
            values = (load.running, load.waiting, *(load.cache or ()))
            for family, value in zip(families.values(), values, strict=False):
                family.add_metric([load.version], value)
        yield from families.values()


class Meter:
    """The outermost layer of the app (ASGI): counts what every request was answered with."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # what is answered outside of this layer where a bug ends the request

        async def telling(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, telling)
        finally:
            self._metrics.answered(_route(scope), status)


def _route(scope: Scope) -> str:
    """The route's own path, with names for what varies: what clients make up must not become ever new series."""
    path = getattr(scope.get("route"), "path", None) or scope.get("root_path")  # a mounted folder is under its root
    return path if isinstance(path, str) and path else "none"


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


@router.get("/metrics")
async def metrics(given: Annotated[Metrics, Depends(_metrics)]) -> Response:
    return Response(generate_latest(given.registry), media_type=CONTENT_TYPE_LATEST)


@router.api_route("/health", methods=READ)
async def health(serving: Given) -> JSONResponse:
    """200 while there is somebody who answers, 503 when the engine has died or the backend is away: which version answers, how much waits, how much memory it takes.

    ``queue``: requests ``running`` and ``waiting`` for a slot, and the ``bound`` of those that may wait at a version.
    """
    live, loads = serving.live, serving.live.loads
    body: dict[str, Any] = {
        "status": live.status,
        "version": live.state.current,
        "precision": live.state.precision,
        "under_way": live.state.under_way,
        "queue": {
            "running": sum(load.running for load in loads),
            "waiting": sum(load.waiting for load in loads),
            "bound": live.bound,
        },
        "memory": {
            "resident_bytes": resident(),
            "cache_bytes": sum(load.cache.bytes for load in loads if load.cache is not None),
        },
    }
    if live.state.backend:
        body |= {"backend": live.state.backend, "problem": live.state.problem}
    return JSONResponse(body, 200 if live.status == "ok" else 503)


def resident() -> int | None:
    """Bytes of memory that this process holds now; None where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not sys.platform.startswith("linux") or not statm.is_file():
        return None
    return int(statm.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
