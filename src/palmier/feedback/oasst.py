"""Open-Assistant's message trees as rankings (Köpf et al. 2023, arXiv 2304.07327).

A line is a tree: ``prompt`` is its first message, ``replies`` nest. Where people ranked the
assistant's replies to one message, each has a ``rank``, 0 = best. What was deleted, or refused
in review, is left out with everything below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from palmier.errors import Refusal
from palmier.records import MOST_RANKED, Answer, Conversation, Message, Ranking, Role

ANNOTATOR = "open-assistant"

ROLES: Mapping[str, Role] = {"prompter": "user", "assistant": "assistant"}


def is_tree(value: Mapping[str, Any]) -> bool:
    """Whether a line is a message tree, and not one of the forms that call a text ``prompt`` too."""
    return isinstance(value.get("prompt"), dict) and "text" in value["prompt"]


def rankings_of(tree: Mapping[str, Any]) -> Iterator[Ranking]:
    """A ranking for every message of a person whose replies have at least two different ranks."""
    start: tuple[Message, ...] = ()
    waiting = [(tree["prompt"], start)] if _kept(tree["prompt"]) else []
    while waiting:
        node, before = waiting.pop()
        said = (*before, _message(node))
        replies = [reply for reply in _replies(node) if _kept(reply)]
        ranked = [reply for reply in replies if reply.get("rank") is not None]
        # Of more replies than a ranking orders the best ones count.
        if said[-1].role == "user" and len({_rank(reply) for reply in ranked}) > 1:
            best = sorted(ranked, key=_rank)[:MOST_RANKED]
            lowest = _rank(best[0])
            answers = tuple(Answer(_message(reply).content, str(reply.get("model_name") or "")) for reply in best)
            ranks = tuple(_rank(reply) - lowest + 1 for reply in best)
            yield Ranking(Conversation(said), answers, ranks, annotator=ANNOTATOR)
        waiting += [(reply, said) for reply in reversed(replies)]


def _message(node: Any) -> Message:
    if not isinstance(node, dict) or not isinstance(node.get("text"), str):
        raise Refusal("a message of a tree is an object with a text")
    if node.get("role") not in ROLES:
        raise Refusal(f"the role {node.get('role')!r} is unknown in a tree: prompter or assistant")
    return Message(ROLES[node["role"]], node["text"])


def _replies(node: Mapping[str, Any]) -> list[Any]:
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise Refusal("replies are a list of messages")
    return replies


def _kept(node: Mapping[str, Any]) -> bool:
    return not node.get("deleted") and node.get("review_result") is not False


def _rank(node: Mapping[str, Any]) -> int:
    rank = node["rank"]
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
        raise Refusal(f"a rank is a whole number from 0, not {rank!r}")
    return rank
