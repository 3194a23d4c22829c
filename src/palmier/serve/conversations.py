"""The chat page's own routes: what the server is doing, stored conversations, answers to them."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from palmier.errors import Refusal
from palmier.records import Message, Sampling
from palmier.serve.chat import CHAT_TEMPERATURE, CHAT_TOKENS, CHAT_TOP_P, Turn, begin, fresh_seed, server_event, thread
from palmier.serve.live import Stopped
from palmier.serve.serving import Given, Missing, Number, Serving, busy_process, check_version, stream

router = APIRouter(prefix="/api")

Annotator = Annotated[str, Field(max_length=100)]


class NewConversation(BaseModel):
    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""


class NewMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    content: Annotated[str, Field(min_length=1, max_length=200_000)]


class AnswerWish(BaseModel):
    """How the next answer is drawn. ``own_thread``: go on from what this version said before."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    own_thread: bool = False
    temperature: float = CHAT_TEMPERATURE
    top_k: int = 0
    top_p: float = CHAT_TOP_P
    max_tokens: int = CHAT_TOKENS
    seed: Annotated[int, Field(ge=0, lt=1 << 53)] | None = None

    def sampling(self) -> Sampling:
        seed = fresh_seed() if self.seed is None else self.seed
        return Sampling(self.temperature, self.top_k, self.top_p, self.max_tokens, seed)


@router.get("/state")
async def state(serving: Given) -> dict[str, Any]:
    """What the pages look at every few seconds."""
    live = serving.live.state
    versions = await run_in_threadpool(serving.versions.all)
    return {
        "current": live.current,
        "versions": [
            {"name": version.name, "label": version.label, "loaded": version.name in live.loaded}
            for version in versions
        ],
        "loading": list(live.loading),
        "problem": live.problem,
        "busy": await run_in_threadpool(busy_process, serving.workspace),
        "running": serving.live.running,
    }


@router.get("/conversations")
async def conversations(serving: Given, annotator: str = "") -> list[dict[str, Any]]:
    """A person's stored conversations, newest first."""
    chats = await run_in_threadpool(serving.store.conversations, annotator)
    return [{"id": chat.id, "title": chat.title, "created": chat.created} for chat in chats]


@router.post("/conversations", status_code=201)
async def new_conversation(serving: Given, body: NewConversation) -> dict[str, int]:
    return {"id": await run_in_threadpool(serving.store.new_conversation, body.annotator)}


@router.get("/conversations/{number}")
async def conversation(serving: Given, number: Number) -> dict[str, Any]:
    """Every message; several assistant's messages in a row are alternatives to one another."""
    stored = await run_in_threadpool(_messages, serving, number)
    messages = [
        {
            "role": one.message.role,
            "content": one.message.content,
            "version": None if one.answer is None else one.answer.version,
            "finish": None if one.answer is None else one.answer.finish,
        }
        for one in stored
    ]
    return {"id": number, "messages": messages}


@router.post("/conversations/{number}/messages", status_code=201)
async def add_message(serving: Given, number: Number, body: NewMessage) -> dict[str, int]:
    """Add what the person says; answers are asked for apart."""
    await run_in_threadpool(_messages, serving, number)
    await run_in_threadpool(serving.store.add_message, number, Message("user", body.content))
    return {"id": number}


@router.post("/conversations/{number}/answers")
async def answer(serving: Given, number: Number, body: AnswerWish) -> StreamingResponse:
    """Stream an answer to the last user's message, and store it (also what was said until a stop).

    Events: ``{"type": "start", "answer", "version"}``, ``{"type": "text", "text"}`` …,
    ``{"type": "end", "finish", "tokens", "seconds"}`` or ``{"type": "error", "message"}``.
    """
    stored = await run_in_threadpool(_messages, serving, number)
    version = check_version(serving, body.model)
    messages = thread(stored, (version or serving.live.state.current) if body.own_thread else None)
    if not messages.messages:
        raise Refusal(f"conversation {number} holds no message yet: add what you want to say first")
    turn = await begin(serving.live, messages, body.sampling(), version=version)
    return stream(_written(serving, number, turn))


@router.post("/answers/{name}/stop", status_code=204)
async def stop(serving: Given, name: str) -> Response:
    """End an answer that is being written; its stream then ends with what was said so far."""
    turn = serving.turns.get(name)
    if turn is not None:
        turn.cancel()
    return Response(status_code=204)


def _messages(serving: Serving, number: int) -> Any:
    try:
        return serving.store.messages(number)
    except Refusal as refusal:
        raise Missing(str(refusal)) from None


async def _written(serving: Serving, number: int, turn: Turn) -> AsyncGenerator[str, None]:
    name, began = uuid.uuid4().hex, time.monotonic()
    serving.turns[name] = turn
    saved = False

    def save() -> None:
        nonlocal saved
        if saved:
            return
        saved = True  # also where the disk is full: once is enough to say so
        answer = turn.answers()[0]
        if answer.tokens or answer.finish != "cancelled":
            serving.store.add_message(number, Message("assistant", answer.text), answer)

    try:
        yield server_event({"type": "start", "answer": name, "version": turn.version})
        async with aclosing(turn.pieces()) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield server_event({"type": "text", "text": piece.text})
        save()
        done = turn.answers()[0]
        seconds = round(time.monotonic() - began, 2)
        yield server_event({"type": "end", "finish": done.finish, "tokens": len(done.tokens), "seconds": seconds})
    except (Refusal, Stopped) as error:
        yield server_event({"type": "error", "message": str(error)})
    finally:
        # The reader may have gone in the middle: what it saw is kept all the same.
        del serving.turns[name]
        save()
