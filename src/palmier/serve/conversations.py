"""Stored conversations by HTTP: what the server is doing, trees of messages, notes, search, files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from palmier.errors import Refusal
from palmier.feedback import exchange
from palmier.feedback.store import ROOT, Chat, StoredMessage, Tree
from palmier.records import Message, Sampling
from palmier.serve.chat import CHAT_TEMPERATURE, CHAT_TOKENS, CHAT_TOP_P
from palmier.serve.serving import Given, Number, Serving, busy_process

router = APIRouter(prefix="/api")

Annotator = Annotated[str, Field(max_length=100)]
MessageNumber = Annotated[int, Field(ge=1, le=2**63 - 1)]
Words = Annotated[str, Field(min_length=1, max_length=200_000)]
Line = Annotated[str, Field(max_length=200)]


class ChatSettings(BaseModel):
    """A conversation's own system prompt and sampling; what is left out is as in every chat."""

    model_config = ConfigDict(extra="forbid")
    system: Annotated[str, Field(max_length=20_000)] | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    def given(self) -> dict[str, Any]:
        """Those that were set; raises Refusal where one is out of its range."""
        values = self.model_dump(exclude_none=True)
        sampling_of(values, 0)
        return values


class NewConversation(BaseModel):
    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""


class Notes(BaseModel):
    """What changes of a conversation; ``settings`` takes the place of all earlier ones."""

    model_config = ConfigDict(extra="forbid")
    title: Line | None = None
    folder: Line | None = None
    pinned: bool | None = None
    settings: ChatSettings | None = None


class NewMessage(BaseModel):
    """What the person says. ``parent``: the message that it follows, null to begin anew; left out: the last one."""

    model_config = ConfigDict(extra="forbid")
    content: Words
    parent: MessageNumber | None = None


class Branch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    message: MessageNumber


def sampling_of(values: dict[str, Any], seed: int) -> Sampling:
    """The chat's own way of drawing, with what ``values`` change of it."""
    own = {name: value for name, value in values.items() if name != "system"}
    usual = {"temperature": CHAT_TEMPERATURE, "top_p": CHAT_TOP_P, "max_tokens": CHAT_TOKENS}
    return Sampling(**usual | own, seed=seed)


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
        "backend": live.backend,
        "busy": await run_in_threadpool(busy_process, serving.workspace),
        "running": serving.live.running,
    }


@router.get("/conversations")
async def conversations(
    serving: Given,
    annotator: str = "",
    search: Line = "",
    folder: Line | None = None,
    pinned: bool | None = None,
) -> list[dict[str, Any]]:
    """A person's stored conversations, pinned ones first, then newest first; ``search`` looks into titles and messages."""
    chats = await run_in_threadpool(serving.store.conversations, annotator, search, folder, pinned)
    return [_listed(chat) for chat in chats]


@router.post("/conversations", status_code=201)
async def new_conversation(serving: Given, body: NewConversation) -> dict[str, int]:
    return {"id": await run_in_threadpool(serving.store.new_conversation, body.annotator)}


@router.post("/conversations/import", status_code=201)
async def take_conversation(serving: Given, body: dict[str, Any], annotator: Annotator = "") -> dict[str, int]:
    """Take a conversation from what an export gave; it becomes a new one."""
    taken = exchange.from_json(body)
    if "settings" in taken.notes:
        taken.notes["settings"] = _checked_settings(taken.notes["settings"])
    add = serving.store.add_tree
    return {"id": await run_in_threadpool(add, annotator, taken.messages, taken.notes, taken.created)}


@router.get("/conversations/{number}")
async def conversation(serving: Given, number: Number, annotator: str = "") -> dict[str, Any]:
    """The whole tree. ``path`` are the messages of the branch where it stands; ``compare`` is a draw that waits."""
    tree = await run_in_threadpool(find_tree, serving, number)
    thumbs = await run_in_threadpool(serving.store.labels_of, annotator, number)
    waiting = serving.draws.pending(annotator, number)
    return {
        "id": number,
        "title": tree.notes.get("title", ""),
        "folder": tree.notes.get("folder", ""),
        "pinned": tree.notes.get("pinned", False),
        "settings": tree.settings,
        "path": [one.id for one in tree.path()],
        "messages": [_told(one, thumbs) for one in tree.messages],
        "compare": None if waiting is None else waiting.id,
    }


@router.patch("/conversations/{number}")
async def change(serving: Given, number: Number, body: Notes) -> dict[str, int]:
    """Rename, pin, put into a folder, set the system prompt and how answers are drawn."""
    notes = body.model_dump(exclude_unset=True, exclude_none=True)
    if body.settings is not None:
        notes["settings"] = body.settings.given()
    await run_in_threadpool(serving.store.note, number, **notes)
    return {"id": number}


@router.delete("/conversations/{number}", status_code=204)
async def remove(serving: Given, number: Number) -> Response:
    """Delete a conversation for good. What was said of its answers (rankings, thumbs, better ones) stays."""
    await run_in_threadpool(serving.store.remove, number)
    serving.draws.drop_chat(number)
    return Response(status_code=204)


@router.post("/conversations/{number}/messages", status_code=201)
async def add_message(serving: Given, number: Number, body: NewMessage) -> dict[str, int]:
    """Add what the person says; answers are asked for apart. An edited message is another one with the same parent."""
    under = body.parent if body.parent is not None else ROOT if "parent" in body.model_fields_set else None
    said = Message("user", body.content)
    message = await run_in_threadpool(serving.store.add_message, number, said, None, under)
    return {"id": number, "message": message}


@router.post("/conversations/{number}/branch")
async def choose(serving: Given, number: Number, body: Branch) -> dict[str, Any]:
    """Go on in the branch of a message, where the conversation stood in it last: at ``leaf``."""
    end = await run_in_threadpool(serving.store.choose, number, body.message)
    return {"id": number, "leaf": end}


@router.get("/conversations/{number}/export")
async def give_conversation(serving: Given, number: Number, format: Literal["json", "markdown"] = "json") -> Response:
    """The conversation with all of its branches as a file: JSON, to be taken in again, or Markdown, to be read."""
    tree = await run_in_threadpool(find_tree, serving, number)
    name = f'attachment; filename="conversation-{number}'
    if format == "json":
        text = exchange.dump(tree)
        return Response(text, media_type="application/json", headers={"content-disposition": f'{name}.json"'})
    title = tree.notes.get("title") or f"Conversation {number}"
    text = exchange.to_markdown(tree, title)
    return Response(text, media_type="text/markdown", headers={"content-disposition": f'{name}.md"'})


def find_tree(serving: Serving, number: int, drawn: bool = False) -> Tree:
    """A stored conversation, with what its answers were drawn with where ``drawn``. Raises NotStored where there is none."""
    return serving.store.tree(number, drawn=drawn)


def _checked_settings(value: dict[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        return ChatSettings.model_validate(value).given()
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(f"settings.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _listed(chat: Chat) -> dict[str, Any]:
    return {name: value for name, value in asdict(chat).items() if name != "annotator"}


def _told(one: StoredMessage, thumbs: dict[int, bool]) -> dict[str, Any]:
    return {
        "id": one.id,
        "parent": one.parent,
        "role": one.message.role,
        "content": one.message.content,
        "version": None if one.answer is None else one.answer.version,
        "finish": None if one.answer is None else one.answer.finish,
        "created": one.created,
        "good": thumbs.get(one.id),
    }
