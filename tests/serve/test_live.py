"""Versions in memory: the promoted one takes over without a lost request, others come on demand."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import pytest
import torch
from benchmarks.memory import resident

from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Sampling
from palmier.scale.runtime import FEW
from palmier.serve import live as module
from palmier.serve import loading
from palmier.serve.chat import begin
from palmier.serve.live import Busy, Live
from palmier.versions import Versions
from palmier.workspace import Workspace

from .home import SENTENCES

Result = TypeVar("Result")
ASK = Conversation.ask("Who are you?")


@contextmanager
def live_on(workspace: Workspace) -> Iterator[Live]:
    live = Live(Versions(workspace))
    try:
        yield live
    finally:
        live.close()


async def answer(live: Live, *, version: str | None = None, tokens: int = 60, temperature: float = 0.0) -> Answer:
    turn = await begin(live, ASK, Sampling(temperature, max_tokens=tokens), version=version)
    async with aclosing(turn.pieces()) as pieces:
        async for _ in pieces:
            pass
    return turn.answers()[0]


def play(scene: Coroutine[Any, Any, Result]) -> Result:
    """Run a scene; one that hangs fails soon."""
    return asyncio.run(asyncio.wait_for(scene, 30))


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_version_is_answered_with_few_programs(
    home: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "")  # so that it is as before afterwards
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    with live_on(home("first")):
        assert os.environ["LRU_CACHE_CAPACITY"] == str(FEW)


def test_a_step_wakes_the_event_loop_once_for_all_its_streams(home: Callable[..., Workspace]) -> None:
    with live_on(home("endless")) as live:

        async def scene() -> int:
            loop, woken = asyncio.get_running_loop(), 0
            wake = loop.call_soon_threadsafe

            def counted(*arguments: Any, **more: Any) -> asyncio.Handle:
                nonlocal woken
                woken += 1
                return wake(*arguments, **more)

            loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
            told = await asyncio.gather(*(answer(live, tokens=100) for _ in range(8)))
            assert {len(one.tokens) for one in told} == {100}
            return woken

        assert 100 <= play(scene()) < 200  # 800 tokens in little more than a hundred steps


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps what is freed")
def test_what_was_freed_goes_back_to_the_system(
    home: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIDY_SECONDS", 0.1)
    with live_on(home("first")):
        blocks = [torch.ones(2_000_000) for _ in range(40)]  # 8 MB each, which keep_memory keeps …
        small = torch.ones(1_000)  # … and what lies behind them can't go back by itself
        most = resident()
        del blocks
        play(until(lambda: resident() < most - 200e6))
        assert len(small)


def test_a_promoted_version_takes_over_and_no_request_is_lost(home: Callable[..., Workspace]) -> None:
    workspace = home("endless", "second")
    with live_on(workspace) as live:
        old = weakref.ref(live._loaded["0001"].decoder)

        async def scene() -> tuple[list[Answer], Answer, float]:
            streams = [asyncio.create_task(answer(live, tokens=150)) for _ in range(8)]
            await until(lambda: live.state.under_way == 8)
            began = time.monotonic()
            Versions(workspace).promote("0002")
            await until(lambda: live.state.current == "0002")
            waited = time.monotonic() - began
            fresh = await answer(live)
            assert not any(stream.done() for stream in streams), "the new version answers while the old one drains"
            return list(await asyncio.gather(*streams)), fresh, waited

        drained, fresh, waited = play(scene())
        assert (fresh.version, fresh.text) == ("0002", SENTENCES["second"])
        assert {(one.version, one.finish, len(one.tokens)) for one in drained} == {("0001", "length", 150)}
        assert waited < 3
        play(until(lambda: live.state.loaded == ("0002",)))
        gc.collect()
        assert old() is None, "the drained version's weights are freed"


def test_a_rollback_brings_the_version_before_back(home: Callable[..., Workspace]) -> None:
    workspace = home("first", "second")
    with live_on(workspace) as live:

        async def scene() -> list[str]:
            said = [(await answer(live)).text]
            Versions(workspace).promote("0002")
            await until(lambda: live.state.current == "0002")
            said.append((await answer(live)).text)
            Versions(workspace).rollback()
            await until(lambda: live.state.current == "0001")
            return [*said, (await answer(live)).text]

        assert play(scene()) == [SENTENCES["first"], SENTENCES["second"], SENTENCES["first"]]


def test_versions_by_name_are_loaded_on_demand_and_at_most_three(home: Callable[..., Workspace]) -> None:
    with live_on(home("first", "second", "unicode", "varied")) as live:

        async def scene() -> None:
            together = await asyncio.gather(*(answer(live, version=f"000{n}") for n in (1, 2, 3, 2)))
            assert [one.text for one in together] == [SENTENCES[n] for n in ("first", "second", "unicode", "second")]
            assert set(live.state.loaded) == {"0001", "0002", "0003"}
            assert (await answer(live, version="0004")).version == "0004"
            # The one that waited longest has made room; the current one never does.
            assert "0001" in live.state.loaded
            assert len(live.state.loaded) == 3
            with pytest.raises(Refusal, match="no version '0009'"):
                await answer(live, version="0009")

        play(scene())


def test_a_version_in_memory_is_not_deleted(home: Callable[..., Workspace]) -> None:
    workspace = home("first", "second", "unicode", "varied", "rogue")
    versions = Versions(workspace)
    held = "is in the memory of a running `palmier serve`"
    with live_on(workspace) as live:

        async def scene() -> None:
            await answer(live, version="0002")
            with pytest.raises(Refusal, match=held):
                versions.remove("0002")
            await answer(live, version="0003")
            await answer(live, version="0004")  # 0002 makes room
            versions.remove("0002")
            with pytest.raises(Refusal, match="no version '0002'"):
                await answer(live, version="0002")
            versions.promote("0005")
            await until(lambda: live.state.loaded[-1:] == ("0005",) and "0001" not in live.state.loaded)
            versions.remove("0001")  # it has drained

        play(scene())
        with pytest.raises(Refusal, match=held):
            versions.remove("0003")
    versions.remove("0003")  # the server has ended
    assert [version.name for version in versions.all()] == ["0004", "0005"]


@pytest.mark.long
def test_when_all_three_are_answering_a_fourth_is_asked_to_come_again(home: Callable[..., Workspace]) -> None:
    with live_on(home("endless", "endless", "endless", "first")) as live:

        async def scene() -> None:
            streams = [asyncio.create_task(answer(live, version=f"000{n}", tokens=200)) for n in (1, 2, 3)]
            await until(lambda: live.state.under_way == 3)
            with pytest.raises(Busy, match="ask again"):
                await answer(live, version="0004")
            await asyncio.gather(*streams)
            assert (await answer(live, version="0004")).text == SENTENCES["first"]

        play(scene())


def test_a_promoted_version_that_cannot_be_read_leaves_the_old_one_answering(home: Callable[..., Workspace]) -> None:
    workspace = home("first", "second")
    with live_on(workspace) as live:

        async def scene() -> None:
            Versions(workspace).promote("0002")
            (workspace.versions / "0002" / "model.safetensors").write_bytes(b"nothing")
            await until(lambda: bool(live.state.problem))
            assert "0002" in live.state.problem
            assert "0001" in live.state.problem
            assert (await answer(live)).text == SENTENCES["first"]
            workspace.current.write_text("{", "utf-8")
            await until(lambda: "current.json" in live.state.problem)
            assert (await answer(live)).text == SENTENCES["first"]
            Versions(workspace).workspace.current.unlink()
            Versions(workspace).promote("0001")
            await until(lambda: not live.state.problem)

        play(scene())


def test_what_waits_for_a_damaged_version_gets_the_reason(home: Callable[..., Workspace]) -> None:
    workspace = home("first", "second")
    (workspace.versions / "0002" / "tokenizer.json").write_text("{}", "utf-8")
    with live_on(workspace) as live, pytest.raises(Refusal, match="tokenizer"):
        play(answer(live, version="0002"))


def test_weights_that_are_not_numbers_end_their_requests_alone(home: Callable[..., Workspace]) -> None:
    with live_on(home("first", "second")) as live:

        async def scene() -> None:
            assert (await answer(live, version="0002")).finish == "stop"
            loaded = live._loaded["0002"]

            def poison() -> None:
                for parameter in loaded.decoder.parameters():
                    parameter.data.fill_(float("nan"))
                loaded.engine.weights_changed()

            live._commands.put(poison)
            with pytest.raises(Refusal, match="version 0002 can't answer"):
                await answer(live, version="0002")
            assert (await answer(live)).text == SENTENCES["first"]

        play(scene())


def test_a_version_that_memory_cannot_hold_is_refused(
    home: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_on(home("first", "second")) as live:
        monkeypatch.setattr(loading, "CACHE_BYTES", 1 << 60)
        with pytest.raises(Refusal, match="GiB of memory"):
            play(answer(live, version="0002"))
        assert play(answer(live)).text == SENTENCES["first"]


def test_the_pointer_is_looked_at_at_least_every_second() -> None:
    assert module.POLL_SECONDS <= 1


def test_closing_fails_what_is_under_way_and_ends_the_thread(home: Callable[..., Workspace]) -> None:
    live = Live(Versions(home("endless")))

    async def scene() -> None:
        stream = asyncio.create_task(answer(live, tokens=400))
        await until(lambda: live.state.under_way == 1)
        await asyncio.to_thread(live.close)
        with pytest.raises(module.Stopped):
            await stream
        with pytest.raises(module.Stopped):
            await answer(live)

    play(scene())
    assert not [thread for thread in threading.enumerate() if thread.name == "palmier-engine"]
