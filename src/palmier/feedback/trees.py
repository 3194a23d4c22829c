"""A conversation as a tree: every message follows one, and what follows the same one are alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any

from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Message


class NotStored(Refusal):
    """A conversation, or a message of one, that is not in the store."""


@dataclass(frozen=True)
class StoredMessage:
    """One message of a stored conversation, with the answer it was, where the assistant speaks.

    ``parent`` is the message that it follows; None for the first of all, or an alternative to it.
    """

    message: Message
    answer: Answer | None
    id: int = 0
    parent: int | None = None
    created: str = ""


@dataclass(frozen=True)
class Tree:
    """One conversation: its messages in the order in which they were added, and the latest note of each name.

    ``chosen`` are the branches that were gone to, oldest first: notes of the name "leaf".
    """

    id: int
    annotator: str
    created: str
    messages: tuple[StoredMessage, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    chosen: tuple[Mapping[str, int], ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The conversation's own system prompt and sampling settings."""
        return dict(self.notes.get("settings") or {})

    @cached_property
    def _known(self) -> dict[int, StoredMessage]:
        return {one.id: one for one in self.messages}

    @cached_property
    def _children(self) -> dict[int | None, list[StoredMessage]]:
        found: dict[int | None, list[StoredMessage]] = {}
        for one in self.messages:
            found.setdefault(one.parent, []).append(one)
        return found

    def children(self, parent: int | None) -> list[StoredMessage]:
        """What follows a message (None: the roots), oldest first."""
        return self._children.get(parent, [])

    def find(self, number: int) -> StoredMessage:
        """Raises NotStored where the conversation holds no such message."""
        if number not in self._known:
            raise NotStored(f"conversation {self.id} holds no message {number}")
        return self._known[number]

    @property
    def leaf(self) -> int | None:
        """Where the conversation stands: at the message that was added last, or at the branch that was chosen since."""
        chosen = self.notes.get("leaf")
        if chosen and chosen["after"] >= len(self.messages):
            return int(chosen["message"])
        return self.messages[-1].id if self.messages else None

    def path(self, to: int | None = None) -> list[StoredMessage]:
        """From the first message to ``to``; where it is None, to where the conversation stands."""
        number = self.leaf if to is None else to
        found = []
        while number is not None:
            found.append(self.find(number))
            number = found[-1].parent
        return found[::-1]

    def end_of(self, number: int) -> int:
        """The end of the branch through a message in which the conversation stood last.

        It stands at every message that is added and at every branch that is gone to.
        """
        below = {self.find(number).id}
        for one in self.messages:
            if one.parent in below:
                below.add(one.id)
        added = [(count, one.id) for count, one in enumerate(self.messages, 1)]
        gone_to = [(note["after"], note["message"]) for note in self.chosen]
        stood = sorted(added + gone_to, key=itemgetter(0))  # stable: a message was there before its branch was gone to
        end = next(message for _, message in reversed(stood) if message in below)
        while self.children(end):  # a file may say that it stands in the middle
            end = self.children(end)[-1].id
        return end

    def question(self) -> StoredMessage | None:
        """The last message of the person on the path; None where there is none."""
        asked = [one for one in self.path() if one.message.role != "assistant"]
        return asked[-1] if asked and asked[-1].message.role == "user" else None

    def thread(self, to: int, version: str | None = None) -> Conversation:
        """What an answer to message ``to`` continues, the conversation's own system prompt before it.

        Where ``version`` is given, each earlier answer is the last one that this version gave at
        that place, if it gave any: so versions side by side go on from their own words.
        """
        said: list[Message] = []
        for one in self.path(to):
            own = [
                other.message
                for other in (self.children(one.parent) if one.message.role == "assistant" and version else [])
                if other.answer is not None and other.answer.version == version
            ]
            said.append(own[-1] if own else one.message)
        return self.under_system(Conversation(tuple(said)))

    def under_system(self, conversation: Conversation) -> Conversation:
        """A conversation below this one's own system prompt, which takes the place of an earlier one."""
        system = str(self.settings.get("system") or "")
        if not system:
            return conversation
        rest = conversation.messages
        if rest and rest[0].role == "system":
            rest = rest[1:]
        return Conversation((Message("system", system), *rest))


def check_parent(role: str, parent: StoredMessage | None) -> None:
    """Raise Refusal where the assistant would follow itself: alternatives follow the same message."""
    if role == "assistant" and parent is not None and parent.message.role == "assistant":
        raise Refusal("an assistant's message answers a person's, not another answer: name the message before it")
