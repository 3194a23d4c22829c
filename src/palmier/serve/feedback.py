"""Feedback in the chat by HTTP: consent, thumbs, better answers, and what each of them did."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from palmier.feedback.consent import WORDING, Language, words_in
from palmier.feedback.store import Fate
from palmier.records import Conversation, Message
from palmier.serve.conversations import Annotator, MessageNumber, Words, find_tree
from palmier.serve.serving import Given, Number, Serving

router = APIRouter(prefix="/api/feedback")

Reason = Annotated[str, Field(max_length=2_000)]
KindName = Literal["ranking", "label", "demonstration"]


class Consent(BaseModel):
    """``wording`` and ``language`` tell which words were read; left out, today's in English."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""
    granted: bool
    language: Language = "en"
    wording: Annotated[int, Field(ge=1)] = WORDING


class Thumb(BaseModel):
    """``good``: true is up, false is down, null takes the thumb back."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""
    conversation: MessageNumber
    message: MessageNumber
    good: bool | None
    reason: Reason = ""


class Better(BaseModel):
    """What the person would have answered in place of an answer."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""
    conversation: MessageNumber
    message: MessageNumber
    text: Words
    reason: Reason = ""


class Withdrawal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""
    kind: KindName
    id: MessageNumber


@router.get("")
async def overview(serving: Given, annotator: str = "", language: Language = "en") -> dict[str, Any]:
    """Consent and its words, what a person gave, and what taking consent back would reach.

    ``asked`` is false where the person has not answered the question in today's wording; ``today`` is
    the number of that wording, which whoever shows ``words`` sends back with the answer.
    """
    return await run_in_threadpool(_overview, serving, annotator, language)


@router.post("/consent")
async def consent(serving: Given, body: Consent) -> dict[str, Any]:
    """Store the answer to the question of consent; an answer of no says in ``reach`` what it reached."""
    reach = await run_in_threadpool(serving.store.reach, body.annotator)
    await consented(serving, body)
    now = await run_in_threadpool(_overview, serving, body.annotator, body.language)
    return now | ({} if body.granted else {"reach": asdict(reach)})


async def consented(serving: Serving, body: Consent) -> None:
    """Store an answer with the words that were read, in their language."""
    words = words_in(body.language, body.wording)
    await run_in_threadpool(serving.store.set_consent, body.annotator, body.granted, words, body.wording)


@router.post("/labels", status_code=201)
async def label(serving: Given, body: Thumb) -> dict[str, Any]:
    """Put a thumb on an answer, change it or take it back. On the disk when this answers."""
    read = await run_in_threadpool(_read, serving, body.conversation, body.message)
    set_label = serving.store.set_label
    where = (body.conversation, body.message)
    number = await run_in_threadpool(set_label, body.annotator, *where, body.good, body.reason, read)
    return {"id": number, "fate": await fate_of(serving, body.annotator, "label", number)}


@router.post("/demonstrations", status_code=201)
async def better(serving: Given, body: Better) -> dict[str, Any]:
    """Keep a better answer; it becomes ``message``, an alternative to the old one. On the disk when this answers."""
    read = await run_in_threadpool(_read, serving, body.conversation, body.message, body.text)
    write = serving.store.write_better
    where = (body.conversation, body.message)
    number, message = await run_in_threadpool(write, body.annotator, *where, body.text, body.reason, read)
    fate = await fate_of(serving, body.annotator, "demonstration", number)
    return {"id": number, "message": message, "fate": fate}


@router.get("/items")
async def items(
    serving: Given,
    annotator: str = "",
    kind: KindName | None = None,
    before: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Field(ge=1, le=200)] = 50,
) -> list[dict[str, Any]]:
    """What a person gave, newest first of each kind, and what each did."""
    return [told(fate) for fate in await run_in_threadpool(serving.store.fates, annotator, kind, before, limit)]


@router.get("/conversations/{number}")
async def given_in(serving: Given, number: Number, annotator: str = "") -> list[dict[str, Any]]:
    """What a person gave to the answers of a conversation and did not take back.

    ``answers`` are those that it judged: the message, whose it is, and its rank (1 is the best).
    """
    found = await run_in_threadpool(serving.store.fates_in, annotator, number)
    return [told(fate) | {"answers": [asdict(one) for one in judged]} for fate, judged in found]


@router.post("/withdraw")
async def withdraw(serving: Given, body: Withdrawal) -> dict[str, Any]:
    """Take one thing back: nothing is trained with it from now on."""
    await run_in_threadpool(serving.store.withdraw, body.annotator, body.kind, body.id)
    return await run_in_threadpool(_overview, serving, body.annotator)


def told(fate: Fate) -> dict[str, Any]:
    return asdict(fate) | {"sentence": fate.sentence}


async def fate_of(serving: Serving, annotator: str, kind: KindName, number: int) -> dict[str, Any] | None:
    """What became of one thing that was just given."""
    found = await run_in_threadpool(serving.store.fates, annotator, kind, number + 1, 1)
    return told(found[0]) if found and found[0].id == number else None


def _overview(serving: Serving, annotator: str, language: Language = "en") -> dict[str, Any]:
    store = serving.store
    granted, wording = store.consented(annotator)
    return {
        "annotator": annotator,
        "consent": granted,
        "wording": wording,
        "asked": wording == WORDING,
        "today": WORDING,
        "words": words_in(language),
        "given": {
            "rankings": store.count(annotator),
            "labels": store.count(annotator, "label"),
            "demonstrations": store.count(annotator, "demonstration"),
        },
        "reach": asdict(store.reach(annotator)),
    }


def _read(serving: Serving, conversation: int, message: int, text: str = "") -> Conversation | None:
    """What a model reads before an answer (or before ``text`` in its place): the oldest turns may not fit.

    None where the message is no answer, which the store refuses. Raises NotStored where there is no such message.
    """
    tree = find_tree(serving, conversation)
    one = tree.find(message)
    if one.parent is None or tree.find(one.parent).message.role != "user":
        return None
    return serving.live.reads(tree.thread(one.parent), (one.message, Message("assistant", text)))
