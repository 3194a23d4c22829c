"""OpenAI's chat completions and models, as far as they work here: what does not is refused by name."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from palmier.errors import Refusal
from palmier.records import Conversation, Finish, Message, Sampling
from palmier.serve.chat import CHAT_TEMPERATURE, CHAT_TOP_P, Told, Turn, begin, fresh_seed, server_event
from palmier.serve.live import Stopped
from palmier.serve.serving import Given, check_version, error_body, gone, stream

router = APIRouter(prefix="/v1")

MOST_ANSWERS = 16
MOST_STOPS = 4
MOST_TOP_LOGPROBS = 20

NEUTRAL: dict[str, list[Any]] = {
    "function_call": ["none"],
    "functions": [[]],
    "metadata": [{}],
    "modalities": [["text"]],
    "parallel_tool_calls": [True, False],
    "response_format": [{"type": "text"}],
    "service_tier": ["auto", "default"],
    "store": [False],
    "tool_choice": ["none", "auto"],
    "tools": [[]],
}
"""Fields that are not supported, and the values that ask for nothing: clients that always send them work."""

FINISHES: dict[Finish, str] = {"stop": "stop", "length": "length", "cancelled": "stop"}


def _without_neutral(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {k: v for k, v in value.items() if v is not None and not (k in NEUTRAL and v in NEUTRAL[k])}


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message as clients send it; an assistant's may come back as it was answered."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: v for k, v in value.items() if k in ("role", "content") or v not in (None, [], {})}

    def message(self) -> Message:
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False


class Completion(BaseModel):
    """The body of a request for a chat completion."""

    model_config = ConfigDict(extra="forbid")
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    temperature: float = CHAT_TEMPERATURE
    top_p: float = CHAT_TOP_P
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[Annotated[int, Field(ge=0)], float] = {}
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] = 0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] = 1
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] = []
    user: str = ""

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, value: Any) -> Any:
        return _without_neutral(value)

    def sampling(self) -> Sampling:
        """Raises Refusal where a number is out of its range."""
        most = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        seed = fresh_seed() if self.seed is None else self.seed
        # Without a limit an answer may fill the context, as OpenAI's may; the engine ends it there.
        limit = 1 << 30 if most is None else most
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            max_tokens=limit,
            seed=seed,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple(sorted(self.logit_bias.items())),
        )

    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def tops(self) -> int:
        """How many of the likeliest tokens are told in each place. Raises Refusal where nothing would tell them."""
        if self.top_logprobs and not self.logprobs:
            raise Refusal("top_logprobs needs logprobs: set it to true, or leave top_logprobs out")
        return self.top_logprobs


@router.post("/chat/completions")
async def complete(serving: Given, request: Request, body: Completion) -> Response:
    """Answer a conversation, streaming or not, in OpenAI's shape."""
    conversation = Conversation(tuple(message.message() for message in body.messages))
    version = check_version(serving, body.model)
    turn = await begin(
        serving.live,
        conversation,
        body.sampling(),
        n=body.n,
        version=version,
        stops=body.stops(),
        top_logprobs=body.tops(),
    )
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": turn.version}
    if body.stream:
        return stream(_chunks(turn, head, body))
    if not await _read(turn, request):
        return Response(status_code=499)  # nobody is there to read it
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": _logprobs(turn, turn.told(index)) if body.logprobs else None,
            "finish_reason": FINISHES[answer.finish],
        }
        for index, answer in enumerate(turn.answers())
    ]
    return JSONResponse(head | {"object": "chat.completion", "choices": choices, "usage": _usage(turn)})


@router.get("/models")
async def models(serving: Given) -> dict[str, Any]:
    """The versions of this home, newest last; "current" is whichever is promoted."""
    data = [
        {"id": version.name, "object": "model", "created": 0, "owned_by": "palmier", "label": version.label}
        for version in serving.versions.all()
    ]
    return {"object": "list", "data": data}


@router.get("/models/{name}")
async def model(serving: Given, name: str) -> dict[str, Any]:
    version = serving.versions.get(check_version(serving, name) or serving.live.state.current)
    return {"id": version.name, "object": "model", "created": 0, "owned_by": "palmier", "label": version.label}


async def _read(turn: Turn, request: Request) -> bool:
    """Draw to the end; False where the client went away before (its slots are free again)."""

    async def drain() -> None:
        async with aclosing(turn.pieces()) as pieces:
            async for _ in pieces:
                pass

    reading, leaving = asyncio.create_task(drain()), asyncio.create_task(gone(request))
    try:
        await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not reading.done():
            reading.cancel()
    if reading.cancelled() or not reading.done():
        return False
    reading.result()
    return True


async def _chunks(turn: Turn, head: dict[str, Any], body: Completion) -> AsyncGenerator[str, None]:
    head = head | {"object": "chat.completion.chunk"}
    include_usage = body.stream_options.include_usage
    last = {"usage": None} if include_usage else {}

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> str:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return server_event(head | {"choices": [choice]} | last)

    for index in range(body.n):
        yield chunk(index, {"role": "assistant", "content": ""})
    try:
        async with aclosing(turn.pieces()) as pieces:
            async for piece in pieces:
                told = _logprobs(turn, [piece.told]) if body.logprobs and piece.told else None
                if piece.text or (told and told["content"]):
                    yield chunk(piece.index, {"content": piece.text}, logprobs=told)
                if piece.finish:
                    yield chunk(piece.index, {}, FINISHES[piece.finish])
    except (Refusal, Stopped) as error:
        yield server_event(error_body(str(error), "server_error"))
        return
    if include_usage:
        yield server_event(head | {"choices": [], "usage": _usage(turn)})
    yield "data: [DONE]\n\n"


def _logprobs(turn: Turn, drawn: Sequence[Told]) -> dict[str, Any]:
    """OpenAI's shape of the tokens of an answer, the end token left out."""
    template = turn.template

    def named(token: int, logprob: float) -> dict[str, Any]:
        spelt = template.tokenizer.token_bytes(token)
        return {"token": spelt.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(spelt)}

    content = [
        named(told.token, told.logprob) | {"top_logprobs": [named(*one) for one in told.top]}
        for told in drawn
        if told.token not in template.stop_ids
    ]
    return {"content": content, "refusal": None}


def _usage(turn: Turn) -> dict[str, int]:
    prompt, drawn = turn.prompt_tokens, turn.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}
