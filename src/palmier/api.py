"""`palmier.load(name)`: a model in this process, to generate, stream and chat with.

The engine, its one thread and the turn loop are the server's own (`serve.live`, `serve.chat`). The
functions that wait run their turns in one event loop, in a thread that all loaded models share, so
they work in scripts, in threads and in notebooks; `agenerate` and `astream` use the caller's loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import queue
import threading
import weakref
from collections.abc import AsyncGenerator, Container, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar, get_args

from palmier.errors import Refusal
from palmier.generate.requests import QueueFull
from palmier.generate.sampling import prompt_seed
from palmier.model.gguf import embedded_model
from palmier.models.names import resolve_model
from palmier.records import Answer, Conversation, Message, Sampling
from palmier.scale.precision import Precision
from palmier.serve.chat import CHAT_TEMPERATURE, CHAT_TOKENS, CHAT_TOP_P, Turn, begin, fresh_seed
from palmier.serve.live import Live, Stopped
from palmier.serve.loading import SLOTS
from palmier.versions import Version, Versions
from palmier.workspace import Workspace

Prompt = str | Conversation | Sequence[Message | Mapping[str, str]]
"""A question, or a conversation whose last message is the user's: a `Conversation`, or a list of messages."""

Result = TypeVar("Result")

DEFAULTS = Sampling(temperature=CHAT_TEMPERATURE, top_p=CHAT_TOP_P, max_tokens=CHAT_TOKENS)
"""What is sampled with where nothing is given; the seed is drawn anew each time."""

PATIENCE = 0.05
"""Seconds between two tries to get into a full queue."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How answers are drawn, and the strings before which they end."""

    sampling: Sampling
    stops: tuple[str, ...]


def load(name: str | Path | None = None, *, home: str | Path | None = None, precision: Precision = "auto") -> Model:
    """A model in memory, by name: ``palmier.load("smollm2")``.

    ``name`` is what every ``--model`` takes: a name that `palmier models` lists, a folder, a run, a
    version, a .gguf file or a repository of the hub (fetched where it is not here). None is the
    version of the home that answers, in a new home SmolLM2-135M-Instruct. ``precision`` is the weights'
    number format, fp32, bf16 or int8; auto takes what is quickest here. Raises Refusal.
    """
    if precision not in get_args(Precision):
        raise Refusal(f"precision {precision!r} is none: choose one of {', '.join(get_args(Precision))}")
    if not isinstance(name, str | Path | None):
        raise Refusal(f"a model's name is a text or a path, not {type(name).__name__}")
    workspace = Workspace(Path(home).expanduser()) if home else Workspace.default()
    return Model(_version(name, workspace), precision)


