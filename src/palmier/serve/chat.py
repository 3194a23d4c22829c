"""The turn loop: a conversation goes in, text comes out piece by piece, an Answer remains.

Between the engine, which knows ids, and whoever reads text: the HTTP routes and the ranking
page. Text is cut at whole characters and, where a caller gave stop strings, before them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from palmier.data.template import Template
from palmier.data.tokenizer import Stream
from palmier.feedback.store import StoredMessage
from palmier.generate.requests import Event
from palmier.generate.sampling import sample_seed
from palmier.generate.stops import Stops
from palmier.records import Answer, Conversation, Finish, Message, Sampling
from palmier.serve.live import Live, Ticket

CHAT_TEMPERATURE = 0.4
CHAT_TOP_P = 0.9
CHAT_TOKENS = 512
"""A chat's defaults: small models ramble above these."""


class Told(NamedTuple):
    """A token that was drawn, its log-prob, and the likeliest (token, log-prob) in its place, where asked for."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """New text of sample ``index`` (possibly empty); ``finish`` stands on its last piece."""

    index: int
    text: str
    finish: Finish | None = None
    told: Told | None = None


class Turn:
    """One request being answered: read `pieces` to the end, or until you have had enough."""

    def __init__(self, live: Live, ticket: Ticket, stops: Sequence[str] = ()) -> None:
        self._live = live
        self._ticket = ticket
        self._voices = [_Voice(ticket.template, Stops(stops)) for _ in range(ticket.n)]

    @property
    def version(self) -> str:
        return self._ticket.version

    @property
    def samples(self) -> int:
        return self._ticket.n

    @property
    def template(self) -> Template:
        return self._ticket.template

    @property
    def prompt_tokens(self) -> int:
        return self._ticket.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        return sum(len(voice.told) for voice in self._voices)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Text as it is drawn. Whoever leaves early gives the request up, and its slots are free again."""
        try:
            async for events in self._ticket.events():
                for event in events:
                    voice = self._voices[event.index]
                    if voice.finish is None:
                        piece = voice.hear(event)
                        if voice.finish and not event.finish:
                            self._live.cancel(self._ticket, event.index)
                        yield piece
                if all(voice.finish for voice in self._voices):
                    return
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End what is not finished; `pieces` then ends too, with finish "cancelled"."""
        if self._ticket.unfinished:
            self._live.cancel(self._ticket)

    def told(self, index: int) -> Sequence[Told]:
        """The tokens of one sample so far."""
        return self._voices[index].told

    def answers(self) -> list[Answer]:
        """What was said so far; samples that have not ended count as cancelled.

        Each answer's sampling holds the seed that draws it again alone.
        """
        sampling = self._ticket.sampling
        return [
            Answer(
                text=voice.text,
                version=self.version,
                tokens=tuple(told.token for told in voice.told),
                logprobs=tuple(told.logprob for told in voice.told),
                finish=voice.finish or "cancelled",
                sampling=replace(sampling, seed=sample_seed(sampling.seed, index)),
            )
            for index, voice in enumerate(self._voices)
        ]


async def begin(
    live: Live,
    conversation: Conversation,
    sampling: Sampling,
    *,
    n: int = 1,
    version: str | None = None,
    stops: Sequence[str] = (),
    top_logprobs: int = 0,
) -> Turn:
    """Ask a version for ``n`` answers. Raises what `Live.draw` raises, and Refusal for an empty stop string."""
    Stops(stops)
    return Turn(live, await live.draw(conversation, sampling, n, version, top_logprobs), stops)


def fresh_seed() -> int:
    """A seed for whoever gave none; it is stored with the answer. Below 2**31, as clients expect."""
    return secrets.randbelow(1 << 31)


def thread(messages: Sequence[StoredMessage], version: str | None = None) -> Conversation:
    """The conversation that an answer continues.

    Several assistant's messages in a row are alternatives to one another (drawn again, or by
    several versions side by side): the last one counts, or the last one by ``version`` where
    there is one. A trailing run of them is dropped: the next answer is one more alternative.
    """
    kept: list[Message] = []
    run: list[StoredMessage] = []
    for stored in messages:
        if stored.message.role == "assistant":
            run.append(stored)
            continue
        if run:
            own = [one for one in run if one.answer is not None and one.answer.version == version]
            kept.append((own or run)[-1].message)
            run = []
        kept.append(stored.message)
    return Conversation(tuple(kept))


def server_event(value: Any) -> str:
    """One event of a text/event-stream."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


@dataclass
class _Voice:
    """One sample: its tokens, and the text that is certain so far."""

    template: Template
    stops: Stops
    told: list[Told] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None

    def __post_init__(self) -> None:
        self._stream = Stream(self.template.tokenizer)

    def hear(self, event: Event) -> Piece:
        """Take one event in; returns the text that it makes certain."""
        self.finish = event.finish
        fresh, told = "", None
        if event.token is not None:
            told = Told(event.token, event.logprob, event.top)
            self.told.append(told)
            if event.token not in self.template.stop_ids:
                fresh = self._stream.push(event.token)
        if event.finish is not None:
            fresh += self._stream.flush()
        fresh = self.stops.push(fresh, last=event.finish is not None)
        if self.stops.found:
            self.finish = "stop"
        self.text += fresh
        return Piece(event.index, fresh, self.finish, told)
