"""The versions that answer: one thread drives their engines and follows `current`.

Everything in `Live` that changes is touched by that one thread alone; other threads put
commands into its inbox. A version is read from the disk by a second thread, so that the
answers under way go on meanwhile. When another version is promoted, it is loaded beside the
old one, new requests go to it, the old ones end where they began, and the old version is freed.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from palmier.errors import Refusal
from palmier.generate.requests import Event, QueueFull
from palmier.records import Conversation, Message, Sampling
from palmier.scale.precision import Precision
from palmier.scale.runtime import give_back
from palmier.serve.answerer import Cache, Load
from palmier.serve.answerer import Stopped as Stopped
from palmier.serve.chat import Turn, begin
from palmier.serve.context import Opening, fit
from palmier.serve.loading import QUEUE, Loaded, State, load
from palmier.serve.ticket import Asked, Ticket, post
from palmier.serve.work import Job, Result, Work
from palmier.versions import Version

if TYPE_CHECKING:
    from palmier.serve.monitoring import Metrics

POLL_SECONDS = 0.5
"""How often the pointer `current` is looked at."""

TIDY_SECONDS = 60.0
"""How often freed memory goes back to the system."""

GONE = "the engine has stopped: see the server's output, and start it again"

MOST_LOADED = 3
"""Versions in memory at once; one more for the moments in which a promoted one takes over."""

MOST_WAITING = 64
"""Requests that may wait for a version that is still being read from the disk."""


class Source(Protocol):
    """Where `Live` finds what answers: a home's `Versions`, or one model alone."""

    def current(self) -> Version | None:
        """What answers."""

    def get(self, name: str) -> Version:
        """The version of this name; raises Refusal where there is none."""

    def stamp(self) -> object:
        """What is different after `current` may have changed."""


class Busy(Refusal):
    """No room at this moment: ask again a little later (HTTP 503 with Retry-After)."""


@dataclass
class _Waiting:
    """A version on its way into memory, and the requests that wait for it."""

    promoted: bool = False
    tickets: list[Ticket | Work[Any]] = field(default_factory=list)


