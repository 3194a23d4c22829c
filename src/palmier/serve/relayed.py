"""One request that another server answers: its streams heard, their text told piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from palmier.generate.sampling import sample_seed
from palmier.generate.stops import Stops
from palmier.records import Answer, Conversation, Finish, Sampling
from palmier.serve.remote import Remote, Trouble

if TYPE_CHECKING:
    from palmier.serve.backend import Model
    from palmier.serve.monitoring import Metrics

PATIENCE = 1.0
"""Seconds that a request waits for the other server to begin: what goes wrong later is told in the answer's stream."""

SEEDS = 1 << 31
"""Seeds below this every server takes."""

SELDOM = ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
"""Of `Sampling`: sent only where it is set, because not every server knows it."""

SPELT = {"llamacpp": {"repetition_penalty": "repeat_penalty"}}
"""What a kind of server calls otherwise."""

OFF = Sampling()


@dataclass(frozen=True)
class News:
    """New text of sample ``index`` (possibly empty); ``finish`` stands on its last piece."""

    index: int
    text: str = ""
    finish: Finish | None = None


class Usage(NamedTuple):
    """Tokens of a prompt and of what followed it."""

    prompt: int
    drawn: int


@dataclass
class _Voice:
    """One answer as it grows."""

    stops: Stops
    seed: int
    text: str = ""
    finish: Finish | None = None
    tokens: int = 0


