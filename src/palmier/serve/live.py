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
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.generate.requests import Event, QueueFull, Request
from palmier.records import Conversation, Sampling
from palmier.scale.precision import Precision
from palmier.serve.loading import Loaded, load
from palmier.versions import Version

POLL_SECONDS = 0.5
"""How often the pointer `current` is looked at."""

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


class Stopped(Exception):
    """The engine's thread has ended: the server stops, or its error stands in the log."""


class Ticket:
    """One request under way: made in the event loop, answered from the engine's thread."""

    def __init__(
        self, conversation: Conversation, sampling: Sampling, n: int, version: str | None, top_logprobs: int = 0
    ) -> None:
        self.id = uuid.uuid4().hex
        self.conversation = conversation
        self.sampling = sampling
        self.n = n
        self.top_logprobs = top_logprobs
        self.wanted = version
        self.version = ""
        self.template: Template
        self.prompt_tokens = 0
        self.unfinished = n
        self._loop = asyncio.get_running_loop()
        self.placed: asyncio.Future[None] = self._loop.create_future()
        self._inbox: asyncio.Queue[list[Event] | BaseException] = asyncio.Queue()

    async def events(self) -> AsyncIterator[list[Event]]:
        """The events of each engine step that touched this request, until all n samples ended."""
        unfinished = self.n
        while unfinished:
            item = await self._inbox.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            unfinished -= sum(event.finish is not None for event in item)

    # Called from the engine's thread:

    def accept(self, loaded: Loaded, prompt_tokens: int) -> None:
        self.version, self.template, self.prompt_tokens = loaded.version.name, loaded.template, prompt_tokens
        self._tell(self._settle, None)

    def post(self, events: list[Event]) -> None:
        self.unfinished -= sum(event.finish is not None for event in events)
        self._tell(self._inbox.put_nowait, events)

    def fail(self, error: BaseException) -> None:
        """Whoever waits for a place, or for events, gets ``error``."""
        self._tell(self._settle, error)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        # An event loop that has ended has nobody left who waits.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _settle(self, error: BaseException | None) -> None:
        if error is not None:
            self._inbox.put_nowait(error)
        if self.placed.done():
            return
        if error is None:
            self.placed.set_result(None)
        else:
            self.placed.set_exception(error)


@dataclass(frozen=True)
class State:
    """What the pages show: the version that answers, those in memory, what went wrong last."""

    current: str = ""
    precision: str = ""
    loaded: tuple[str, ...] = ()
    loading: tuple[str, ...] = ()
    under_way: int = 0
    problem: str = ""


@dataclass
class _Waiting:
    """A version on its way into memory, and the requests that wait for it."""

    promoted: bool = False
    tickets: list[Ticket] = field(default_factory=list)


