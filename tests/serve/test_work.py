"""Jobs on a loaded version: between the engine's steps, in its thread, and never at the cost of an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator

import pytest

from palmier.errors import Refusal
from palmier.generate.requests import QueueFull
from palmier.serve.live import Stopped
from palmier.serve.loading import Loaded
from palmier.serve.work import MOST_WORK
from palmier.versions import Versions
from palmier.workspace import Workspace

from .test_live import answer, live_on, play, until


def test_between_two_slices_the_engine_takes_a_step(home: Callable[..., Workspace]) -> None:
    with live_on(home("endless")) as live:
        steps: list[int] = []
        seen: list[int] = []

        def job(loaded: Loaded) -> Generator[None, None, str]:
            assert threading.current_thread().name == "palmier-engine"
            step = loaded.engine.step
            loaded.engine.step = lambda: steps.append(1) or step()  # type: ignore[func-returns-value,method-assign]
            for _ in range(20):
                seen.append(len(steps))
                yield
            return loaded.version.name

        async def scene() -> None:
            stream = asyncio.create_task(answer(live, tokens=150))
            await until(lambda: live.state.under_way == 1)
            assert await live.work(job) == "0001"
            assert not stream.done()
            assert seen == list(range(20)), "one step for every slice, no more and no less"
            assert len((await stream).tokens) == 150

        play(scene())


def test_jobs_of_a_version_are_done_in_order_and_versions_side_by_side(home: Callable[..., Workspace]) -> None:
    with live_on(home("first", "second")) as live:
        order: list[str] = []
        together = threading.Event()

        def job(name: str) -> Callable[[Loaded], Generator[None, None, None]]:
            def slices(loaded: Loaded) -> Generator[None, None, None]:
                while not together.is_set():
                    yield
                for _ in range(3):
                    order.append(name + loaded.version.name)
                    yield

            return slices

        async def scene() -> None:
            jobs = [asyncio.create_task(live.work(job(*one[:1]), *one[1:])) for one in (("a",), ("b",), ("c", "0002"))]
            await until(lambda: sum(len(loaded.work) for loaded in live.in_memory) == 3)
            together.set()
            await asyncio.gather(*jobs)
            assert [one for one in order if one.endswith("1")] == ["a0001"] * 3 + ["b0001"] * 3
            assert order.index("c0002") < order.index("b0001")

        play(scene())


def test_a_version_is_loaded_for_a_job_and_stays_until_it_has_ended(home: Callable[..., Workspace]) -> None:
    workspace = home("first", "second")
    with live_on(workspace) as live:
        going = threading.Event()

        def job(loaded: Loaded) -> Generator[None, None, str]:
            while not going.is_set():
                yield
            return loaded.version.name

        async def scene() -> None:
            work = asyncio.create_task(live.work(job))
            Versions(workspace).promote("0002")
            await until(lambda: live.state.current == "0002")
            assert live.state.loaded == ("0001", "0002")
            going.set()
            assert await work == "0001"
            await until(lambda: live.state.loaded == ("0002",))
            assert await live.work(job, "0001") == "0001"
            with pytest.raises(Refusal, match="no version '0009'"):
                await live.work(job, "0009")

        play(scene())


def test_a_job_that_nobody_waits_for_ends(home: Callable[..., Workspace]) -> None:
    with live_on(home("first")) as live:
        ended = threading.Event()

        def job(_loaded: Loaded) -> Generator[None, None, None]:
            try:
                while True:
                    yield
            finally:
                ended.set()

        async def scene() -> None:
            work = asyncio.create_task(live.work(job))
            await until(lambda: bool(live.in_memory[0].work))
            work.cancel()
            await until(ended.is_set)
            await until(lambda: not live.in_memory[0].work)

        play(scene())


def test_jobs_past_the_bound_are_asked_to_come_again_and_a_refusal_ends_its_job_alone(
    home: Callable[..., Workspace],
) -> None:
    with live_on(home("first")) as live:
        going = threading.Event()

        def waits(_loaded: Loaded) -> Generator[None, None, int]:
            while not going.is_set():
                yield
            return 1

        def refuses(_loaded: Loaded) -> Generator[None, None, int]:
            yield
            raise Refusal("not like this")

        async def scene() -> None:
            jobs = [asyncio.create_task(live.work(waits)) for _ in range(MOST_WORK)]
            await until(lambda: len(live.in_memory[0].work) == MOST_WORK)
            with pytest.raises(QueueFull):
                await live.work(waits)
            going.set()
            assert sum(await asyncio.gather(*jobs)) == MOST_WORK
            with pytest.raises(Refusal, match="not like this"):
                await live.work(refuses)
            assert await live.work(waits) == 1

        play(scene())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_job_leaves_nobody_waiting(home: Callable[..., Workspace]) -> None:
    with live_on(home("first")) as live:

        def bug(_loaded: Loaded) -> Generator[None, None, None]:
            yield
            raise ZeroDivisionError("a planted bug")

        async def scene() -> None:
            found = await asyncio.gather(live.work(bug), live.work(bug), return_exceptions=True)
            assert all(isinstance(one, Stopped) for one in found)
            with pytest.raises(Stopped):
                await live.work(bug)

        play(scene())