class Relayed:
    """The `answerer.Reply` of another server: ``n`` streams of it, each in a request of its own.

    ``prompt_tokens`` and ``completion_tokens`` are as the other server counts them; until it has told, the pieces that
    came count. ``seconds`` is the longest that an answer may take. ``ended`` is called when the last stream is over.
    """

    left_out = 0
    begun = ""

    def __init__(
        self,
        remote: Remote,
        model: Model,
        conversation: Conversation,
        sampling: Sampling,
        n: int,
        stops: Sequence[str],
        seconds: float | None,
        metrics: Metrics | None,
    ) -> None:
        self._remote, self._model = remote, model
        self.conversation, self._sampling = conversation, sampling
        self._seconds, self._metrics = seconds, metrics
        seeds = [sample_seed(sampling.seed, index) % SEEDS for index in range(n)]
        self._voices = [_Voice(Stops(stops), seed) for seed in seeds]
        self.prompt_tokens = 0
        self.ended: Callable[[], None] = lambda: None
        self.began = time.monotonic()
        self.heard: dict[int, float] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self._news: asyncio.Queue[News | BaseException] = asyncio.Queue()
        self._open = asyncio.Event()
        self._unopened = n
        self._failure: BaseException | None = None
        self._late = False

    @property
    def version(self) -> str:
        return self._model.name

    @property
    def completion_tokens(self) -> int:
        return sum(voice.tokens for voice in self._voices)

    def send(self) -> None:
        """Begin to ask."""
        self.tasks = [asyncio.create_task(self._listen(index)) for index in range(len(self._voices))]
        for task in self.tasks:
            task.add_done_callback(self._over)

    async def begun_or_patient(self) -> None:
        """Return when every stream has begun, or after a moment. Raises what the other server refused one with."""
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._open.wait(), PATIENCE)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self._failure is not None:
            raise self._failure

    async def pieces(self) -> AsyncGenerator[News, None]:
        """Text as it comes. Whoever leaves early gives the request up, and the other server notices."""
        timer = None
        if self._seconds is not None:
            timer = asyncio.get_running_loop().call_later(self._seconds, self._run_out)
        try:
            while not all(voice.finish for voice in self._voices):
                news = await self._news.get()
                if isinstance(news, BaseException):
                    raise news
                voice = self._voices[news.index]
                if voice.finish is None:
                    yield self._hear(voice, news)
        finally:
            if timer is not None:
                timer.cancel()
            self.cancel()

    def cancel(self) -> None:
        """Close the streams; `pieces` ends too, with finish "cancelled"."""
        for index, task in enumerate(self.tasks):
            _give_up(task)
            self._news.put_nowait(News(index, finish="length" if self._late else "cancelled"))

    def fail(self, error: BaseException) -> None:
        """Whoever reads, or waits for the beginning, gets ``error``; all streams are given up."""
        self._failure = self._failure or error
        self._news.put_nowait(error)
        self._open.set()
        for task in self.tasks:
            _give_up(task)

    def stopped_by(self, index: int) -> str | None:
        stops = self._voices[index].stops
        return stops.string if stops.found else None

    def answers(self) -> list[Answer]:
        """What was said so far. Each answer's sampling holds the seed that it was asked for with."""
        return [
            Answer(
                text=voice.text,
                version=self.version,
                finish=voice.finish or "cancelled",
                sampling=replace(self._sampling, seed=voice.seed),
            )
            for voice in self._voices
        ]

    def _hear(self, voice: _Voice, news: News) -> News:
        fresh = voice.stops.push(news.text, last=news.finish is not None)
        voice.text += fresh
        voice.finish = news.finish
        if voice.stops.found:
            voice.finish = "stop"
            _give_up(self.tasks[news.index])
        return News(news.index, fresh, voice.finish)

    def _run_out(self) -> None:
        """The time for a request is over: what was said is the answer, cut."""
        self._late = True
        self.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
        if all(one.done() for one in self.tasks):
            self.ended()

    async def _listen(self, index: int) -> None:
        voice = self._voices[index]
        body = asked(self._model, self.conversation, self._sampling, voice.seed)
        finish: Finish | None = None
        try:
            async with self._remote.stream("/chat/completions", body) as events:
                self._unopened -= 1
                if not self._unopened:
                    self._open.set()
                async for event in events:
                    text, ended = self._chunk(event)
                    finish = finish or ended
                    if text:
                        self._told(index, text)
                    if (usage := usage_of(event)) is not None:
                        self.prompt_tokens, voice.tokens = usage
        except Trouble:
            if finish is None:  # else it is an end without the last word, which takes nothing from the answer
                raise
        finally:
            if self._metrics is not None:
                self._metrics.tokens(self.version, 0 if index else self.prompt_tokens, voice.tokens)
        self._news.put_nowait(News(index, finish=finish or "stop"))

    def _told(self, index: int, text: str) -> None:
        self._voices[index].tokens += 1
        if self._metrics is not None:
            self._metrics.times(self, [index])
        self._news.put_nowait(News(index, text))

    def _chunk(self, event: dict[str, Any]) -> tuple[str, Finish | None]:
        """The new text in an event of a chat completion, and why the answer ended, where it did. Raises Trouble."""
        choices = event.get("choices")
        if choices == [] or (choices is None and "usage" in event):
            return "", None
        choice = choices[0] if isinstance(choices, list) else None
        delta = choice.get("delta") or {} if isinstance(choice, dict) else None
        text = delta.get("content") or "" if isinstance(delta, dict) else None
        if not isinstance(choice, dict) or not isinstance(text, str):
            raise self._remote.garbage("its events are none of a chat completion")
        reason = choice.get("finish_reason")
        return text, None if not reason else "length" if reason == "length" else "stop"


def _give_up(task: asyncio.Task[None]) -> None:
    """Cancel a stream once: a second time would interrupt the closing of its connection, and the other server go on."""
    if not task.cancelling():
        task.cancel()


def asked(model: Model, conversation: Conversation, sampling: Sampling, seed: int) -> dict[str, Any]:
    """The body of a request for a streamed answer."""
    spelt = SPELT.get(model.owner, {})
    chosen = {name: getattr(sampling, name) for name in SELDOM if getattr(sampling, name) != getattr(OFF, name)}
    return {
        "model": model.id,
        "messages": conversation.to_json(),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,  # also where it cuts nothing: some servers cut by default
        "seed": seed,
    } | {spelt.get(name, name): value for name, value in chosen.items()}


def usage_of(event: dict[str, Any]) -> Usage | None:
    """What an event, or a whole answer, tells of its tokens."""
    match event.get("usage"):
        case {"prompt_tokens": int(prompt), "completion_tokens": int(drawn)} if prompt >= 0 and drawn >= 0:
            return Usage(prompt, drawn)
    return None