class Live:
    """The engines of a home's versions (or of one model) behind one thread. Raises Refusal where `current` can't be read."""

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
        self._looked = time.monotonic()
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ending = self._ended = False
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="palmier-load")
        self.state = State()
        self._show()
        self._thread = threading.Thread(target=self._drive, name="palmier-engine", daemon=True)
        self._thread.start()

    # ── for the event loop ───────────────────────────────────────────────────────────────

    async def draw(
        self,
        conversation: Conversation,
        sampling: Sampling,
        n: int = 1,
        version: str | None = None,
        top_logprobs: int = 0,
    ) -> Ticket:
        """Begin to draw ``n`` answers by ``version`` (by the current one where it is None).

        Returns when the engine has taken the request. Raises Refusal (a prompt that is too
        long, no such version), QueueFull or Busy (ask again), Stopped.
        """
        ticket = Ticket(conversation, sampling, n, version, top_logprobs)
        self._commands.put(lambda: self._place(ticket))
        if self._ended:
            raise Stopped("the engine has stopped: see the server's output, and start it again")
        try:
            await ticket.placed
        except asyncio.CancelledError:
            self.cancel(ticket)
            raise
        return ticket

    def cancel(self, ticket: Ticket, index: int | None = None) -> None:
        """Give up a request or one of its samples, from any thread; what had not finished ends as "cancelled"."""
        self._commands.put(lambda: self._cancel(ticket, index))

    def close(self) -> None:
        """End the thread; requests under way fail with Stopped."""
        self._commands.put(self._end)
        if threading.current_thread() is not self._thread:  # the garbage collector may close it from anywhere
            self._thread.join()
        self._loader.shutdown(wait=True, cancel_futures=True)

    @property
    def running(self) -> bool:
        return not self._ended

    @property
    def answering(self) -> Loaded:
        """The version that answers now: for its template and its engine's limits, which may be read from any thread."""
        return self._loaded[self._current]

    # ── in the engine's thread ───────────────────────────────────────────────────────────

    def _drive(self) -> None:
        try:
            while not self._ending:
                self._obey()
                self._follow()
                for loaded in list(self._loaded.values()):
                    if loaded.engine.busy:
                        self._step(loaded)
                self._free()
                self._show()
        finally:
            # Also when a bug ends the thread: nobody may wait for ever, /health tells, the log has the traceback.
            self._ended = True
            self._refuse_all()
            for loaded in self._loaded.values():
                loaded.hold.close()

    def _obey(self) -> None:
        """Carry out what waits in the inbox; sleep in it where no engine has work."""
        busy = any(loaded.engine.busy for loaded in self._loaded.values())
        try:
            command = self._commands.get(timeout=None if busy else POLL_SECONDS, block=not busy)
            while True:
                command()
                command = self._commands.get_nowait()
        except queue.Empty:
            return

    def _end(self) -> None:
        self._ending = True

    def _place(self, ticket: Ticket) -> None:
        name = ticket.wanted or self._current
        loaded = self._loaded.get(name)
        try:
            if self._ended or self._ending:
                raise Stopped("the server is stopping")
            if loaded is None:
                self._wait(name, ticket)
                return
            prompt = tuple(loaded.template.prompt(ticket.conversation))
            stop_ids = loaded.template.stop_ids
            _add(loaded, Request(ticket.id, prompt, ticket.sampling, stop_ids, ticket.n, ticket.top_logprobs))
        except (Refusal, Stopped) as error:
            ticket.fail(error)
            return
        loaded.tickets[ticket.id] = ticket
        loaded.used = time.monotonic()
        loaded.chosen = loaded.chosen or ticket.wanted is not None
        ticket.accept(loaded, len(prompt))

    def _wait(self, name: str, ticket: Ticket) -> None:
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
            idle = [v for v in self._loaded.values() if not v.engine.busy and v.version.name != self._current]
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
        for name, group in groups.items():
            ticket = loaded.tickets[name]
            ticket.post(group)
            if not ticket.unfinished:
                del loaded.tickets[name]
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
            if name != self._current and not loaded.chosen and not loaded.engine.busy:
                self._drop(name)

    def _drop(self, name: str) -> None:
        self._loaded.pop(name).hold.close()

    def _show(self) -> None:
        under_way = sum(len(loaded.tickets) for loaded in self._loaded.values())
        precision = self._loaded[self._current].decoder.precision
        state = State(self._current, precision, tuple(self._loaded), tuple(self._waiting), under_way, self._problem)
        if state != self.state:
            self.state = state

    def _refuse_all(self) -> None:
        stopped = Stopped("the engine has stopped: see the server's output, and start it again")
        for loaded in self._loaded.values():
            for ticket in loaded.tickets.values():
                ticket.fail(stopped)
        for waiting in self._waiting.values():
            for ticket in waiting.tickets:
                ticket.fail(stopped)
        while not self._commands.empty():
            self._commands.get()()


def _add(loaded: Loaded, request: Request) -> None:
    """Give the engine a request; a refusal is told without our name for the request, which nobody knows."""
    try:
        loaded.engine.add(request)
    except QueueFull:
        raise
    except Refusal as refusal:
        raise Refusal(str(refusal).removeprefix(f"{request.id}: ")) from None
