"""Jobs on a version in memory, done in the engine's thread between its steps, a slice at a time.

A job is a generator: at each ``yield`` the engine takes its next step, so that the answers under way go on. What a
slice may cost is the job's own affair; about as much as the engine itself reads of a long prompt at a time is right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from palmier.errors import Refusal
from palmier.generate.requests import QueueFull

if TYPE_CHECKING:
    from palmier.serve.loading import Loaded

Result = TypeVar("Result")
Job = Callable[["Loaded"], Generator[None, None, Result]]

MOST_WORK = 64
"""Jobs that may wait for one version."""


def tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: Any) -> None:
    """From the engine's thread: call back in an event loop; one that has ended has nobody left who waits."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback, *arguments)


class Work(Generic[Result]):
    """One job under way: made in the event loop, done in the engine's thread."""

    def __init__(self, job: Job[Result], version: str | None) -> None:
        self.wanted = version
        self._job = job
        self._slices: Generator[None, None, Result] | None = None
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Result] = self._loop.create_future()

    # Called from the engine's thread:

    def place(self, loaded: Loaded) -> None:
        """Get in line. Raises QueueFull."""
        if len(loaded.work) >= MOST_WORK:
            raise QueueFull(f"{MOST_WORK} jobs wait already: ask again later")
        loaded.work.append(self)
        loaded.used = time.monotonic()
        loaded.chosen = loaded.chosen or self.wanted is not None

    def go_on(self, loaded: Loaded) -> bool:
        """Do the next slice; False where it was the last, or nobody waits any more."""
        if self.result.cancelled():
            if self._slices is not None:
                self._slices.close()
            return False
        try:
            if self._slices is None:
                self._slices = self._job(loaded)
            next(self._slices)
        except StopIteration as end:
            tell(self._loop, self._finish, end.value)
        except Refusal as refusal:
            self.fail(refusal)
        else:
            return True
        return False

    def fail(self, error: BaseException) -> None:
        """Whoever waits gets ``error``."""
        tell(self._loop, self._settle, error)

    def _finish(self, result: Result) -> None:
        if not self.result.done():
            self.result.set_result(result)

    def _settle(self, error: BaseException) -> None:
        if not self.result.done():
            self.result.set_exception(error)