class Live:
    """The engines of a home's versions (or of one model) behind one thread. Raises Refusal where `current` can't be read."""

    bound = QUEUE

    def __init__(self, versions: Source, precision: Precision = "auto") -> None:
        self._versions, self._precision = versions, precision
        current = versions.current()
        if current is None:
            raise Refusal("no version of this home answers: run `palmier promote VERSION`")
        self._loaded = {current.name: load(current, precision)}
        self._current = self._followed = current.name
        self._waiting: dict[str, _Waiting] = {}
        self._problem = ""
        self._pointer = versions.stamp()
        self._looked = self._tidied = time.monotonic()
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ending = self._ended = False
        self.request_seconds: float | None = None  # the longest that an answer may be drawn
        # Is told, in the engine's thread, what was drawn.
        self.watch: Callable[[Ticket, list[Event]], None] | None = None
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="palmier-load")
        self.state = State()
        self._show()
        self._thread = threading.Thread(target=self._drive, name="palmier-engine", daemon=True)
        self._thread.start()

    # ── for the event loop ───────────────────────────────────────────────────────────────

    async def draw(
        self,
        asked: Asked,
        sampling: Sampling,
        n: int = 1,
        version: str | None = None,
        top_logprobs: int = 0,
        prompt_logprobs: int | None = None,
        prompt_only: bool = False,
        opening: Opening | None = None,
    ) -> Ticket:
        """Begin to draw ``n`` answers by ``version`` (by the current one where it is None).

        Returns when the engine has taken the request. Raises Refusal (a prompt that is too
        long, no such version), QueueFull or Busy (ask again), Stopped.
        """
        ticket = Ticket(asked, sampling, n, version, top_logprobs, prompt_logprobs, prompt_only, opening)
        self._send(ticket)
        try:
            await ticket.placed
        except asyncio.CancelledError:
            self.cancel(ticket)
            raise
        return ticket

    async def answer(
        self,
        asked: Conversation,
        sampling: Sampling,
        *,
        n: int = 1,
        version: str | None = None,
        stops: Sequence[str] = (),
        opening: Opening | None = None,
    ) -> Turn:
        """`draw`, as text: what whoever knows no tokens asks for."""
        return await begin(self, asked, sampling, n=n, version=version, stops=stops, opening=opening)

    async def work(self, job: Job[Result], version: str | None = None) -> Result:
        """Do a job on a version, between the engine's steps. Raises what `draw` raises, and the job's Refusal."""
        work = Work(job, version)
        self._send(work)
        return await work.result

    def _send(self, one: Ticket | Work[Any]) -> None:
        self._commands.put(lambda: self._place(one))
        if self._ended:
            raise Stopped(GONE)

    def cancel(self, ticket: Ticket, index: int | None = None) -> None:
        """Give up a request or one of its samples, from any thread; what had not finished ends as "cancelled"."""
        self._commands.put(lambda: self._cancel(ticket, index))

    def close(self) -> None:
        """End the thread; requests under way fail with Stopped."""
        self._commands.put(self._end)
        if threading.current_thread() is not self._thread:  # the garbage collector may close it from anywhere
            self._thread.join()
        self._loader.shutdown(wait=True, cancel_futures=True)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Answer until the block ends."""
        try:
            yield
        finally:
            self.close()

    @property
    def running(self) -> bool:
        return not self._ended

    @property
    def status(self) -> str:
        return "ok" if self.running else "stopped"

    @property
    def loads(self) -> list[Load]:
        """What each version in memory is doing, which may be read from any thread."""
        found = []
        for loaded in self.in_memory:
            engine, waiting = loaded.engine, loaded.engine.waiting
            cache = Cache(*engine.pages, engine.cache_bytes)
            found.append(Load(loaded.version.name, max(0, len(loaded.tickets) - waiting), waiting, cache))
        return found

    def reads(self, conversation: Conversation, said: Sequence[Message]) -> Conversation:
        """The end of a conversation that leaves room in the context for any of the messages ``said`` after it."""
        loaded = self.answering
        room = max(map(loaded.template.size, said))
        return fit(loaded.template, conversation, loaded.engine.context - room)[0]

    def count_for(self, metrics: Metrics) -> None:
        self.watch = metrics.watch

    @property
    def answering(self) -> Loaded:
        """The version that answers now: for its template and its engine's limits, which may be read from any thread."""
        return self._loaded[self._current]

    @property
    def in_memory(self) -> list[Loaded]:
        """The versions in memory, for their counts, which may be read from any thread."""
        return list(self._loaded.values())

    # ── in the engine's thread ───────────────────────────────────────────────────────────

    def _drive(self) -> None:
        try:
            while not self._ending:
                self._obey()
                self._follow()
                for loaded in list(self._loaded.values()):
                    if loaded.engine.busy:
                        self._step(loaded)
                    loaded.work_on()
                self._free()
                self._tidy()
                self._show()
        finally:
            # Also when a bug ends the thread: nobody may wait for ever, /health tells, the log has the traceback.
            self._ended = True
            self._refuse_all()
            for loaded in self._loaded.values():
                loaded.hold.close()

    def _obey(self) -> None:
        """Carry out what waits in the inbox; sleep in it where no engine has work."""
        busy = any(loaded.busy for loaded in self._loaded.values())
        try:
            command = self._commands.get(timeout=None if busy else POLL_SECONDS, block=not busy)
            while True:
                command()
                command = self._commands.get_nowait()
        except queue.Empty:
            return

    def _end(self) -> None:
        self._ending = True

    def _place(self, ticket: Ticket | Work[Any]) -> None:
        name = ticket.wanted or self._current
        loaded = self._loaded.get(name)
        try:
            if self._ended or self._ending:
                raise Stopped("the server is stopping")
            if loaded is None:
                self._wait(name, ticket)
                return
            if isinstance(ticket, Work):
                ticket.place(loaded)
                return
            request = loaded.add(ticket)
        except (Refusal, Stopped) as error:
            ticket.fail(error)
            return
        loaded.tickets[ticket.id] = ticket
        loaded.used = time.monotonic()
        loaded.chosen = loaded.chosen or ticket.wanted is not None
        ticket.accept(loaded, request)

    def _wait(self, name: str, ticket: Ticket | Work[Any]) -> None:
        """Let ``ticket`` wait until version ``name`` is in memory. Raises Refusal, Busy or QueueFull."""
        if sum(len(waiting.tickets) for waiting in self._waiting.values()) >= MOST_WAITING:
            raise QueueFull(f"{MOST_WAITING} requests wait for a version to be loaded already: ask again later")
        if name not in self._waiting:
            self._versions.get(name)
            self._make_room()
            self._load(name)
        self._waiting[name].tickets.append(ticket)

    def _make_room(self) -> None:
        while len(self._loaded) + len(self._waiting) >= MOST_LOADED:
            idle = [v for v in self._loaded.values() if not v.busy and v.version.name != self._current]
            if not idle:
                raise Busy(f"{MOST_LOADED} versions are answering already: ask again when one of them has ended")
            self._drop(min(idle, key=lambda loaded: loaded.used).version.name)

    def _load(self, name: str) -> None:
        self._waiting[name] = _Waiting()
        future = self._loader.submit(lambda: load(self._versions.get(name), self._precision))
        future.add_done_callback(lambda done: self._commands.put(lambda: self._loaded_one(name, done)))

    def _loaded_one(self, name: str, done: Future[Loaded]) -> None:
        waiting = self._waiting.pop(name)
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._loaded[name] = done.result()
            if name == self._followed:
                self._current, self._problem = name, ""
        elif waiting.promoted:
            self._problem = f"version {name} can't be loaded, so {self._current} goes on: {error}"
        for ticket in waiting.tickets:
            if error is None:
                self._place(ticket)
            else:
                ticket.fail(error)

    def _cancel(self, ticket: Ticket, index: int | None) -> None:
        for waiting in self._waiting.values():
            if ticket in waiting.tickets:
                waiting.tickets.remove(ticket)
        for loaded in self._loaded.values():
            if ticket.id in loaded.tickets:
                loaded.engine.cancel(ticket.id, index)

    def _step(self, loaded: Loaded) -> None:
        try:
            events = loaded.engine.step()
        except Refusal as refusal:
            # The model's own numbers are broken: its requests end with the reason, the others go on.
            self._discard(loaded, refusal)
            return
        groups: dict[str, list[Event]] = {}
        for event in events:
            groups.setdefault(event.id, []).append(event)
        posted = [(loaded.tickets[name], group) for name, group in groups.items()]
        for ticket, group in posted:
            if self.watch is not None:
                self.watch(ticket, group)
            if ticket.take(group):
                del loaded.tickets[ticket.id]
        post(posted)
        loaded.used = time.monotonic()

    def _discard(self, loaded: Loaded, refusal: Refusal) -> None:
        name = loaded.version.name
        for ticket in loaded.tickets.values():
            ticket.fail(Refusal(f"version {name} can't answer: {refusal}"))
        loaded.engine = loaded.new_engine()
        loaded.tickets.clear()
        self._problem = f"version {name} can't answer: {refusal}; choose another one or run `palmier rollback`"

    def _follow(self) -> None:
        """Every half second: has another version been promoted?"""
        if time.monotonic() - self._looked < POLL_SECONDS:
            return
        self._looked = time.monotonic()
        pointer = self._versions.stamp()
        if pointer == self._pointer:
            return
        self._pointer = pointer
        try:
            version = self._versions.current()
        except Refusal as refusal:
            self._problem = f"{refusal}; {self._current} goes on answering"
            return
        if version is None:
            return
        self._followed = version.name
        if version.name in self._loaded:
            self._current, self._problem = version.name, ""
            return
        if version.name not in self._waiting:
            self._load(version.name)
        self._waiting[version.name].promoted = True

    def _free(self) -> None:
        """Drop versions that nobody chose by name, once they have drained."""
        for name, loaded in list(self._loaded.items()):
            if name != self._current and not loaded.chosen and not loaded.busy:
                self._drop(name)

    def _tidy(self) -> None:
        """Once a minute: give back the memory that was freed, which else grows with the shapes that were met."""
        if time.monotonic() - self._tidied >= TIDY_SECONDS:
            give_back()
            self._tidied = time.monotonic()

    def _drop(self, name: str) -> None:
        self._loaded.pop(name).hold.close()

    def _show(self) -> None:
        under_way = sum(len(loaded.tickets) for loaded in self._loaded.values())
        precision = self._loaded[self._current].decoder.precision
        state = State(self._current, precision, tuple(self._loaded), tuple(self._waiting), under_way, self._problem)
        if state != self.state:
            self.state = state

    def _refuse_all(self) -> None:
        stopped = Stopped(GONE)
        for loaded in self._loaded.values():
            for ticket in loaded.tickets.values():
                ticket.fail(stopped)
            for work in loaded.work:
                work.fail(stopped)
        for waiting in self._waiting.values():
            for one in waiting.tickets:
                one.fail(stopped)
        while not self._commands.empty():
            self._commands.get()()
