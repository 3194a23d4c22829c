"""A conversation with its branches as a file: JSON, which comes back as it was, and Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from palmier.errors import Refusal
from palmier.feedback.trees import StoredMessage, Tree, check_parent
from palmier.records import Answer, Finish, Message

FORMAT = "palmier conversation"
NEWEST = 1

MOST_MESSAGES = 10_000
MOST_CHARACTERS = 200_000
"""Limits of a file that is taken in: messages in all, characters of one of them."""

FIELDS = {"format", "version", "title", "folder", "pinned", "settings", "created", "leaf", "messages"}
FINISHES: Mapping[str, Finish] = {finish: finish for finish in get_args(Finish)}
OF_MESSAGE = {"id", "parent", "role", "content", "model", "finish", "created"}


@dataclass(frozen=True)
class Taken:
    """What a file holds: messages numbered as there, a parent before what follows it, and notes."""

    messages: list[StoredMessage]
    notes: dict[str, Any]
    created: str = ""


def to_json(tree: Tree) -> dict[str, Any]:
    """The whole conversation. Its messages are numbered 1 … in the order in which they were added.

    What an answer was drawn with (tokens, log-probs, sampling) stays in the store.
    """
    number = {one.id: place for place, one in enumerate(tree.messages, start=1)}
    return {
        "format": FORMAT,
        "version": NEWEST,
        "title": tree.notes.get("title", ""),
        "folder": tree.notes.get("folder", ""),
        "pinned": tree.notes.get("pinned", False),
        "settings": tree.settings,
        "created": tree.created,
        "leaf": None if tree.leaf is None else number[tree.leaf],
        "messages": [
            {
                "id": number[one.id],
                "parent": None if one.parent is None else number[one.parent],
                "role": one.message.role,
                "content": one.message.content,
                "model": "" if one.answer is None else one.answer.version,
                "finish": None if one.answer is None else one.answer.finish,
                "created": one.created,
            }
            for one in tree.messages
        ],
    }


def dump(tree: Tree) -> str:
    """The file of `to_json`."""
    return json.dumps(to_json(tree), ensure_ascii=False, indent=1) + "\n"


def from_json(value: Any) -> Taken:
    """Read what `to_json` gives. Raises Refusal where it is anything else: wrong, circular, incomplete or too large."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise Refusal(f'this is no conversation: expected {{"format": "{FORMAT}", …}}, as an export writes it')
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refusal("the conversation holds half of a character (a lone surrogate): write it whole") from None
    if value.get("version") != NEWEST:
        raise Refusal(f"the conversation's version is {value.get('version')!r}, this Palmier reads {NEWEST}: update it")
    unknown = sorted(set(value) - FIELDS)
    if unknown:
        raise Refusal(f"unknown key {unknown[0]!r} in a conversation: known are {sorted(FIELDS)}")
    listed = value.get("messages")
    if not isinstance(listed, list) or not listed:
        raise Refusal("the conversation holds no messages")
    if len(listed) > MOST_MESSAGES:
        raise Refusal(f"the conversation has {len(listed)} messages, at most {MOST_MESSAGES} are taken")
    known: dict[int, StoredMessage] = {}
    for place, item in enumerate(listed, start=1):
        try:
            one = _message(item, known)
        except Refusal as refusal:
            raise Refusal(f"message {place}: {refusal}") from None
        known[one.id] = one
    return Taken(list(known.values()), _notes(value, known), _time(value.get("created")))


def _message(item: Any, known: Mapping[int, StoredMessage]) -> StoredMessage:
    if not isinstance(item, dict) or not {"id", "role", "content"} <= set(item) <= OF_MESSAGE:
        raise Refusal(f"expected an object with the keys {sorted(OF_MESSAGE)}")
    number, parent = item["id"], item.get("parent")
    if not isinstance(number, int) or isinstance(number, bool) or number in known:
        raise Refusal(f"its id {number!r} is no number of its own")
    if parent is not None and (not isinstance(parent, int) or parent not in known):
        raise Refusal(f"its parent {parent!r} does not stand before it: it is missing, or the messages go in a circle")
    message = Message(item["role"], item["content"])
    if len(message.content) > MOST_CHARACTERS:
        raise Refusal(f"it has {len(message.content)} characters, at most {MOST_CHARACTERS} are taken")
    check_parent(message.role, None if parent is None else known[parent])
    answer = None
    if message.role == "assistant":
        model, finish = item.get("model") or "", FINISHES.get(str(item.get("finish") or "stop"))
        if not isinstance(model, str) or len(model) > 200 or finish is None:
            raise Refusal("model is a text, and finish one of stop, length and cancelled")
        answer = Answer(message.content, model, finish=finish)
    return StoredMessage(message, answer, number, parent, _time(item.get("created")))


def _notes(value: Mapping[str, Any], known: Mapping[int, StoredMessage]) -> dict[str, Any]:
    notes: dict[str, Any] = {}
    for name, kind in (("title", str), ("folder", str), ("pinned", bool), ("settings", dict)):
        given = value.get(name)
        if given is not None and (not isinstance(given, kind) or (isinstance(given, str) and len(given) > 200)):
            raise Refusal(f"{name} is a {kind.__name__} of at most 200 characters, not {str(given)[:40]!r}")
        if given:
            notes[name] = given
    leaf = value.get("leaf")
    if leaf is not None:
        if not isinstance(leaf, int) or leaf not in known:
            raise Refusal(f"leaf {leaf!r} is none of the conversation's messages")
        notes["leaf"] = leaf
    return notes


def _time(value: Any) -> str:
    if not value:
        return ""
    try:
        return datetime.fromisoformat(value).isoformat(timespec="milliseconds")
    except (TypeError, ValueError):
        raise Refusal(f"created {str(value)[:40]!r} is no time, such as 2026-01-31T12:00:00+00:00") from None


def to_markdown(tree: Tree, title: str) -> str:
    """For people to read: one branch after the other, alternatives counted as ‹2/3›."""
    lines = [f"# {' '.join(title.split())}", ""]
    for name, value in tree.settings.items():
        lines += [f"*{name}: {value}*", ""]
    number = {one.id: place for place, one in enumerate(tree.messages, start=1)}
    waiting = tree.children(None)[::-1]
    before: int | None = None
    while waiting:
        one = waiting.pop()
        same = tree.children(one.parent)
        lines += [_heading(one, number, same, before), "", one.message.content, ""]
        before = one.id
        waiting += tree.children(one.id)[::-1]
    return "\n".join(lines)


def _heading(one: StoredMessage, number: Mapping[int, int], same: list[StoredMessage], before: int | None) -> str:
    who = {"user": "You", "system": "System", "assistant": "Assistant"}[one.message.role]
    if one.answer is not None and one.answer.version:
        who += f" ({one.answer.version})"
    said = f"## {number[one.id]} · {who}"
    if len(same) > 1:
        said += f" ‹{same.index(one) + 1}/{len(same)}›"
    if one.parent != before and one.parent is not None:
        said += f" · after {number[one.parent]}"
    return said
