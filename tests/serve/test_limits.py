"""The time that one answer may take: what was said until then is the answer, cut, and says so in each API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from palmier.workspace import Workspace

from .home import SENTENCES, running
from .test_completions import complete, text, wait_until

WISH: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 600}


def test_an_answer_that_takes_too_long_is_cut(home: Callable[..., Workspace]) -> None:
    with running(home("endless")) as server:
        live = server.serving.live
        live.request_seconds = 0.4
        began = time.monotonic()
        chat = complete(server, **WISH).json()
        took = time.monotonic() - began
        wait_until(lambda: live.answering.engine.running == 0, 1)
        url = f"{server.url}/v1/messages"
        message = httpx.post(url, json=WISH | {"model": "current"}).json()
        streamed = httpx.post(url, json=WISH | {"model": "current", "stream": True}).text
        live.request_seconds = None
        free = complete(server, **WISH | {"max_tokens": 200}).json()
    assert 0.4 <= took < 1.5
    assert chat["choices"][0]["finish_reason"] == "length"
    assert 0 < chat["usage"]["completion_tokens"] < 600
    assert chat["choices"][0]["message"]["content"].startswith("la la")
    assert message["stop_reason"] == "max_tokens"
    assert '"stop_reason": "max_tokens"' in streamed
    assert free["usage"]["completion_tokens"] == 200


def test_an_answer_within_its_time_is_as_it_was(home: Callable[..., Workspace]) -> None:
    with running(home("first")) as server:
        server.serving.live.request_seconds = 20
        whole = complete(server, temperature=0)
        assert text(whole) == SENTENCES["first"]
        assert whole.json()["choices"][0]["finish_reason"] == "stop"
