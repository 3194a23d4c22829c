"""Anthropic's messages, as far as they work here: what does not is refused by name, in their shape of an error."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator, Field

from palmier.errors import Refusal
from palmier.records import Conversation, Message, Sampling
from palmier.serve.answerer import Reply
from palmier.serve.chat import CHAT_TEMPERATURE, CHAT_TOP_P, fresh_seed, server_event
from palmier.serve.fields import Fields, text_alone
from palmier.serve.live import Stopped
from palmier.serve.loading import Loaded
from palmier.serve.serving import Given, check_version, engines, fault_of, read_to_end, stream
from palmier.serve.shapes import MESSAGES, fault_body

router = APIRouter(prefix=MESSAGES)

MOST_STOPS = 16
LONGEST_STOP = 1000
"""Characters of a stop string."""

NEUTRAL: dict[str, list[Any]] = {
    "container": [],
    "context_management": [{}],
    "mcp_servers": [[]],
    "output_config": [{}],
    "service_tier": ["auto", "standard_only"],
    "speed": ["standard"],
    "thinking": [{"type": "disabled"}],
    "tool_choice": [{"type": "auto"}, {"type": "none"}],
    "tools": [[]],
}
"""Fields that are not supported, and the values that ask for nothing: clients that always send them work."""

Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
StopString = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]


class _Fields(Fields):
    neutral = NEUTRAL


class CacheControl(_Fields):
    """Asks that a beginning be kept: equal beginnings are kept here anyway, as long as there is room."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class TextBlock(_Fields):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None


class Turned(_Fields):
    """A message; an assistant's may come back as it was answered."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[str | Annotated[list[TextBlock], Field(min_length=1)], BeforeValidator(text_alone)]


class Metadata(_Fields):
    user_id: str = ""


class Counted(_Fields):
    """The body of a request for the number of tokens; ``model`` is a version, or "current"."""

    model: str
    messages: Annotated[list[Turned], Field(min_length=1)]
    system: Annotated[str | list[TextBlock], BeforeValidator(text_alone)] = ""
    cache_control: CacheControl | None = None

    def conversation(self) -> Conversation:
        system = _text(self.system)
        said = [Message(turned.role, _text(turned.content)) for turned in self.messages]
        return Conversation((*([Message("system", system)] if system else []), *said))


class Asked(Counted):
    """The body of a request for a message."""

    max_tokens: Annotated[int, Field(strict=True, ge=1)]
    temperature: Number = CHAT_TEMPERATURE
    top_p: Number = CHAT_TOP_P
    top_k: Whole = 0
    stop_sequences: Annotated[list[StopString], Field(max_length=MOST_STOPS)] = Field(default_factory=list)
    stream: Annotated[bool, Field(strict=True)] = False
    metadata: Metadata = Metadata()

    def sampling(self) -> Sampling:
        """Raises Refusal where a number is out of its range."""
        return Sampling(self.temperature, self.top_k, self.top_p, self.max_tokens, fresh_seed())


@router.post("")
async def message(serving: Given, request: Request, body: Asked) -> Response:
    """Answer a conversation, streaming or not, in Anthropic's shape."""
    version = check_version(serving, body.model)
    turn = await serving.live.answer(body.conversation(), body.sampling(), version=version, stops=body.stop_sequences)
    head = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": turn.version}
    if body.stream:
        return stream(_events(turn, head))
    if not await read_to_end(turn.pieces(), request):
        return Response(status_code=499)  # nobody is there to read it
    content = [{"type": "text", "text": turn.answers()[0].text}]
    return JSONResponse(head | {"content": content} | _end(turn) | {"usage": _usage(turn)})


@router.post("/count_tokens")
async def count_tokens(serving: Given, body: Counted) -> dict[str, int]:
    """How many tokens a conversation has as a prompt, the chat template's included."""
    version = check_version(serving, body.model)
    conversation = body.conversation()

    def count(loaded: Loaded) -> Generator[None, None, int]:
        yield from ()
        return len(loaded.template.prompt(conversation))

    return {"input_tokens": await engines(serving).work(count, version)}


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _end(turn: Reply) -> dict[str, Any]:
    """Why the answer ended."""
    string = turn.stopped_by(0)
    if string is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": string}
    cut = turn.answers()[0].finish == "length"
    return {"stop_reason": "max_tokens" if cut else "end_turn", "stop_sequence": None}


def _usage(turn: Reply) -> dict[str, int]:
    return {"input_tokens": turn.prompt_tokens, "output_tokens": turn.completion_tokens}


async def _events(turn: Reply, head: dict[str, Any]) -> AsyncGenerator[str, None]:
    begun = head | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": _usage(turn)}
    try:
        yield _event({"type": "message_start", "message": begun})
        yield _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        async with aclosing(turn.pieces()) as pieces:
            async for piece in pieces:
                if piece.text:
                    delta = {"type": "text_delta", "text": piece.text}
                    yield _event({"type": "content_block_delta", "index": 0, "delta": delta})
    except (Refusal, Stopped) as error:
        yield _event(fault_body(MESSAGES, fault_of(error)))
        return
    finally:
        turn.cancel()  # also where the reader left before the first piece
    yield _event({"type": "content_block_stop", "index": 0})
    yield _event({"type": "message_delta", "delta": _end(turn), "usage": _usage(turn)})
    yield _event({"type": "message_stop"})


def _event(value: dict[str, Any]) -> str:
    """An event with its name, which Anthropic's clients go by."""
    return f"event: {value['type']}\n{server_event(value)}"
