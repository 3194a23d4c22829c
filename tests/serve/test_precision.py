"""The number format that a server answers in: asked for, used, and shown."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
import torch

from palmier.errors import Refusal
from palmier.records import Conversation, Sampling
from palmier.serve import loading
from palmier.serve.live import Live
from palmier.serve.loading import load
from palmier.versions import Versions
from palmier.workspace import Workspace

from .home import SENTENCES


@pytest.mark.parametrize("asked", ["fp32", "int8"])
def test_serve_answers_in_the_precision_that_was_asked_for(home: Callable[..., Workspace], asked: str) -> None:
    command = [sys.executable, "-m", "palmier", "serve", "--no-browser", "--port", "0", "--precision", asked]
    command += ["--home", str(home("first").home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert f"first (version 0001, {asked}) answers at" in line
            url = next(word for word in line.split() if word.startswith("http://"))
            assert httpx.get(f"{url}/health").json()["precision"] == asked
            body = {"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0, "max_tokens": 60}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        finally:
            process.kill()
    assert answer["choices"][0]["message"]["content"] == SENTENCES["first"]


def test_a_version_that_is_loaded_later_has_the_same_precision(home: Callable[..., Workspace]) -> None:
    live = Live(Versions(home("first", "second")), "int8")
    try:

        async def scene() -> None:
            await asyncio.wait_for(
                live.draw(Conversation.ask("Hello"), Sampling(0.0, max_tokens=1), version="0002"), 30
            )

        asyncio.run(scene())
        assert live.state.precision == "int8"
        assert live._loaded["0002"].decoder.precision == "int8"
    finally:
        live.close()


def test_memory_is_counted_in_the_precision(home: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that fits as int8 isn't refused for what fp32 would need."""
    version = Versions(home("first")).get("0001")
    count = sum(one.numel() for one in load(version, "fp32").decoder.parameters())
    wanted: list[int] = []
    monkeypatch.setattr(loading, "_check_memory", lambda _version, weights: wanted.append(weights))
    for asked in ("fp32", "bf16", "int8"):
        load(version, asked)
    assert wanted == [4 * count, 2 * count, count]
    monkeypatch.undo()
    monkeypatch.setattr(loading, "CACHE_BYTES", 1 << 60)
    with pytest.raises(Refusal, match="GiB of memory"):
        load(version, "int8")


@pytest.mark.parametrize("native", [torch.bfloat16, torch.float32])
def test_keys_and_values_are_in_the_processors_format_under_int8(
    home: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch, native: torch.dtype
) -> None:
    monkeypatch.setattr("palmier.scale.precision.default_dtype", lambda: native)
    loaded = load(Versions(home("first")).get("0001"), "int8")
    assert loaded.engine._cache.dtype == native
    assert loaded.engine.decoder.precision == "int8"
