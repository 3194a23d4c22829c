"""Feedback as files in the field's forms: a line at a time in both directions.

preference   {"prompt": [messages], "chosen": [answer], "rejected": [answer]}: what DPO trainers read
unpaired     {"prompt": [messages], "completion": [answer], "label": true or false}: what KTO trainers read
messages     {"messages": [… , the answer]}: what fine-tuning reads
rankings     our own, which loses nothing; what `improve` reads, so better answers and thumbs stand in it as rankings

Prompts and answers may be texts instead of lists of messages.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from palmier.data.jsonl import read_lines
from palmier.errors import Refusal
from palmier.feedback.oasst import is_tree, rankings_of
from palmier.feedback.rankings import comparisons
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Demonstration, Label, Message, Ranking
from palmier.workspace import sha256

Format = Literal["rankings", "preference", "unpaired", "messages"]

Item = Ranking | Label | Demonstration

AT_ONCE = 200
"""Lines stored in one transaction: few enough to hold, many enough that the disk is not waited for at each."""

EXPECTED = {
    "rankings": 'rankings ({"conversation", "answers", "ranks", …})',
    "preference": '{"prompt", "chosen", "rejected"}',
    "unpaired": '{"prompt", "completion", "label"}',
    "messages": '{"messages": […]}',
    "open-assistant": 'trees ({"prompt": {"text", "role", "replies": […]}})',
}


def lines(store: Store, form: Format) -> Iterator[dict[str, Any]]:
    """Everything that may be used, in a form; read as it is written, however much it is."""
    if form == "rankings":
        return (one.ranking.to_json() for one in store.preferences())
    if form == "preference":
        pairs = (pair for one in store.preferences() for pair in comparisons(one.ranking))
        return (
            {
                "prompt": pair.conversation.to_json(),
                "chosen": _spoken(pair.chosen.text),
                "rejected": _spoken(pair.rejected.text),
            }
            for pair in pairs
            if pair.chosen.text != pair.rejected.text
        )
    if form == "unpaired":
        return (
            {
                "prompt": label.conversation.to_json(),
                "completion": _spoken(label.answer.text),
                "label": label.good,
            }
            for label in store.training_labels()
        )
    return ({"messages": one.conversation.reply(one.text).to_json()} for one in store.training_demonstrations())


@dataclass(frozen=True)
class Taken:
    """What a file brought: things in all, those that were new, lines that held nothing to learn, and who gave them."""

    total: int
    fresh: int
    empty: int
    annotators: frozenset[str]


def take(store: Store, path: Path, annotator: str) -> Taken:
    """Store what a file holds: rankings, one of the field's forms, or Open-Assistant's trees; each line says which.

    The file is read twice, first to the end without storing anything: one that is wrong somewhere
    changes nothing. The same thing twice counts once, so an import that was killed is simply run
    again. ``annotator`` is who gave it where the file does not say.
    """
    total = empty = fresh = 0
    annotators: set[str] = set()
    for _, items in parsed(path, annotator):
        total += len(items)
        empty += not items
        annotators.update(item.annotator for item in items)
    if not total:
        raise Refusal(f"{path} holds nothing to take: expected lines of {', or '.join(EXPECTED.values())}")
    every = (item for _, items in parsed(path, annotator) for item in items)
    while some := list(itertools.islice(every, AT_ONCE)):
        fresh += store.add_all([(key_of(item), item) for item in some])
    return Taken(total, fresh, empty, frozenset(annotators))


def name_of(path: Path) -> str:
    """Whose feedback a file holds that doesn't say: a name of its own, so that no other file's consent covers it."""
    return f"{path.name[:60]} {sha256(path)[:8]}"


def parsed(path: Path, annotator: str) -> Iterator[tuple[str, list[Item]]]:
    """The things that each line holds. Raises Refusal naming file and line where one is wrong."""
    for where, value in read_lines(path):
        try:
            yield where, read(value, annotator)
        except Refusal as refusal:
            raise Refusal(f"{where}: {refusal}") from None
        except (
            TypeError,
            ValueError,
            AttributeError,
            KeyError,
        ) as error:  # a value of the wrong JSON type, deep inside
            raise Refusal(f"{where}: a value has the wrong form ({error})") from None


def read(value: dict[str, Any], annotator: str) -> list[Item]:
    """What one line holds, whichever form it has."""
    if "ranks" in value:
        ranking = Ranking.from_json(value)
        _asked(ranking.conversation.messages)
        return [ranking]
    if is_tree(value):
        return list(rankings_of(value))
    if "chosen" in value and "rejected" in value:
        return [_preference(value, annotator)]
    if "completion" in value and "label" in value:
        return [_label(value, annotator)]
    if "messages" in value:
        *before, last = Conversation.from_json(value["messages"]).messages
        if last.role != "assistant":
            raise Refusal("the last message is not the assistant's, so it shows no answer")
        return [Demonstration(_asked(before), last.content, annotator=annotator)]
    raise Refusal(f"expected {', or '.join(EXPECTED.values())}; this line has the keys {sorted(value)}")


def key_of(item: Item) -> str:
    """The same content has the same key, whichever file it stands in."""
    if isinstance(item, Ranking):
        content: Any = item.to_json()
        # As before these two were there: what was imported then is still known.
        content = {name: one for name, one in content.items() if name not in ("strength", "reason") or one}
    else:
        said = [item.conversation.to_json(), item.annotator, item.reason]
        own = [item.answer.text, item.good] if isinstance(item, Label) else [item.text]
        content = [type(item).__name__, *said, *own]
    return "imported " + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _preference(value: dict[str, Any], annotator: str) -> Ranking:
    chosen, rejected = value["chosen"], value["rejected"]
    if "prompt" in value:
        conversation = _conversation(value["prompt"])
        pair = (_answer(chosen, "chosen"), _answer(rejected, "rejected"))
    else:
        # Some data sets write both conversations out; what they share is the prompt.
        one, other = Conversation.from_json(chosen).messages, Conversation.from_json(rejected).messages
        if one[:-1] != other[:-1]:
            raise Refusal("chosen and rejected answer different conversations, and there is no prompt")
        conversation, pair = _asked(one[:-1]), (_answer(one[-1:], "chosen"), _answer(other[-1:], "rejected"))
    return Ranking(conversation, pair, (1, 2), annotator=annotator)


def _label(value: dict[str, Any], annotator: str) -> Label:
    if not isinstance(value["label"], bool):
        raise Refusal(f"label is true or false, not {value['label']!r}")
    answer = _answer(value["completion"], "completion")
    return Label(_conversation(value.get("prompt")), answer, value["label"], annotator)


def _conversation(prompt: Any) -> Conversation:
    if isinstance(prompt, str):
        return Conversation.ask(prompt)
    return _asked(Conversation.from_json(prompt).messages)


def _asked(messages: Iterable[Message]) -> Conversation:
    conversation = Conversation(tuple(messages))
    if not conversation.messages or conversation.messages[-1].role != "user":
        raise Refusal("the message before the answer is not the user's: an answer follows a user's message")
    return conversation


def _answer(value: Any, name: str) -> Answer:
    if isinstance(value, str):
        return Answer(value)
    messages = value if isinstance(value, tuple) else Conversation.from_json(value).messages
    if len(messages) != 1 or messages[0].role != "assistant":
        raise Refusal(f"{name} is a text or one assistant's message")
    return Answer(messages[0].content)


def _spoken(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
