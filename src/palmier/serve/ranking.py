"""The ranking routes: the page /rank and programs use the same ones (docs/rank.md)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from palmier.data.prompts import read_conversations
from palmier.errors import Refusal
from palmier.feedback.consent import WORDING, Language, words_in
from palmier.feedback.rankings import clear
from palmier.feedback.split import NEEDED
from palmier.records import Conversation, Message, Ranking, Sampling
from palmier.serve.chat import fresh_seed, server_event
from palmier.serve.conversations import Annotator, find_tree
from palmier.serve.draws import Draw
from palmier.serve.feedback import Consent, consented
from palmier.serve.serving import Given, Missing, Number, Serving, check_version, stream
from palmier.serve.starters import STARTERS

router = APIRouter(prefix="/api/rank")

MOST_CHATS = 50
"""Newest chats whose first question is offered for ranking."""

RANK_TEMPERATURE = 0.9
RANK_TOKENS = 256
"""Answers to be ranked are drawn warmer than in a chat, and uncut, so that they differ."""


class TypedMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str


class DrawWish(BaseModel):
    """What is to be ranked: a ``prompt``, or ``messages`` of which the last is the user's."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""
    prompt: Annotated[str, Field(max_length=200_000)] | None = None
    messages: list[TypedMessage] | None = None
    n: Annotated[int, Field(ge=2, le=9)] = 4
    model: str | None = None
    temperature: float = RANK_TEMPERATURE
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = RANK_TOKENS
    seed: Annotated[int, Field(ge=0, lt=1 << 53)] | None = None
    wait: bool = True

    def conversation(self) -> Conversation:
        if (self.prompt is None) == (self.messages is None):
            raise Refusal("give either prompt (a text) or messages (a conversation)")
        if self.messages is not None:
            return Conversation(tuple(Message(message.role, message.content) for message in self.messages))
        if not (self.prompt or "").strip():
            raise Refusal("prompt is empty: write what the answers shall answer")
        return Conversation.ask(self.prompt or "")

    def sampling(self) -> Sampling:
        seed = fresh_seed() if self.seed is None else self.seed
        return Sampling(self.temperature, self.top_k, self.top_p, self.max_tokens, seed)


class Order(BaseModel):
    """A confirmed order: ``ranks[i]`` is the rank of answer i of the draw, 1 = best, equal = tied."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""
    draw: str
    ranks: Annotated[list[Annotated[int, Field(ge=1, le=9)]], Field(min_length=2, max_length=9)]
    all_bad: bool = False
    milliseconds: Annotated[int, Field(ge=0, lt=1 << 40)] = 0


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""


@router.get("")
async def overview(serving: Given, annotator: str = "", language: Language = "en") -> dict[str, Any]:
    """Where a person stands: consent, count, the draw that waits for an order."""
    draw = serving.draws.pending(annotator)
    consent = await run_in_threadpool(serving.store.consent, annotator)
    return {
        "annotator": annotator,
        "consent": consent,
        "today": WORDING,
        "words": words_in(language),
        "draw": None if draw is None else shown_draw(draw),
        **await _counts(serving, annotator),
    }


@router.post("/consent")
async def consent(serving: Given, body: Consent) -> dict[str, Any]:
    """Store the answer to the question of consent, with the words that were read."""
    await consented(serving, body)
    return {"consent": body.granted, **await _counts(serving, body.annotator)}


@router.get("/prompt")
async def prompt(serving: Given, annotator: str = "", place: int = 0) -> dict[str, Any]:
    """A prompt to rank: from the home's prompts.jsonl, the person's own chats, or our examples.

    The same ``place`` gives the same prompt; the next place gives the next one.
    """
    candidates = await run_in_threadpool(_candidates, serving, annotator)
    chosen, source = candidates[place % len(candidates)]
    return {"messages": chosen.to_json(), "source": source, "place": place, "of": len(candidates)}


@router.get("/conversations/{number}")
async def from_chat(serving: Given, number: Number, turn: int = -1) -> dict[str, Any]:
    """The conversation up to its user's message number ``turn`` (0 = the first, -1 = the last), to be ranked."""
    tree = await run_in_threadpool(find_tree, serving, number)
    asked = [one.id for one in tree.path() if one.message.role == "user"]
    if not asked or not -len(asked) <= turn < len(asked):
        raise Missing(f"conversation {number} has {len(asked)} questions, and none with the number {turn}")
    return {"messages": tree.thread(asked[turn]).to_json(), "source": "chat"}


@router.post("/draws", status_code=201)
async def draw(serving: Given, body: DrawWish) -> dict[str, Any]:
    """Draw n answers; returned when all have ended, or at once where ``wait`` is false."""
    version = check_version(serving, body.model)
    drawn = await serving.draws.begin(body.annotator, body.conversation(), body.sampling(), body.n, version)
    if body.wait:
        drawn = await serving.draws.finished(drawn.id)
    return shown_draw(drawn)


@router.get("/draws/{name}")
async def get_draw(serving: Given, name: str) -> dict[str, Any]:
    return shown_draw(find_draw(serving, name))


