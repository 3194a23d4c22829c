"""The turn loop: a conversation (or plain text, or ids) goes in, text comes out piece by piece, an Answer remains.

Between the engine, which knows ids, and whoever reads text: the HTTP routes and the ranking
page. Text is cut at whole characters and, where a caller gave stop strings, before them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from palmier.data.template import Template
from palmier.data.tokenizer import Stream
from palmier.generate.requests import Event, Likelihood
from palmier.generate.sampling import sample_seed
from palmier.generate.stops import Stops
from palmier.records import Answer, Conversation, Finish, Sampling
from palmier.serve.context import Opening
from palmier.serve.ticket import Asked, Ticket

if TYPE_CHECKING:
    from palmier.serve.live import Live

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
        self.likelihoods: tuple[Likelihood, ...] | None = None
        """How likely the prompt's tokens are, from the second on; there before the first piece, where it was asked for."""
        self._late = False
        if ticket.opening.begun is not None:
            for voice in self._voices:
                voice.go_on_from(ticket.opening.begun)
        self.begun = self._voices[0].text
        """What an answer that goes on had said before: the beginning of its text."""

    @property
    def version(self) -> str:
        return self._ticket.version

    @property
    def samples(self) -> int:
        return self._ticket.n

    @property
    def conversation(self) -> Conversation:
        """What the model reads."""
        return self._ticket.conversation

    @property
    def left_out(self) -> int:
        """How many earlier turns of the conversation it does not read, because the context is full."""
        return self._ticket.left_out

    @property
    def template(self) -> Template:
        return self._ticket.template

    @property
    def prompt(self) -> tuple[int, ...]:
        """The ids that the answers follow."""
        return self._ticket.prompt

    @property
    def prompt_tokens(self) -> int:
        return len(self._ticket.prompt)

    @property
    def completion_tokens(self) -> int:
        return sum(len(voice.told) for voice in self._voices)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Text as it is drawn. Whoever leaves early gives the request up, and its slots are free again."""
        seconds = self._live.request_seconds
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._run_out)
        try:
            held: list[Event] = []
            async for events in self._ticket.events():
                held += events
                if self._untold(events):
                    continue
                events, held = held, []
                for event in events:
                    voice = self._voices[event.index]
                    if voice.finish is None:
                        if self._late and event.finish == "cancelled":
                            event = replace(event, finish="length")
                        piece = voice.hear(event)
                        if voice.finish and not event.finish:
                            self._live.cancel(self._ticket, event.index)
                        yield piece
                if all(voice.finish for voice in self._voices):
                    return
        finally:
            if timer is not None:
                timer.cancel()
            self.cancel()

    def _untold(self, events: Sequence[Event]) -> bool:
        """Whether the likelihoods of the prompt, which are told before any piece, are still to come.

        They come with the first event of sample 0; another one that found the prompt in the cache may be ahead of it.
        """
        if self._ticket.prompt_logprobs is None or self.likelihoods is not None:
            return False
        told = [event for event in events if event.index == 0]
        if told:
            self.likelihoods = told[0].prompt or ()
        return not told

    def _run_out(self) -> None:
        """The time for a request is over: what was said is the answer, cut."""
        self._late = True
        self.cancel()

    def cancel(self) -> None:
        """End what is not finished; `pieces` then ends too, with finish "cancelled"."""
        if self._ticket.unfinished:
            self._live.cancel(self._ticket)

    def stopped_by(self, index: int) -> str | None:
        """The stop string that ended a sample; None where something else did."""
        stops = self._voices[index].stops
        return stops.string if stops.found else None

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
                tokens=voice.tokens,
                logprobs=voice.logprobs,
                finish=voice.finish or "cancelled",
                sampling=replace(sampling, seed=sample_seed(sampling.seed, index)),
            )
            for index, voice in enumerate(self._voices)
        ]


async def begin(
    live: Live,
    asked: Asked,
    sampling: Sampling,
    *,
    n: int = 1,
    version: str | None = None,
    stops: Sequence[str] = (),
    top_logprobs: int = 0,
    prompt_logprobs: int | None = None,
    prompt_only: bool = False,
    opening: Opening | None = None,
) -> Turn:
    """Ask a version for ``n`` answers. Raises what `Live.draw` raises, and Refusal for an empty stop string."""
    Stops(stops)
    ticket = await live.draw(asked, sampling, n, version, top_logprobs, prompt_logprobs, prompt_only, opening)
    return Turn(live, ticket, stops)


def fresh_seed() -> int:
    """A seed for whoever gave none; it is stored with the answer. Below 2**31, as clients expect."""
    return secrets.randbelow(1 << 31)


async def drain(pieces: AsyncGenerator[Any, None]) -> None:
    """Hear everything; where that is given up, so are the pieces."""
    async with aclosing(pieces) as heard:
        async for _ in heard:
            pass


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
    begun: tuple[int, ...] = ()
    begun_logprobs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self._stream = Stream(self.template.tokenizer)

    def go_on_from(self, answer: Answer) -> None:
        """Take in what was said of an answer that was cut; a character that the cut halved is whole afterwards."""
        self.begun = tuple(self.template.answer_ids(answer))
        self.begun_logprobs = answer.logprobs if self.begun == answer.tokens else ()
        self.text = "".join(map(self._stream.push, self.begun))

    @property
    def logprobs(self) -> tuple[float, ...]:
        """Of all tokens; none where those of the beginning are not known."""
        if len(self.begun_logprobs) < len(self.begun):
            return ()
        return (*self.begun_logprobs, *(told.logprob for told in self.told))

    @property
    def tokens(self) -> tuple[int, ...]:
        """Both are known, or neither."""
        if len(self.begun_logprobs) < len(self.begun):
            return ()
        return (*self.begun, *(told.token for told in self.told))

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
