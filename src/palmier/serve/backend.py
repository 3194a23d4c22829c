"""Another server answers: its models are the versions, its streams the answers. No model is loaded here.

What it says is text: an answer is stored with the text, with the model's name and the server's address as its version,
and without token ids. What trains from rankings encodes the text itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palmier.errors import Refusal
from palmier.generate.requests import QueueFull
from palmier.records import Conversation, Message, Sampling
from palmier.serve.answerer import Load, Stopped
from palmier.serve.context import Opening
from palmier.serve.loading import State
from palmier.serve.relayed import Relayed
from palmier.serve.remote import MOST_STREAMS, STOPPING, Remote, Trouble

if TYPE_CHECKING:
    from palmier.serve.monitoring import Metrics

POLL_SECONDS = 3.0
"""How often the server's list of models is looked at."""


@dataclass(frozen=True)
class Model:
    """A model of the other server: ``id`` is its name there, ``name`` the version that its answers are stored under."""

    id: str
    name: str
    owner: str = ""
    """Who the other server says made it; llama.cpp's calls itself that."""

    @property
    def label(self) -> str:
        return self.name


class Models:
    """The other server's models as they were listed last; may be read from any thread."""

    def __init__(self, address: str, found: Mapping[str, str]) -> None:
        self.address = address
        self.show(found)

    def show(self, found: Mapping[str, str]) -> None:
        """Take a new list over: names and who made each."""
        self._all = [Model(name, f"{name}@{self.address}", owner) for name, owner in found.items()]

    def all(self) -> list[Model]:
        return list(self._all)

    def get(self, name: str) -> Model:
        """By its version's name, or by the one that the other server knows. Raises Refusal where there is none."""
        found = next((model for model in self._all if name in (model.name, model.id)), None)
        if found is None:
            raise Refusal(f"the backend at {self.address} lists no model {name!r}")
        return found


class Backend:
    """The `Answerer` whose answers another server writes. Used from the event loop; ``state`` and ``close`` from anywhere.

    ``open`` looks at the list of models again and again, so that what the pages and /health tell is true.
    """

    bound = MOST_STREAMS

    def __init__(self, remote: Remote) -> None:
        """Raises Trouble where nothing answers, the key is wrong, or there is no model."""
        self.remote = remote
        self.models = Models(remote.address, remote.models_at_start())
        self.request_seconds: float | None = None
        self.metrics: Metrics | None = None
        self._ended = False
        self._problem = self._current = ""
        self._under_way: dict[object, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._show()

    @property
    def running(self) -> bool:
        return not self._ended

    @property
    def status(self) -> str:
        return "stopped" if self._ended else "unreachable" if self._problem else "ok"

    @property
    def loads(self) -> list[Load]:
        return [Load(name, count) for name, count in sorted(Counter(list(self._under_way.values())).items())]

    async def answer(
        self,
        asked: Conversation,
        sampling: Sampling,
        *,
        n: int = 1,
        version: str | None = None,
        stops: Sequence[str] = (),
        opening: Opening | None = None,
    ) -> Relayed:
        """Ask for ``n`` answers, each in a request of its own: not every server knows ``n``.

        Returns when the other server has begun, or after a second. Raises Trouble, Refusal, QueueFull, Stopped.
        """
        if opening is not None and opening.begun is not None:
            raise Refusal(f"the backend at {self.remote.address} can't go on with an answer that was cut: ask it anew")
        if not asked.messages or asked.messages[-1].role != "user":
            last = asked.messages[-1].role if asked.messages else "nobody"
            raise Refusal(f"the last message is the {last}'s: an answer follows a user's message")
        model = self.models.get(version or self.state.current)
        turn = Relayed(self.remote, model, asked, sampling, n, stops, self.request_seconds, self.metrics)
        with contextlib.ExitStack() as until_sent:
            until_sent.enter_context(self.busy(model.name, n))
            turn.send()
            turn.ended = until_sent.pop_all().close
        await turn.begun_or_patient()
        return turn

    def reads(self, conversation: Conversation, said: Sequence[Message]) -> Conversation:
        """All of it: how much of it the other server's model reads is not known here."""
        return conversation

    def count_for(self, metrics: Metrics) -> None:
        self.metrics = metrics

    @contextlib.contextmanager
    def busy(self, version: str, count: int = 1) -> Iterator[None]:
        """Count requests as under way while the block runs. Raises Stopped, and QueueFull where they are too many."""
        if self._ended:
            raise Stopped(STOPPING)
        if len(self._under_way) + count > self.bound:
            raise QueueFull(f"{self.bound} answers are being written already: ask again later")
        marks = [object() for _ in range(count)]
        self._under_way |= dict.fromkeys(marks, version)
        self._show()
        try:
            yield
        finally:
            for mark in marks:
                del self._under_way[mark]
            self._show()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._ended = True
            looking.cancel()
            await self.remote.stop()

    def close(self) -> None:
        self._ended = True
        if self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self.remote.stop(), self._loop)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                self.models.show(await self.remote.models())
                self._problem = ""
            except Trouble as trouble:
                self._problem = str(trouble)
            self._show()

    def _show(self) -> None:
        names = [model.name for model in self.models.all()]
        self._current = self._current if self._current in names else names[0]
        self.state = State(
            self._current, "", tuple(names), (), len(self._under_way), self._problem, self.remote.address
        )
