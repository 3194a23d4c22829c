"""One request under way: made in the event loop, answered from the engine's thread."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence

from palmier.data.template import Template
from palmier.generate.requests import Event, Request
from palmier.records import Conversation, Sampling
from palmier.serve.context import Opening, prompt
from palmier.serve.loading import Loaded
from palmier.serve.work import tell

Asked = Conversation | str | tuple[int, ...]
"""What an answer follows: a conversation, which the chat template renders; plain text or token ids, taken as they are."""


class Ticket:
    """What was asked of a version, the place where its events arrive, and who waits for them.

    ``template`` and ``prompt``, the ids that the answer follows, are there when it has been ``placed``.
    """

    def __init__(
        self,
        asked: Asked,
        sampling: Sampling,
        n: int,
        version: str | None,
        top_logprobs: int = 0,
        prompt_logprobs: int | None = None,
        prompt_only: bool = False,
        opening: Opening | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.asked = asked
        self.sampling = sampling
        self.n = n
        self.top_logprobs, self.prompt_logprobs, self.prompt_only = top_logprobs, prompt_logprobs, prompt_only
        self.opening = opening or Opening()
        self.conversation = asked if isinstance(asked, Conversation) else Conversation(())
        """What the model reads of it: its end, where ``opening`` lets the oldest turns go; ``left_out`` is their number."""
        self.left_out = 0
        self.wanted = version
        self.version = ""
        self.template: Template
        self.prompt: tuple[int, ...] = ()
        self.unfinished = n
        self.began = time.monotonic()
        self.heard: dict[int, float] = {}
        """When each sample's last token came."""
        self.loop = asyncio.get_running_loop()
        self.placed: asyncio.Future[None] = self.loop.create_future()
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

    def request(self, template: Template, context: int) -> Request:
        """What the engine of so long a context is asked. Raises Refusal where nothing can follow it."""
        asked = self.asked
        if isinstance(asked, Conversation):
            read = prompt(template, context, asked, self.sampling, self.opening)
            self.conversation, self.left_out = read.conversation, read.left_out
            ids = read.ids
        else:
            ids = tuple(template.plain(asked)) if isinstance(asked, str) else asked
        return Request(
            self.id,
            ids,
            self.sampling,
            template.stop_ids,
            self.n,
            self.top_logprobs,
            self.prompt_logprobs,
            self.prompt_only,
        )

    def accept(self, loaded: Loaded, request: Request) -> None:
        self.version, self.template, self.prompt = loaded.version.name, loaded.template, request.prompt
        tell(self.loop, self._settle, None)

    def take(self, events: list[Event]) -> bool:
        """Note what ended with these events, which are `post`ed next; whether all n samples have."""
        self.unfinished -= sum(event.finish is not None for event in events)
        return not self.unfinished

    def fail(self, error: BaseException) -> None:
        """Whoever waits for a place, or for events, gets ``error``."""
        tell(self.loop, self._settle, error)

    # Called in the event loop:

    def hear(self, events: list[Event]) -> None:
        self._inbox.put_nowait(events)

    def _settle(self, error: BaseException | None) -> None:
        if error is not None:
            self._inbox.put_nowait(error)
        if self.placed.done():
            return
        if error is None:
            self.placed.set_result(None)
        else:
            self.placed.set_exception(error)


def post(drawn: Sequence[tuple[Ticket, list[Event]]]) -> None:
    """From the engine's thread: hand what a step drew to everybody who waits for it.

    Each event loop is woken once a step and not once a request: at every call it may take the interpreter for itself,
    and the engine's thread stands still meanwhile.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Ticket, list[Event]]]] = {}
    for ticket, events in drawn:
        by_loop.setdefault(ticket.loop, []).append((ticket, events))
    for loop, told in by_loop.items():
        tell(loop, _hear, told)


def _hear(told: Sequence[tuple[Ticket, list[Event]]]) -> None:
    for ticket, events in told:
        ticket.hear(events)
