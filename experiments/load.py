"""Many streams at once on the real model: is one lost, does /health go on answering, what does HTTP cost a token?

    python -m experiments.load --out results/load/cpu.json [--streams 200] [--tokens 32] [--rounds 12] [--model FOLDER]

Three parts, on an idle machine. **Burst**: all streams are asked for at one moment; each must end with its end event,
or with a 429 where the queue is full. **Patient**: the same, and whoever was sent away comes again after Retry-After,
until every stream has ended. During both a program of its own asks for /health fifty times a second. **Overhead**: the
time between two tokens, by the engine alone and through HTTP to another process, in one process with one model, taken
in turns; the first round warms up and is left out. The first two parts ask `palmier serve` in a process of its own.
Without ``--model`` it is SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np

from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.model.gguf import embedded_model
from palmier.records import Conversation, Sampling
from palmier.scale.runtime import threads
from palmier.serve import app
from palmier.serve.live import Live
from palmier.serve.loading import QUEUE, SLOTS, Loaded
from palmier.versions import Versions
from palmier.workspace import Workspace

from .recorded import arguments, keep, provenance
from .server import served
from .streams import Client, Stream

Found = TypeVar("Found")

IDLE_SECONDS = 5.0
PATIENCE = 200.0
"""Seconds for which a stream that found no room comes again."""

BATCHES = (1, 8)
DECODED = 64
"""Tokens of an answer whose time is taken."""

PROMPT = "Write a long story about a lighthouse, a storm and {} boats. Take your time, and leave nothing out."


def body(number: int, tokens: int) -> dict[str, Any]:
    """A request of its own for each stream: nothing is found in the cache but the beginning."""
    messages = [{"role": "user", "content": PROMPT.format(number)}]
    return {"messages": messages, "max_tokens": tokens, "temperature": 0, "top_p": 1.0, "stream": True}


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    if not seconds:
        return {"count": 0}
    found = 1000 * np.array(seconds)
    levels = {"p50": np.quantile(found, 0.5), "p99": np.quantile(found, 0.99), "max": found.max()}
    return {"count": len(seconds)} | {name: round(float(value), 2) for name, value in levels.items()}


def summary(found: list[Stream], health: list[float], seconds: float) -> dict[str, Any]:
    ends = Counter(one.end for one in found)
    return {
        "done": ends.pop("done", 0),
        "refused": ends.pop("refused", 0),
        "lost": dict(ends),
        "refusals": sum(one.refusals for one in found),
        "seconds": round(seconds, 1),
        "pieces": sum(len(one.pieces) for one in found),
        "first_token_ms": quantiles([one.pieces[0] - one.asked for one in found if one.pieces]),
        "health_ms": quantiles(health),
    }


def crowd(url: str, streams: int, tokens: int) -> dict[str, Any]:
    """The first two parts."""
    result: dict[str, Any] = {}
    with Client() as client, Client() as monitor:
        client.streams(url, [body(0, 4)])  # the first answer warms up
        monitor.begin(url=url, probe=600.0)
        time.sleep(IDLE_SECONDS)
        result["idle"] = {"health_ms": quantiles(monitor.probed())}
        for name, patience in (("burst", 0.0), ("patient", PATIENCE)):
            monitor.begin(url=url, probe=600.0)
            began = time.monotonic()
            found = client.streams(url, [body(number, tokens) for number in range(streams)], patience)
            result[name] = summary(found, monitor.probed(), time.monotonic() - began)
            print(name, json.dumps(result[name]), flush=True)
            while httpx.get(f"{url}/health").json()["under_way"]:
                time.sleep(0.1)
    return result


def in_its_thread(live: Live, what: Callable[[Loaded], Found]) -> Found:
    """Let the thread that answers do something else: products of another one would slow both."""

    def job(loaded: Loaded) -> Generator[None, None, Found]:
        yield
        return what(loaded)

    return asyncio.run(live.work(job))


def alone(loaded: Loaded, engine: Engine, batch: int) -> float:
    """Seconds a token of the engine by itself, over a batch of answers."""
    sampling = Sampling(0.0, max_tokens=DECODED)
    for number in range(batch):
        prompt = loaded.template.prompt(Conversation.ask(PROMPT.format(number)))
        engine.add(Request(str(number), tuple(prompt), sampling, loaded.template.stop_ids))
    times: dict[str, list[float]] = {}
    while engine.busy:
        for event in engine.step():
            times.setdefault(event.id, []).append(time.monotonic())
    return mean_gap(list(times.values()))


def mean_gap(times: list[list[float]]) -> float:
    """The mean over streams of the time between two of their tokens. Raises AssertionError where one ended early."""
    assert all(len(one) > 0.9 * DECODED for one in times), [len(one) for one in times]
    return float(np.mean([(one[-1] - one[0]) / (len(one) - 1) for one in times]))


@contextmanager
def in_this_process(home: Workspace) -> Iterator[tuple[str, Live]]:
    """A server in a thread, and what answers there."""
    serving = app.open_home(home)
    listener = socket.create_server(("127.0.0.1", 0))
    server = app.Server(serving)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        assert isinstance(serving.live, Live)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", serving.live
    finally:
        server.should_exit = True
        thread.join()


def overhead(home: Workspace, rounds: int) -> dict[str, Any]:
    """The third part: milliseconds a token, round by round."""
    result: dict[str, Any] = {f"batch {batch}": {"engine_ms": [], "http_ms": []} for batch in BATCHES}
    with in_this_process(home) as (url, live), Client() as client:
        engine = in_its_thread(live, Loaded.new_engine)
        result |= {"threads": threads(), "precision": live.answering.decoder.precision}
        for number in range(rounds + 1):
            for batch in BATCHES:
                took = in_its_thread(live, partial(alone, engine=engine, batch=batch))
                found = client.streams(url, [body(one, DECODED) for one in range(batch)])
                assert all(one.end == "done" for one in found), found
                if number:
                    result[f"batch {batch}"]["engine_ms"].append(1000 * took)
                    result[f"batch {batch}"]["http_ms"].append(1000 * mean_gap([one.pieces for one in found]))
    for batch in BATCHES:
        found_there = result[f"batch {batch}"]
        pairs = zip(found_there["engine_ms"], found_there["http_ms"], strict=True)
        found_there["ratio"] = [http / engine_ms for engine_ms, http in pairs]
        print(f"batch {batch}: through HTTP {np.median(found_there['ratio']):.3f} times the engine's", flush=True)
    return result


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=32, help="of each stream")
    parser.add_argument("--rounds", type=int, default=12, help="of the third part")
    given = parser.parse_args()
    sizes = f"--streams {given.streams} --tokens {given.tokens} --rounds {given.rounds}"
    result = provenance(f"python -m experiments.load {sizes}", given.model) | {
        "model": given.model.name if given.model else "SmolLM2-135M-Instruct",
        "streams": given.streams,
        "tokens": given.tokens,
        "room": {"slots": SLOTS, "queue": QUEUE},
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Workspace(Path(folder))
        versions = Versions(home)
        versions.add(given.model or embedded_model(home), label="load")
        versions.promote("0001")
        with served(home.home) as url:
            result |= crowd(url, given.streams, given.tokens)
        result["overhead"] = overhead(home, given.rounds)
    keep(result, given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