class Model:
    """A loaded model. Any number of threads and event loops may use it at once; they share one engine.

    The keyword arguments ``**sampling`` are the fields of `Sampling`, with `DEFAULTS`, and ``stop``: a
    text, or several, before which an answer ends. Every method raises Refusal for what it can't take: an unknown setting, a prompt longer than the context.
    """

    def __init__(self, version: Version, precision: Precision) -> None:
        self.name = version.name
        self.folder = version.folder
        self._live = Live(_Alone(version), precision)
        # Also when the program ends: a thread in the midst of a product must not outlive its memory.
        self._close = weakref.finalize(self, Live.close, self._live)

    def __repr__(self) -> str:
        return f"<palmier.Model {self.name} at {self.folder}>"

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory and end the engine; what is under way ends with a Refusal."""
        self._close()

    @property
    def precision(self) -> str:
        """How the weights are held: fp32, bf16 or int8."""
        return self._live.answering.decoder.precision

    @property
    def context(self) -> int:
        """How many tokens a prompt and its answer may have together."""
        return self._live.answering.engine.context

    def count(self, prompt: Prompt) -> int:
        """How many tokens a prompt has, the chat template's included."""
        return len(self._live.answering.template.prompt(_conversation(prompt)))

    def generate(self, prompt: Prompt, n: int = 1, **sampling: Any) -> list[Answer]:
        """Draw ``n`` answers. Each one's own ``sampling``, seed included, draws it again: in fp32 to the letter."""
        return _wait(self._answers(_conversation(prompt), n, _drawing(sampling)))

    def chat(self, messages: Prompt, **sampling: Any) -> Answer:
        """The next turn of a conversation: one answer. `Conversation.reply` appends it."""
        return self.generate(messages, **sampling)[0]

    def stream(self, prompt: Prompt, **sampling: Any) -> Iterator[str]:
        """One answer piece by piece, in whole characters. Leaving the loop early gives the request up."""
        return self._stream(_conversation(prompt), _drawing(sampling))

    def generate_all(
        self, prompts: Sequence[Prompt], n: int = 1, *, skip: Container[int] = (), **sampling: Any
    ) -> Iterator[tuple[int, list[Answer]]]:
        """Draw ``n`` answers to each of many prompts, several prompts at once.

        Yields (index of the prompt, its answers) in the order in which they end. Prompt i draws with
        the seed `prompt_seed(seed, i)`, so its answers depend neither on that order nor (in fp32) on the others;
        the indices in ``skip`` are left out.
        """
        drawing = _drawing(sampling)
        seed = drawing.sampling.seed
        asked = [
            (
                index,
                _conversation(prompt),
                dataclasses.replace(
                    drawing, sampling=dataclasses.replace(drawing.sampling, seed=prompt_seed(seed, index))
                ),
            )
            for index, prompt in enumerate(prompts)
            if index not in skip
        ]
        return self._all(asked, n)

    async def agenerate(self, prompt: Prompt, n: int = 1, **sampling: Any) -> list[Answer]:
        """`generate`, in the caller's event loop."""
        return await self._answers(_conversation(prompt), n, _drawing(sampling))

    def astream(self, prompt: Prompt, **sampling: Any) -> AsyncGenerator[str, None]:
        """`stream`, in the caller's event loop: ``async for piece in model.astream("Hello")``."""
        return self._pieces(_conversation(prompt), _drawing(sampling))

    async def _begin(self, conversation: Conversation, drawing: Drawing, n: int) -> Turn:
        """A turn; where the queue is full, after some patience: callers in this process wait, nobody is sent away."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise Refusal(f"n is {n!r}: ask for one answer or more")
        while True:
            try:
                return await begin(self._live, conversation, drawing.sampling, n=n, stops=drawing.stops)
            except QueueFull:
                await asyncio.sleep(PATIENCE)

    async def _answers(self, conversation: Conversation, n: int, drawing: Drawing) -> list[Answer]:
        try:
            turn = await self._begin(conversation, drawing, n)
            async with aclosing(turn.pieces()) as pieces:
                async for _ in pieces:
                    pass
        except Stopped:
            raise Refusal(f"the model {self.name} is closed: load it again") from None
        return turn.answers()

    async def _pieces(self, conversation: Conversation, drawing: Drawing) -> AsyncGenerator[str, None]:
        try:
            turn = await self._begin(conversation, drawing, 1)
            async with aclosing(turn.pieces()) as pieces:
                async for piece in pieces:
                    if piece.text:
                        yield piece.text
        except Stopped:
            raise Refusal(f"the model {self.name} is closed: load it again") from None

    def _stream(self, conversation: Conversation, drawing: Drawing) -> Iterator[str]:
        pieces = self._pieces(conversation, drawing)
        try:
            while (piece := _wait(_next(pieces))) is not None:
                yield piece
        finally:
            # Not waited for: this may run in the collector, in whichever thread that is.
            asyncio.run_coroutine_threadsafe(pieces.aclose(), _loop())

    def _all(self, asked: list[tuple[int, Conversation, Drawing]], n: int) -> Iterator[tuple[int, list[Answer]]]:
        ended: queue.SimpleQueue[tuple[int, list[Answer] | Refusal] | None] = queue.SimpleQueue()

        async def answer_all() -> None:
            # Twice what is drawn at once, so that the next prompt is there when a place is free.
            gate = asyncio.Semaphore(max(1, 2 * SLOTS // max(1, n)))
            async with asyncio.TaskGroup() as group:
                for index, conversation, drawing in asked:
                    await gate.acquire()
                    group.create_task(answer_one(index, conversation, drawing, gate))

        async def answer_one(index: int, conversation: Conversation, drawing: Drawing, gate: asyncio.Semaphore) -> None:
            try:
                ended.put((index, await self._answers(conversation, n, drawing)))
            except Refusal as refusal:
                ended.put((index, refusal))
            finally:
                gate.release()

        future = asyncio.run_coroutine_threadsafe(answer_all(), _loop())
        future.add_done_callback(lambda _: ended.put(None))
        try:
            while (item := ended.get()) is not None:
                index, answers = item
                if isinstance(answers, Refusal):
                    raise Refusal(f"prompt {index + 1}: {answers}")
                yield index, answers
            future.result()
        finally:
            future.cancel()


class _Alone:
    """One model that answers, and no other: what `Live` follows where there is no pointer to follow."""

    def __init__(self, version: Version) -> None:
        self.version = version

    def current(self) -> Version:
        return self.version

    def get(self, name: str) -> Version:
        if name != self.version.name:
            raise Refusal(f"there is no version {name!r} here; known: {self.version.name}")
        return self.version

    def stamp(self) -> int:
        return 0


def _version(name: str | Path | None, workspace: Workspace) -> Version:
    """What is to be loaded, under the name that its answers carry."""
    versions = Versions(workspace)
    if name is None:
        current = versions.current()
        if current is not None:
            return current
        folder = embedded_model(workspace)
    else:
        folder = resolve_model(name, workspace)
    if folder.parent == workspace.versions:
        return versions.get(folder.name)
    if folder.is_relative_to(workspace.models):
        called = folder.relative_to(workspace.models).as_posix()
    else:  # a step of a run is called by the run's name
        called = (folder.parent if (folder.parent / "latest").is_file() else folder).resolve().name
    return Version(called, folder, {"label": called})


def _conversation(prompt: Prompt) -> Conversation:
    if isinstance(prompt, str):
        return Conversation.ask(prompt)
    if isinstance(prompt, Conversation):
        return prompt
    if not isinstance(prompt, Sequence):
        raise Refusal(f"a prompt is a text or a list of messages, not {type(prompt).__name__}")
    plain = [dataclasses.asdict(one) if isinstance(one, Message) else one for one in prompt]
    return Conversation.from_json(plain)


def _drawing(given: Mapping[str, Any]) -> Drawing:
    """Settings as `Sampling`, whatever its fields are, and the strings that end an answer."""
    settings = dict(given)
    stop = settings.pop("stop", None)
    several = isinstance(stop, Iterable) and not isinstance(stop, str)
    stops = () if stop is None else tuple(stop) if several else (stop,)
    bias = settings.get("logit_bias", ())
    if isinstance(bias, Mapping):
        settings["logit_bias"] = tuple(bias.items())
    known = [field.name for field in dataclasses.fields(Sampling)]
    for name in settings:
        if name not in known:
            raise Refusal(f"unknown setting {name!r}; known are {', '.join(known)}, stop")
    if not all(isinstance(one, str) and one for one in stops):
        raise Refusal("stop is a text, or a list of texts, that end an answer; an empty one would end every answer")
    if settings.get("seed") is None:
        settings["seed"] = fresh_seed()
    return Drawing(dataclasses.replace(DEFAULTS, **settings), stops)


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs the turns of callers who have none, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="palmier-turns", daemon=True).start()
    return loop


def _wait(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in that loop. An interruption (Ctrl-C) gives the work up."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _next(pieces: AsyncGenerator[str, None]) -> str | None:
    return await anext(pieces, None)
