"""OpenAI's completions: plain text continued, or told how likely it is. lm-evaluation-harness scores through it.

No chat template stands around a prompt: it is the text's own tokens, or the ids that were given. With ``echo`` a
choice begins with its prompt; with ``logprobs`` too, the engine tells how likely each of the prompt's tokens is.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from palmier.data.tokenizer import Stream, Tokenizer
from palmier.errors import Refusal
from palmier.serve.chat import Piece, Turn, begin, server_event
from palmier.serve.live import Live, Stopped
from palmier.serve.openai_fields import FINISHES, MOST_TOP_LOGPROBS, Completed, Switch, Whole, finite, usage
from palmier.serve.serving import Given, check_version, engines, read_to_end, stream
from palmier.serve.shapes import error_body

router = APIRouter(prefix="/v1")

MOST_PROMPTS = 32
"""Prompts of one request: half of what the engine lets wait."""

MOST_CHOICES = 128
"""Prompts times ``n``."""

DEFAULT_TOKENS = 16
"""OpenAI's own."""


def _prompts(value: Any) -> list[str] | list[list[int]]:
    """One prompt or several, always as a list."""
    one_list = isinstance(value, list) and bool(value) and all(type(token) is int for token in value)
    prompts = [value] if isinstance(value, str) or one_list else value
    if not isinstance(prompts, list) or not (
        all(isinstance(one, str) for one in prompts)
        or all(isinstance(one, list) and all(type(token) is int for token in one) for one in prompts)
    ):
        raise PydanticCustomError("prompt", "give a text, a list of texts, token ids, or a list of lists of token ids")
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        said = {"count": len(prompts), "most": MOST_PROMPTS}
        raise PydanticCustomError("prompt", "{count} prompts: give 1 … {most} in a request", said)
    return prompts


# What the schema says of them; `_prompts` and the engine look themselves.
_Text = Annotated[str, Field(min_length=1)]
_Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
_One = TypeVar("_One")
_Several = Annotated[list[_One], Field(min_length=1, max_length=MOST_PROMPTS)]

Prompts = Annotated[
    list[str] | list[list[int]],
    PlainValidator(_prompts, json_schema_input_type=_Text | _Several[_Text] | _Ids | _Several[_Ids]),
]


class TextCompletion(Completed):
    """The body of a request for a completion."""

    neutral: ClassVar[dict[str, list[Any]]] = {"suffix": [""], "best_of": [1]}

    prompt: Prompts
    max_tokens: Annotated[Whole, Field(ge=0)] = DEFAULT_TOKENS
    logprobs: Annotated[Whole, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    echo: Switch = False

    def asked(self) -> list[str | tuple[int, ...]]:
        """The prompts. Raises Refusal where there is nothing to do, or too much."""
        if not self.max_tokens and not self.echo:
            sentence = "max_tokens 0 draws nothing: set echo to true to be told of the prompt, or ask for a token"
            raise Refusal(sentence, "max_tokens")
        choices = len(self.prompt) * self.n
        if choices > MOST_CHOICES:
            sentence = f"{len(self.prompt)} prompts with n {self.n} are {choices} choices: at most {MOST_CHOICES}"
            raise Refusal(sentence, "n")
        return [one if isinstance(one, str) else tuple(one) for one in self.prompt]


@router.post("/completions")
async def complete_text(serving: Given, request: Request, body: TextCompletion) -> Response:
    """Continue texts, streaming or not, in OpenAI's shape; choice number ``prompt · n + sample``."""
    with_usage = body.with_usage()
    turns = await _begin(engines(serving), body, check_version(serving, body.model))
    head: dict[str, Any] = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": turns[0].version,
    }
    choices = [_Choice(turn, number * body.n + i, body) for number, turn in enumerate(turns) for i in range(body.n)]
    if body.stream:
        return stream(_chunks(turns, choices, head, with_usage))
    if not await read_to_end(_heard(turns, choices), request):
        return Response(status_code=499)  # nobody is there to read it
    return JSONResponse(head | {"choices": [choice.take() for choice in choices], "usage": _usage(turns)})


async def _begin(live: Live, body: TextCompletion, version: str | None) -> list[Turn]:
    """A turn for each prompt: all of them, by one version, or none. Raises what `Live.draw` raises."""
    asked = body.asked()
    # A seed that is given is every prompt's own: what continues it does not depend on its neighbours.
    samplings = [body.sampling(max(1, body.max_tokens)) for _ in asked]
    wished: dict[str, Any] = {
        "n": body.n,
        "version": version,
        "stops": body.stop,
        "top_logprobs": body.logprobs or 0,
        "prompt_logprobs": body.logprobs if body.echo else None,
        "prompt_only": body.max_tokens == 0,
    }
    while True:
        begun = await asyncio.gather(
            *(begin(live, one, sampling, **wished) for one, sampling in zip(asked, samplings, strict=True)),
            return_exceptions=True,
        )
        turns = [one for one in begun if isinstance(one, Turn)]
        if len(turns) == len(asked) and len({turn.version for turn in turns}) == 1:
            return turns
        for turn in turns:
            turn.cancel()
        for number, error in enumerate(begun, 1):
            if type(error) is Refusal and len(asked) > 1:
                raise Refusal(f"prompt {number} of {len(asked)}: {error}", error.param, error.code)
            if isinstance(error, BaseException):
                raise error
        # Another version was promoted between the first prompt and the last: ask that one.


