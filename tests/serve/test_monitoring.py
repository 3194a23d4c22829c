"""/metrics and /health: what they tell is what happened, and they tell it while the engine is busy."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from palmier.serve.loading import QUEUE, SLOTS
from palmier.workspace import Workspace

from .home import Server, running
from .test_completions import complete, under_way, wait_until

PYTHONS_TURN = 0.005


def told(server: Server) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample: name → its labels' values, in the order of the labels' names → number."""
    response = httpx.get(f"{server.url}/metrics").raise_for_status()
    assert response.headers["content-type"].startswith("text/plain; version=")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels[name] for name in sorted(sample.labels))] = (
                sample.value
            )
    return found


def test_tokens_and_times_are_counted_by_version(home: Callable[..., Workspace]) -> None:
    with running(home("first", "varied")) as server:
        one = complete(server, temperature=0).json()["usage"]
        two = complete(server, model="0002", n=3, max_tokens=7, temperature=1.0, seed=1).json()["usage"]
        wait_until(lambda: under_way(server) == 0)
        found = told(server)
        again = told(server)
    for name, usage, answers in (("0001", one, 1), ("0002", two, 3)):
        assert found["palmier_prompt_tokens_total"][name,] == usage["prompt_tokens"]
        # The end token is drawn too, whether it is told or not.
        assert found["palmier_generated_tokens_total"][name,] == usage["completion_tokens"]
        assert found["palmier_time_to_first_token_seconds_count"][name,] == 1
        assert 0 < found["palmier_time_to_first_token_seconds_sum"][name,] < 10
        between = found["palmier_time_between_tokens_seconds_count"][name,]
        assert between == usage["completion_tokens"] - answers
        assert 0 < found["palmier_time_between_tokens_seconds_sum"][name,] / between < 1
    assert found["process_resident_memory_bytes"][()] > 1e7
    assert again["palmier_requests_total"]["/metrics", "200"] == 1


def test_requests_are_counted_by_route_and_status(home: Callable[..., Workspace]) -> None:
    with running(home("first")) as server:
        complete(server, max_tokens=2)
        complete(server, max_tokens=2, stream=True)
        complete(server, max_tokens=0)
        for path in ("/v1/models/0001", "/v1/models/nothing", "/made/up", "/made/up/too", "/page/chat.js"):
            httpx.get(server.url + path)
        httpx.get(f"{server.url}/v1/models", headers={"host": "evil.example"})
        found = told(server)["palmier_requests_total"]
    assert found == {
        ("/v1/chat/completions", "200"): 2,
        ("/v1/chat/completions", "400"): 1,
        ("/v1/models/{name}", "200"): 1,
        ("/v1/models/{name}", "404"): 1,
        ("/page", "200"): 1,
        ("none", "404"): 2,
        ("none", "421"): 1,
    }


def test_what_runs_and_waits_is_told_while_the_engine_is_busy(home: Callable[..., Workspace]) -> None:
    async def ask(url: str, count: int) -> None:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as client:
            wish = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 150}
            await asyncio.gather(*(client.post(f"{url}/v1/chat/completions", json=wish) for _ in range(count)))

    with running(home("endless")) as server:
        asking = threading.Thread(target=lambda: asyncio.run(ask(server.url, SLOTS + 8)))
        asking.start()
        wait_until(lambda: httpx.get(f"{server.url}/health").json()["queue"]["running"] == SLOTS)
        wait_until(lambda: under_way(server) == SLOTS + 8)
        began = time.monotonic()
        health: dict[str, Any] = httpx.get(f"{server.url}/health").json()
        found = told(server)
        assert time.monotonic() - began < 1, "nobody waits for the engine"
        assert health["queue"] == {"running": SLOTS, "waiting": 8, "bound": QUEUE}
        assert found["palmier_requests_running"]["0001",] == SLOTS
        assert found["palmier_requests_waiting"]["0001",] == 8
        used, total = (found[f"palmier_cache_pages_{name}"]["0001",] for name in ("used", "total"))
        assert SLOTS <= used <= total
        asking.join()
        wait_until(lambda: told(server)["palmier_cache_pages_used"]["0001",] == 0)
        assert told(server)["palmier_requests_running"]["0001",] == 0
        assert health["memory"]["cache_bytes"] == server.serving.live.answering.engine.cache_bytes > 0
        assert found["palmier_cache_bytes"]["0001",] == health["memory"]["cache_bytes"]


def test_health_tells_version_precision_and_memory(home: Callable[..., Workspace]) -> None:
    with running(home("first", "second"), "fp32") as server:
        health = httpx.get(f"{server.url}/health").json()
        assert (health["status"], health["version"], health["precision"]) == ("ok", "0001", "fp32")
        status = Path("/proc/self/status")  # the server is this process
        if status.is_file():
            line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmRSS"))
            assert health["memory"]["resident_bytes"] == pytest.approx(int(line.split()[1]) * 1024, rel=0.1)
        one = health["memory"]["cache_bytes"]
        complete(server, model="0002", max_tokens=2)
        assert httpx.get(f"{server.url}/health").json()["memory"]["cache_bytes"] == 2 * one


@pytest.mark.parametrize("path", ["/", "/rank", "/health"])
def test_whoever_asks_for_the_head_alone_gets_it(home: Callable[..., Workspace], path: str) -> None:
    with running(home("first")) as server:
        head, whole = httpx.head(server.url + path), httpx.get(server.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_health_is_503_when_the_engine_has_died(home: Callable[..., Workspace]) -> None:
    with running(home("first")) as server:

        def bug() -> None:
            raise ZeroDivisionError("a planted bug")

        server.serving.live._commands.put(bug)
        wait_until(lambda: httpx.get(f"{server.url}/health").status_code == 503)
        assert httpx.get(f"{server.url}/health").json()["status"] == "stopped"
        assert told(server)["palmier_requests_total"]["/health", "503"] > 0


def test_a_version_that_left_the_memory_is_not_told_as_being_there(home: Callable[..., Workspace]) -> None:
    with running(home("first", "second")) as server:
        server.promote("0002")
        wait_until(lambda: server.serving.live.state.loaded == ("0002",))
        assert set(told(server)["palmier_cache_pages_total"]) == {("0002",)}


def asked(client: httpx.Client, times: int) -> list[float]:
    """The seconds that /health takes, again and again on one connection."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        client.get("/health").raise_for_status()
        took.append(time.perf_counter() - began)
    return took


def test_no_write_waits_for_an_acknowledgement(home: Callable[..., Workspace]) -> None:
    """Head and body are two writes: with Nagle's algorithm the second one waits for a delayed acknowledgement, 40 ms."""
    with running(home("first")) as server, httpx.Client(base_url=server.url) as client:
        asked(client, 20)
        assert median(asked(client, 20)) < 0.03


def test_health_answers_at_once_beside_a_thread_that_never_waits(home: Callable[..., Workspace]) -> None:
    """A request takes the interpreter back again and again: with Python's own 5 ms a turn it takes far longer."""
    enough = threading.Event()

    def spin() -> None:
        while not enough.is_set():
            pass

    with running(home("first")) as server, httpx.Client(base_url=server.url) as client:
        thread = threading.Thread(target=spin)
        thread.start()
        try:
            took = asked(client, 20)
            turn = sys.getswitchinterval()
        finally:
            enough.set()
            thread.join()
    assert min(took[5:]) < 0.015, took
    assert turn <= PYTHONS_TURN / 10, "a fast machine answers within the bound with Python's own turns too"
