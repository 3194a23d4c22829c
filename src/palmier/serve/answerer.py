"""Who answers: this process's own engines (`serve.live`), or another server (`serve.backend`).

The routes that speak text know these protocols alone. What asks about tokens (logarithms of probabilities,
embeddings, counts) needs the engines themselves and says so with `serving.engines`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from palmier.records import Answer, Conversation, Finish, Message, Sampling

if TYPE_CHECKING:
    from palmier.serve.context import Opening
    from palmier.serve.loading import State
    from palmier.serve.monitoring import Metrics


class Stopped(Exception):
    """Nobody answers any more: the server stops, or the error of the engine's thread stands in the log."""


class Written(Protocol):
    """New text of sample ``index`` (possibly empty); ``finish`` stands on its last piece."""

    @property
    def index(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def finish(self) -> Finish | None: ...


class Reply(Protocol):
    """One request being answered, as text: read `pieces` to the end, or until you have had enough."""

    @property
    def version(self) -> str:
        """Who answers."""

    @property
    def conversation(self) -> Conversation:
        """What the model reads."""

    @property
    def left_out(self) -> int:
        """How many earlier turns of the conversation it does not read, because the context is full."""

    @property
    def begun(self) -> str:
        """What an answer that goes on had said before."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...

    def pieces(self) -> AsyncGenerator[Written, None]:
        """Text as it is written. Whoever leaves early gives the request up. Raises Refusal or Stopped."""

    def cancel(self) -> None:
        """End what is not finished; `pieces` then ends too, with finish "cancelled"."""

    def stopped_by(self, index: int) -> str | None:
        """The stop string that ended a sample; None where something else did."""

    def answers(self) -> list[Answer]:
        """What was said so far; samples that have not ended count as cancelled."""


class Cache(NamedTuple):
    """Pages of keys and values that answers hold, all there are, and their bytes."""

    used: int
    total: int
    bytes: int


class Load(NamedTuple):
    """What one version is doing: answers being written, requests that wait. ``cache`` where it is in this process."""

    version: str
    running: int
    waiting: int = 0
    cache: Cache | None = None


class Answerer(Protocol):
    """Whoever answers the requests of a server."""

    request_seconds: float | None
    """The longest that an answer may be drawn."""
    state: State
    bound: int
    """Requests that may wait, or be under way where nothing waits here; one more is a 429."""

    @property
    def running(self) -> bool:
        """False once nothing more is answered until the server is started again."""

    @property
    def status(self) -> str:
        """What /health tells: "ok", or what is wrong in a word."""

    @property
    def loads(self) -> list[Load]:
        """What is going on at this moment; may be read from any thread."""

    async def answer(
        self,
        asked: Conversation,
        sampling: Sampling,
        *,
        n: int = 1,
        version: str | None = None,
        stops: Sequence[str] = (),
        opening: Opening | None = None,
    ) -> Reply:
        """Begin to write ``n`` answers by ``version`` (by the current one where it is None). Raises Refusal, Stopped."""

    def reads(self, conversation: Conversation, said: Sequence[Message]) -> Conversation:
        """The end of a conversation that leaves room for any of the messages ``said`` after it."""

    def count_for(self, metrics: Metrics) -> None:
        """Tell ``metrics`` of every token from now on."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """Answer until the block ends; entered in the event loop that asks."""

    def close(self) -> None:
        """Answer no more; what is under way fails with Stopped. From any thread."""


class Named(Protocol):
    """A version as the pages show it."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...


class Catalogue(Protocol):
    """The versions that can be asked: a home's, or another server's models."""

    def all(self) -> Sequence[Named]:
        """Every version, oldest first."""

    def get(self, name: str) -> Named:
        """The version of this name. Raises Refusal where there is none."""