@router.get("/draws/{name}/events")
async def watch(serving: Given, name: str) -> StreamingResponse:
    """The draw as it is being written: one event a change, each the whole draw."""
    find_draw(serving, name)
    return stream(_snapshots(serving, name))


@router.delete("/draws/{name}", status_code=204)
async def skip(serving: Given, name: str) -> Response:
    """Skip a draw: nothing of it is stored."""
    find_draw(serving, name)
    serving.draws.drop(name)
    return Response(status_code=204)


@router.post("/rankings", status_code=201)
async def rank(serving: Given, body: Order) -> dict[str, Any]:
    """Store an order. When this answers, it is on the disk; the same order sent again counts once."""
    drawn = find_draw(serving, body.draw)
    check_ready(drawn, body.annotator)
    ranking = Ranking(
        conversation=drawn.conversation,
        answers=drawn.answers,
        ranks=tuple(body.ranks),
        all_bad=body.all_bad,
        shown=drawn.shown,
        annotator=body.annotator,
        milliseconds=body.milliseconds,
    )
    number = await run_in_threadpool(serving.store.add_ranking, ranking, drawn.key)
    serving.draws.ranked(drawn, ranking.ranks, ranking.all_bad, number)
    return {"id": number, **await _counts(serving, body.annotator)}


@router.post("/undo")
async def undo(serving: Given, body: Person) -> dict[str, Any]:
    """Withdraw the person's last ranking; its draw comes back, with the order it had, where it is still kept."""
    undone = await run_in_threadpool(serving.store.undo, body.annotator)
    again = serving.draws.reopen(undone) if undone else None
    shown = None if again is None else shown_draw(again)
    return {"undone": undone > 0, "draw": shown, **await _counts(serving, body.annotator)}


async def _counts(serving: Serving, annotator: str) -> dict[str, Any]:
    """The person's own rankings, and how many prompts `improve` could use: everybody's, with consent and a clear order."""
    own = await run_in_threadpool(serving.store.count, annotator)
    usable = clear(await run_in_threadpool(serving.store.training_rankings)).prompts
    return {"count": own, "usable": usable, "enough": NEEDED, "command": "palmier improve"}


def find_draw(serving: Serving, name: str) -> Draw:
    """A draw that is kept. Raises Missing where there is none."""
    try:
        return serving.draws.get(name)
    except Refusal as refusal:
        raise Missing(str(refusal)) from None


def check_ready(drawn: Draw, annotator: str) -> None:
    """Raise Refusal where a draw can't be ranked, or not by this person."""
    if drawn.annotator != annotator:
        raise Refusal(f"this draw belongs to the annotator {drawn.annotator!r}, not to {annotator!r}")
    if drawn.state == "drawing":
        raise Refusal("the answers are still being written: wait for the draw's state to be ready")
    if drawn.problem:
        raise Refusal(f"this draw has failed and can't be ranked: {drawn.problem}")


def shown_draw(draw: Draw) -> dict[str, Any]:
    """A draw for pages and programs; ``answers`` in the draw's own order, ``shown`` as they stand on the screen.

    Of a comparison in a chat it is hidden which version gave which answer, until one is chosen.
    """
    hidden = draw.chat > 0 and draw.state != "ranked"
    return {
        "id": draw.id,
        "state": draw.state,
        "messages": draw.conversation.to_json(),
        "version": "" if hidden else draw.version,
        "answers": [{"text": answer.text, "finish": _finish(draw, answer.finish)} for answer in draw.answers],
        "shown": list(draw.shown),
        "revision": draw.revision,
        "ranks": list(draw.ranks),
        "all_bad": draw.all_bad,
        "problem": draw.problem,
        "message": draw.message,
    }


def _finish(draw: Draw, finish: str) -> str | None:
    """Unfinished answers of a draw that is being written have no finish yet."""
    return None if draw.state == "drawing" and finish == "cancelled" else finish


async def _snapshots(serving: Serving, name: str) -> AsyncGenerator[str, None]:
    began = time.monotonic()
    try:
        async for drawn in serving.draws.watch(name):
            yield server_event(shown_draw(drawn) | {"seconds": round(time.monotonic() - began, 1)})
    except Refusal as refusal:
        yield server_event({"state": "gone", "problem": str(refusal)})


def _candidates(serving: Serving, annotator: str) -> list[tuple[Conversation, str]]:
    """Prompts in an order of one's own: shuffled by a hash, so that it is the same at every look."""
    found: dict[Conversation, str] = {}
    if serving.workspace.prompts.is_file():
        found |= dict.fromkeys(read_conversations(serving.workspace.prompts), "prompts")
    else:
        found |= dict.fromkeys(map(Conversation.ask, STARTERS), "examples")
    for chat in serving.store.conversations(annotator)[:MOST_CHATS]:
        first = next(one.message for one in serving.store.messages(chat.id) if one.message.role == "user")
        found[Conversation((first,))] = "chat"

    def shuffled(item: tuple[Conversation, str]) -> str:
        return hashlib.sha256(f"{annotator}\n{item[0].to_json()}".encode()).hexdigest()

    return sorted(found.items(), key=shuffled)
