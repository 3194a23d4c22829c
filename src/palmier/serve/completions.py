"""OpenAI's chat completions and models, as far as they work here: what does not is refused by name."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from palmier.errors import Refusal
from palmier.records import Conversation, Finish, Message, Sampling
from palmier.serve.chat import CHAT_TEMPERATURE, CHAT_TOP_P, Turn, begin, fresh_seed, server_event
from palmier.serve.live import Stopped
from palmier.serve.serving import Given, check_version, error_body, gone, stream

router = APIRouter(prefix="/v1")

MOST_ANSWERS = 16
MOST_STOPS = 4

NEUTRAL: dict[str, list[Any]] = {
    "frequency_penalty": [0],
    "function_call": ["none"],
    "functions": [[]],
    "logit_bias": [{}],
    "logprobs": [False],
    "metadata": [{}],
    "modalities": [["text"]],
    "parallel_tool_calls": [True, False],
    "presence_penalty": [0],
    "response_format": [{"type": "text"}],
    "service_tier": ["auto", "default"],
    "store": [False],
    "tool_choice": ["none", "auto"],
    "tools": [[]],
    "top_logprobs": [0],
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
        return Sampling(self.temperature, self.top_k, self.top_p, limit, seed)

    def stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        if "" in stops:
            raise Refusal("stop: a stop string may not be empty")
        return stops


@router.post("/chat/completions")
async def complete(serving: Given, request: Request, body: Completion) -> Response:
    """Answer a conversation, streaming or not, in OpenAI's shape."""
    conversation = Conversation(tuple(message.message() for message in body.messages))
    version = check_version(serving, body.model)
    turn = await begin(serving.live, conversation, body.sampling(), n=body.n, version=version, stops=body.stops())
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": turn.version}
    if body.stream:
        return stream(_chunks(turn, head, body.n, body.stream_options.include_usage))
    if not await _read(turn, request):
        return Response(status_code=499)  # nobody is there to read it
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": None,
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


async def _chunks(turn: Turn, head: dict[str, Any], n: int, include_usage: bool) -> AsyncGenerator[str, None]:
    head = head | {"object": "chat.completion.chunk"}
    last = {"usage": None} if include_usage else {}

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return server_event(head | {"choices": [choice]} | last)

    for index in range(n):
        yield chunk(index, {"role": "assistant", "content": ""})
    try:
        async with aclosing(turn.pieces()) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield chunk(piece.index, {"content": piece.text})
                if piece.finish:
                    yield chunk(piece.index, {}, FINISHES[piece.finish])
    except (Refusal, Stopped) as error:
        yield server_event(error_body(str(error), "server_error"))
        return
    if include_usage:
        yield server_event(head | {"choices": [], "usage": _usage(turn)})
    yield "data: [DONE]\n\n"


def _usage(turn: Turn) -> dict[str, int]:
    prompt, drawn = turn.prompt_tokens, turn.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}
