"""OpenAI's chat completions and models, as far as they work here: what does not is refused by name."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from palmier.errors import Refusal
from palmier.records import Conversation, Message
from palmier.serve.chat import CHAT_TEMPERATURE, CHAT_TOP_P, Told, Turn, begin, server_event
from palmier.serve.fields import text_alone
from palmier.serve.live import Stopped
from palmier.serve.openai_fields import (
    FINISHES,
    MOST_TOP_LOGPROBS,
    Completed,
    Share,
    Switch,
    Temperature,
    Whole,
    finite,
    usage,
)
from palmier.serve.serving import Given, check_version, engines, read_to_end, stream
from palmier.serve.shapes import error_body

router = APIRouter(prefix="/v1")

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


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message as clients send it; an assistant's may come back as it was answered."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str | list[TextPart], BeforeValidator(text_alone)]

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


class Completion(Completed):
    """The body of a request for a chat completion."""

    neutral: ClassVar[dict[str, list[Any]]] = NEUTRAL

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    temperature: Temperature = CHAT_TEMPERATURE
    top_p: Share = CHAT_TOP_P
    logprobs: Switch = False
    top_logprobs: Annotated[Whole, Field(ge=0, le=MOST_TOP_LOGPROBS)] = 0
    max_tokens: Annotated[Whole, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[Whole, Field(ge=1)] | None = None

    def most(self) -> int:
        """Tokens of an answer. Without a limit it may fill the context, as OpenAI's may; the engine ends it there."""
        most = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return 1 << 30 if most is None else most

    def tops(self) -> int:
        """How many of the likeliest tokens are told in each place. Raises Refusal where nothing would tell them."""
        if self.top_logprobs and not self.logprobs:
            raise Refusal("top_logprobs needs logprobs: set it to true, or leave top_logprobs out", "top_logprobs")
        return self.top_logprobs


@router.post("/chat/completions")
async def complete(serving: Given, request: Request, body: Completion) -> Response:
    """Answer a conversation, streaming or not, in OpenAI's shape."""
    conversation = Conversation(tuple(message.message() for message in body.messages))
    with_usage = body.with_usage()
    version = check_version(serving, body.model)
    turn = await begin(
        engines(serving),
        conversation,
        body.sampling(body.most()),
        n=body.n,
        version=version,
        stops=body.stop,
        top_logprobs=body.tops(),
    )
    head: dict[str, Any] = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": turn.version}
    if body.stream:
        return stream(_chunks(turn, head, body, with_usage))
    if not await read_to_end(turn.pieces(), request):
        return Response(status_code=499)  # nobody is there to read it
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": _logprobs(turn, turn.told(index)) if body.logprobs else None,
            "finish_reason": FINISHES[answer.finish],
        }
        | ({"token_ids": list(answer.tokens)} if body.return_token_ids else {})
        for index, answer in enumerate(turn.answers())
    ]
    head |= {
        "object": "chat.completion",
        "choices": choices,
        "usage": usage(turn.prompt_tokens, turn.completion_tokens),
    }
    return JSONResponse(head | _prompt_ids(turn, body))


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


async def _chunks(turn: Turn, head: dict[str, Any], body: Completion, with_usage: bool) -> AsyncGenerator[str, None]:
    head = head | {"object": "chat.completion.chunk"}
    last = {"usage": None} if with_usage else {}

    def chunk(index: int, delta: dict[str, Any], beside: dict[str, Any] | None = None, **more: Any) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None} | more
        return server_event(head | {"choices": [choice]} | (beside or {}) | last)

    try:
        opening = {"role": "assistant", "content": ""}
        for index in range(body.n):
            yield chunk(index, opening, _prompt_ids(turn, body))
        async with aclosing(turn.pieces()) as pieces:
            async for piece in pieces:
                told = _logprobs(turn, [piece.told]) if body.logprobs and piece.told else None
                ids: dict[str, Any] = {"token_ids": [piece.told.token]} if body.return_token_ids and piece.told else {}
                if piece.text or (told and told["content"]) or ids:
                    yield chunk(piece.index, {"content": piece.text}, logprobs=told, **ids)
                if piece.finish:
                    yield chunk(piece.index, {}, finish_reason=FINISHES[piece.finish])
    except (Refusal, Stopped) as error:
        yield server_event(error_body(str(error), "server_error"))
        return
    finally:
        turn.cancel()  # also where the reader left before the first piece
    if with_usage:
        yield server_event(head | {"choices": [], "usage": usage(turn.prompt_tokens, turn.completion_tokens)})
    yield "data: [DONE]\n\n"


def _prompt_ids(turn: Turn, body: Completion) -> dict[str, Any]:
    return {"prompt_token_ids": list(turn.prompt)} if body.return_token_ids else {}


def _logprobs(turn: Turn, drawn: Sequence[Told]) -> dict[str, Any]:
    """OpenAI's shape of the tokens of an answer, the end token left out."""
    template = turn.template

    def named(token: int, logprob: float) -> dict[str, Any]:
        spelt = template.tokenizer.token_bytes(token)
        return {"token": spelt.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(spelt)}

    content = [
        named(told.token, told.logprob) | {"top_logprobs": [named(*one) for one in told.top]}
        for told in drawn
        if told.token not in template.stop_ids
    ]
    return {"content": content, "refusal": None}
