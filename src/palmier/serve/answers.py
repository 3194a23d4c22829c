"""Answers in stored conversations by HTTP: drawn, drawn again, gone on with, stopped; kept whoever leaves."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from palmier.errors import Refusal
from palmier.feedback.store import StoredMessage, Tree
from palmier.records import Message, Sampling
from palmier.serve.answerer import Reply
from palmier.serve.chat import fresh_seed, server_event
from palmier.serve.context import Opening
from palmier.serve.conversations import ChatSettings, MessageNumber, find_tree, sampling_of
from palmier.serve.live import Stopped
from palmier.serve.serving import Given, Number, Serving, check_version, stream

router = APIRouter(prefix="/api")

Seed = Annotated[int, Field(ge=0, lt=1 << 53)]


class AnswerWish(ChatSettings):
    """What is answered and how; a setting that is left out is the conversation's own.

    ``to``: the person's message (left out: the last one on the branch). ``continue``: an answer
    that was cut, whose text goes on. ``own_thread``: go on from what this version said before.
    """

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    to: MessageNumber | None = None
    going_on: Annotated[MessageNumber | None, Field(alias="continue")] = None
    own_thread: bool = False
    seed: Seed | None = None

    def sampling(self, settings: dict[str, Any]) -> Sampling:
        """How the answer is drawn: what is asked for here, else what the conversation's ``settings`` say."""
        own = self.model_dump(exclude_none=True, include=set(ChatSettings.model_fields) - {"system"})
        return sampling_of(settings | own, fresh_seed() if self.seed is None else self.seed)


@router.post("/conversations/{number}/answers")
async def answer(serving: Given, number: Number, body: AnswerWish) -> StreamingResponse:
    """Stream an answer, and store it under what it answers (also what was said until a stop).

    Events: ``{"type": "start", "answer", "version", "to", "text", "left_out"}``, ``{"type": "text", "text"}`` …,
    ``{"type": "end", "finish", "tokens", "seconds", "message"}`` or ``{"type": "error", "message"}``.
    ``text`` of the start is what an answer that goes on had said; ``left_out`` is how many of the
    conversation's earlier turns the model does not read, because its context is full.
    """
    tree = await run_in_threadpool(find_tree, serving, number, body.going_on is not None)
    version = check_version(serving, body.model)
    if body.system is not None:
        raise Refusal("system is the conversation's: set it with PATCH /api/conversations/NUMBER")
    if body.to is not None and body.going_on is not None:
        raise Refusal("give either to (a message that is answered) or continue (an answer that goes on), not both")
    begun = None if body.going_on is None else _cut(tree, body.going_on)
    asked = asked_message(tree, body.to if begun is None else begun.parent)
    conversation = tree.thread(asked.id, (version or serving.live.state.current) if body.own_thread else None)
    opening = Opening(fit=True, begun=None if begun is None else begun.answer)
    turn = await serving.live.answer(conversation, body.sampling(tree.settings), version=version, opening=opening)
    return stream(_written(serving, number, asked.id, turn))


@router.post("/answers/{name}/stop", status_code=204)
async def stop(serving: Given, name: str) -> Response:
    """End an answer that is being written; its stream then ends with what was said so far."""
    turn = serving.turns.get(name)
    if turn is not None:
        turn.cancel()
    return Response(status_code=204)


def asked_message(tree: Tree, to: int | None) -> StoredMessage:
    """The person's message that is answered: ``to``, or the last one on the branch. Raises NotStored or Refusal."""
    if to is None:
        last = tree.question()
        if last is None:
            raise Refusal(f"conversation {tree.id} holds no message yet: add what you want to say first")
        return last
    one = tree.find(to)
    if one.message.role != "user":
        raise Refusal(f"message {to} is the {one.message.role}'s: an answer follows a user's message")
    return one


def _cut(tree: Tree, number: int) -> StoredMessage:
    """An answer that can go on. Raises Refusal where it came to its end by itself."""
    one = tree.find(number)
    if one.answer is None or one.parent is None:
        raise Refusal(f"message {number} is the {one.message.role}'s: only an answer can go on")
    if one.answer.finish == "stop":
        raise Refusal(f"answer {number} came to its end by itself: say something to it instead")
    return one


async def _written(serving: Serving, number: int, asked: int, turn: Reply) -> AsyncGenerator[str, None]:
    name, began = uuid.uuid4().hex, time.monotonic()
    serving.turns[name] = turn
    saved = False

    def save() -> int | None:
        """Store what was said, once; returns the message's number."""
        nonlocal saved
        if saved:
            return None
        saved = True  # also where the disk is full: once is enough to say so
        answer = turn.answers()[0]
        if not turn.completion_tokens and answer.finish == "cancelled":
            return None
        return serving.store.add_message(number, Message("assistant", answer.text), answer, asked)

    start = {"type": "start", "answer": name, "version": turn.version, "to": asked}
    try:
        yield server_event(start | {"text": turn.begun, "left_out": turn.left_out})
        async with aclosing(turn.pieces()) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield server_event({"type": "text", "text": piece.text})
        message = save()
        done = turn.answers()[0]
        end = {"type": "end", "finish": done.finish, "tokens": turn.completion_tokens, "message": message}
        yield server_event(end | {"seconds": round(time.monotonic() - began, 2)})
    except (Refusal, Stopped) as error:
        yield server_event({"type": "error", "message": str(error)})
    finally:
        # The reader may have gone in the middle: what it saw is kept all the same, unless the
        # conversation was removed meanwhile. Nobody is left to be told.
        del serving.turns[name]
        with contextlib.suppress(Refusal):
            save()
