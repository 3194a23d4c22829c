"""What of a conversation the model reads: all of it, or, where the context is full, its end; and an answer begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palmier.data.template import Template
from palmier.records import Answer, Conversation, Message, Sampling

ROOM_SHARE = 4
"""A full context keeps this part of itself, at most, free for the answer: one in four."""


@dataclass(frozen=True)
class Opening:
    """How a request's prompt is made.

    ``fit``: leave the oldest turns out where the context does not hold them all, rather than
    refuse. ``begun``: the answer goes on from this one, which was cut.
    """

    fit: bool = False
    begun: Answer | None = None


@dataclass(frozen=True)
class Prompt:
    """The ids that are read, the conversation that they are, and how many earlier turns were left out."""

    ids: tuple[int, ...]
    conversation: Conversation
    left_out: int


def prompt(
    template: Template, context: int, conversation: Conversation, sampling: Sampling, opening: Opening
) -> Prompt:
    """Raises Refusal where the last message is not the person's; what is too long all the same, the engine refuses."""
    begun = [] if opening.begun is None else template.answer_ids(opening.begun)
    left_out = 0
    if opening.fit:
        room = len(begun) + min(sampling.max_tokens, context // ROOM_SHARE)
        conversation, left_out = fit(template, conversation, context - room)
    return Prompt((*template.prompt(conversation), *begun), conversation, left_out)


def fit(template: Template, conversation: Conversation, most: int) -> tuple[Conversation, int]:
    """The conversation without as many of its oldest turns as must go for a prompt of at most ``most`` tokens.

    Returns it and their number. A turn is a person's message and what follows it. The system
    prompt and the last turn always stay, so what is returned may still be too long.
    """
    head, turns = _turns(conversation.messages)
    if len(turns) < 2:
        return conversation, 0
    size = len(template.prompt(Conversation((*head, *turns[-1]))))
    first = len(turns) - 1
    # From the end: what lies further back than the context reaches is never encoded.
    while first > 0:
        size += sum(map(template.size, turns[first - 1]))
        if size > most:
            break
        first -= 1
    kept = [message for turn in turns[first:] for message in turn]
    return Conversation((*head, *kept)), first


def _turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    head = list(messages[: next((i for i, one in enumerate(messages) if one.role != "system"), len(messages))])
    turns: list[list[Message]] = []
    for message in messages[len(head) :]:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return head, turns