async def _together(turns: Sequence[Turn]) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of several turns as they come, each with its turn's number. Leaving early gives all of them up."""
    heard: asyncio.Queue[tuple[int, Piece] | asyncio.Task[None]] = asyncio.Queue()

    async def listen(number: int, turn: Turn) -> None:
        async with aclosing(turn.pieces()) as pieces:
            async for piece in pieces:
                heard.put_nowait((number, piece))

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # the first failure is told; asyncio would report the others as missed
        heard.put_nowait(task)

    tasks = [asyncio.create_task(listen(number, turn)) for number, turn in enumerate(turns)]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        left = len(tasks)
        while left:
            item = await heard.get()
            if isinstance(item, asyncio.Task):
                item.result()
                left -= 1
            else:
                yield item
    finally:
        for task, turn in zip(tasks, turns, strict=True):
            task.cancel()
            turn.cancel()


async def _heard(turns: Sequence[Turn], choices: Sequence[_Choice]) -> AsyncGenerator[_Choice, None]:
    """Each choice that has heard something new."""
    n = turns[0].samples
    async with aclosing(_together(turns)) as pieces:
        async for number, piece in pieces:
            choice = choices[number * n + piece.index]
            choice.hear(piece)
            yield choice


async def _chunks(
    turns: Sequence[Turn], choices: Sequence[_Choice], head: dict[str, Any], with_usage: bool
) -> AsyncGenerator[str, None]:
    last = {"usage": None} if with_usage else {}
    try:
        async with aclosing(_heard(turns, choices)) as heard:
            async for choice in heard:
                if choice.news:
                    yield server_event(head | {"choices": [choice.take()]} | last)
    except (Refusal, Stopped) as error:
        yield server_event(error_body(str(error), "server_error"))
        return
    if with_usage:
        yield server_event(head | {"choices": [], "usage": _usage(turns)})
    yield "data: [DONE]\n\n"


def _usage(turns: Sequence[Turn]) -> dict[str, int]:
    return usage(sum(turn.prompt_tokens for turn in turns), sum(turn.completion_tokens for turn in turns))


class _Choice:
    """One choice as it grows: what it has heard since it was last told."""

    def __init__(self, turn: Turn, index: int, body: TextCompletion) -> None:
        self._turn, self._index = turn, index
        self._echo, self._wants_ids = body.echo, body.return_token_ids
        self._begun = self._told = False
        self._text, self._finish, self._ids = "", "", list[int]()
        self._logprobs: _LogProbs | None = None
        if body.logprobs is not None:
            self._logprobs = _LogProbs(turn.template.tokenizer)

    @property
    def news(self) -> bool:
        """Whether there is anything to tell."""
        unsaid = (self._wants_ids or self._logprobs is not None) and self._ids
        return bool(self._text or self._finish or unsaid)

    def hear(self, piece: Piece) -> None:
        """Take a piece in; before the first one, with ``echo``, the prompt."""
        if self._echo and not self._begun:
            self._text = self._turn.template.tokenizer.decode(self._turn.prompt)
            if self._logprobs is not None:
                self._logprobs.prompt(self._turn)
        self._begun = True
        self._text += piece.text
        if piece.told is not None:
            self._ids.append(piece.told.token)
            if self._logprobs is not None:
                self._logprobs.add(*piece.told)
        if piece.finish is not None:
            self._finish = FINISHES[piece.finish]

    def take(self) -> dict[str, Any]:
        """What is new, in OpenAI's shape."""
        choice: dict[str, Any] = {
            "index": self._index,
            "text": self._text,
            "logprobs": None if self._logprobs is None else self._logprobs.take(),
            "finish_reason": self._finish or None,
        }
        if self._wants_ids:
            choice["token_ids"] = self._ids
            if not self._told:
                choice["prompt_token_ids"] = list(self._turn.prompt)
        self._text, self._ids, self._told = "", [], True
        return choice


class _LogProbs:
    """OpenAI's four lists about tokens: how each is spelt, its log-prob, the likeliest in its place, where it begins."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._text = Stream(tokenizer)
        self._length = 0
        self._lists: dict[str, list[Any]] = {}
        self.take()

    def prompt(self, turn: Turn) -> None:
        """The prompt's tokens, of which the first follows nothing."""
        self.add(turn.prompt[0], None, ())
        for token, likelihood in zip(turn.prompt[1:], turn.likelihoods or (), strict=False):
            self.add(token, *likelihood)
        self._length += len(self._text.flush())

    def add(self, token: int, logprob: float | None, top: Sequence[tuple[int, float]]) -> None:
        """One token. The likeliest are told by what they spell, and the token itself is always among them."""
        spell = self._tokenizer.spell
        likeliest: dict[str, float] | None = None
        if logprob is not None:
            likeliest = {}
            for one, value in (*top, (token, logprob)):
                likeliest.setdefault(spell(one), finite(value))
        self._lists["tokens"].append(spell(token))
        self._lists["token_logprobs"].append(None if logprob is None else finite(logprob))
        self._lists["top_logprobs"].append(likeliest)
        self._lists["text_offset"].append(self._length)
        self._length += len(self._text.push(token))

    def take(self) -> dict[str, list[Any]]:
        """The lists since they were last taken."""
        taken = self._lists
        self._lists = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        return taken
