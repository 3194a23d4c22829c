"""Stored conversations: trees of messages, what is noted of them, search, and removal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select

from palmier.errors import Refusal
from palmier.feedback import rows, schema
from palmier.feedback.database import PATIENCE, Database
from palmier.feedback.trees import NotStored, StoredMessage, Tree, check_parent
from palmier.records import Answer, Conversation, Message

NOTES = ("title", "folder", "pinned", "settings", "leaf")
"""What can be noted of a conversation. The notes are a log: the latest of a name counts."""

ROOT = 0
"""As the parent of a new message: none; it begins the conversation, or is an alternative to its beginning."""


@dataclass(frozen=True)
class Chat:
    """A stored conversation's line in a list: ``title`` is what it was called, or the beginning of its first question."""

    id: int
    annotator: str
    created: str
    title: str
    folder: str = ""
    pinned: bool = False


class Chats(Database):
    """The store's conversations. Every call is one transaction."""

    def new_conversation(self, annotator: str = "") -> int:
        """Begin a conversation; the number returned names it from now on, and no other one ever."""
        with self._transaction() as connection:
            return rows.add(connection, schema.conversations, annotator=annotator, created=rows.now())

    def add_message(
        self, conversation_id: int, message: Message, answer: Answer | None = None, under: int | None = None
    ) -> int:
        """Add a message that follows ``under`` and return its number; it is on the disk when this returns.

        ``answer`` is what a version drew where the assistant speaks. Without ``under`` it follows
        where the conversation stands: a person's message the last one, an answer the last question.
        """
        with self._transaction() as connection:
            tree = read_tree(connection, conversation_id)
            return write_message(connection, tree, message, answer, under)

    def tree(self, conversation_id: int, *, drawn: bool = True) -> Tree:
        """A conversation with all of its branches. Raises NotStored where there is none.

        Without ``drawn`` its answers are text, version and finish alone: what they were drawn with is
        many times their text.
        """
        with self._reading() as connection:
            return read_tree(connection, conversation_id, drawn=drawn)

    def messages(self, conversation_id: int) -> list[StoredMessage]:
        """Every message of every branch, oldest first; empty for a conversation that has just begun."""
        return list(self.tree(conversation_id).messages)

    def conversation(self, conversation_id: int) -> Conversation:
        """The messages of the branch where it stands, as a conversation that a template renders."""
        return Conversation(tuple(stored.message for stored in self.tree(conversation_id).path()))

    def conversations(
        self, annotator: str = "", search: str = "", folder: str | None = None, pinned: bool | None = None
    ) -> list[Chat]:
        """A person's conversations that hold a message: the pinned ones first, then newest first.

        ``search`` keeps those whose title or messages hold this text, whatever its case; ``folder``
        and ``pinned`` keep those that are in it, or are pinned or not.
        """
        with self._reading() as connection:
            found = _chats(connection, annotator)
            matching = _holding(connection, annotator, search) if search else set()
        wanted = search.casefold()
        kept = [
            chat
            for chat in found
            if (not search or chat.id in matching or wanted in chat.title.casefold())
            and (folder is None or chat.folder == folder)
            and (pinned is None or chat.pinned == pinned)
        ]
        return sorted(kept, key=lambda chat: (not chat.pinned, -chat.id))

    def note(self, conversation_id: int, **notes: Any) -> None:
        """Note a title, a folder ("" for none), whether it is pinned, or its settings."""
        unknown = sorted(set(notes) - set(NOTES))
        if unknown:
            raise Refusal(f"{unknown[0]!r} is nothing that is noted of a conversation: {', '.join(NOTES)}")
        with self._transaction() as connection:
            require_conversation(connection, conversation_id)
            for name, value in notes.items():
                write_note(connection, conversation_id, name, value)

    def choose(self, conversation_id: int, message_id: int) -> int:
        """Go on in the branch of a message, where it stood last; returns its end, where the conversation now stands."""
        with self._transaction() as connection:
            tree = read_tree(connection, conversation_id)
            end = tree.end_of(message_id)
            write_note(connection, conversation_id, "leaf", {"message": end, "after": len(tree.messages)})
            return end

    def remove(self, conversation_id: int) -> None:
        """Remove a conversation: its messages and notes, and answers that nobody ranked, labelled or bettered.

        Rankings, labels and demonstrations stand: they have a copy of what they need. What stays of
        the conversation is its number, which is never given again.
        """
        messages, answers = schema.messages, schema.answers
        with self._transaction() as connection:
            require_conversation(connection, conversation_id)
            rows.add(connection, schema.removals, conversation_id=conversation_id, created=rows.now())
            own = select(messages.c.answer_id).where(
                messages.c.conversation_id == conversation_id, messages.c.answer_id.is_not(None)
            )
            ids = list(connection.scalars(own))
            connection.execute(delete(messages).where(messages.c.conversation_id == conversation_id))
            connection.execute(delete(schema.notes).where(schema.notes.c.conversation_id == conversation_id))
            users = (messages, schema.ranked_answers, schema.labels, schema.demonstrations)
            free = [~select(user.c.answer_id).where(user.c.answer_id == answers.c.id).exists() for user in users]
            for start in range(0, len(ids), 500):
                connection.execute(delete(answers).where(answers.c.id.in_(ids[start : start + 500]), *free))
        if self.path is not None:
            self._empty_log()

    def add_tree(
        self, annotator: str, messages: Iterable[StoredMessage], notes: dict[str, Any], created: str = ""
    ) -> int:
        """Store a whole tree (from a file) as a new conversation. Its numbers are its own: 1 … for the messages.

        A parent stands before what follows it; ``notes["leaf"]`` is a message's number there.
        """
        with self._transaction() as connection:
            number = rows.add(connection, schema.conversations, annotator=annotator, created=created or rows.now())
            given: dict[int, int] = {}
            known: dict[int, StoredMessage] = {}
            for place, one in enumerate(messages):
                parent = None if one.parent is None else known[one.parent]
                check_parent(one.message.role, parent)
                under = None if one.parent is None else given[one.parent]
                answer = _written(one.message, one.answer)
                given[one.id] = _insert(connection, number, place, one.message, answer, under, one.created)
                known[one.id] = one
            for name, value in notes.items():
                noted = {"message": given[value], "after": len(given)} if name == "leaf" else value
                write_note(connection, number, name, noted)
            return number

    def _empty_log(self) -> None:
        """What was removed leaves SQLite's log too, unless somebody reads just now: then the next time."""
        with self._engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            raw.execute("PRAGMA busy_timeout=100")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            raw.execute(f"PRAGMA busy_timeout={PATIENCE * 1000:.0f}")


def require_conversation(connection: Connection, conversation_id: int) -> Any:
    """The row of a conversation that is there. Raises NotStored where it never was, or was removed."""
    table, removals = schema.conversations, schema.removals
    removed = select(removals.c.conversation_id)
    row = connection.execute(
        select(table).where(table.c.id == conversation_id, table.c.id.not_in(removed))
    ).one_or_none()
    if row is None:
        raise NotStored(f"there is no conversation {conversation_id} in this store")
    return row


def read_tree(connection: Connection, conversation_id: int, *, drawn: bool = False) -> Tree:
    """A conversation with all of its branches, as `Chats.tree` gives it."""
    chat = require_conversation(connection, conversation_id)
    table, notes, answers = schema.messages, schema.notes, schema.answers
    columns: tuple[Any, ...] = (answers.c.id, answers.c.text, answers.c.version, answers.c.finish)
    own = select(*((answers,) if drawn else columns)).join(table, table.c.answer_id == answers.c.id)
    found = {
        row.id: rows.read_answer(row) if drawn else Answer(row.text, row.version, finish=row.finish)
        for row in connection.execute(own.where(table.c.conversation_id == conversation_id))
    }
    query = select(table).where(table.c.conversation_id == conversation_id).order_by(table.c.place)
    messages = tuple(
        StoredMessage(Message(row.role, row.content), found.get(row.answer_id), row.id, row.parent_id, row.created)
        for row in connection.execute(query)
    )
    log = select(notes.c.name, notes.c.value).where(notes.c.conversation_id == conversation_id).order_by(notes.c.id)
    noted = [(row.name, json.loads(row.value)) for row in connection.execute(log)]
    chosen = tuple(value for name, value in noted if name == "leaf")
    return Tree(conversation_id, chat.annotator, chat.created, messages, dict(noted), chosen)


def write_message(
    connection: Connection,
    tree: Tree,
    message: Message,
    answer: Answer | None,
    under: int | None,
    answer_id: int | None = None,
    more: int = 0,
) -> int:
    """Add one message to a tree that was read in the same transaction; ``more`` were added since.

    ``answer_id`` is the answer's number where it is stored already.
    """
    parent: StoredMessage | None = None
    if under is not None:
        parent = tree.find(under) if under != ROOT else None
    elif tree.messages:
        path = tree.path()
        if message.role == "assistant":
            path = path[: max((i for i, one in enumerate(path, 1) if one.message.role != "assistant"), default=0)]
        parent = path[-1] if path else None
    check_parent(message.role, parent)
    place = len(tree.messages) + more
    above = None if parent is None else parent.id
    return _insert(connection, tree.id, place, message, _written(message, answer), above, "", answer_id)


def write_note(connection: Connection, conversation_id: int, name: str, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    rows.add(connection, schema.notes, conversation_id=conversation_id, name=name, value=text, created=rows.now())


def _written(message: Message, answer: Answer | None) -> Answer | None:
    """The answer of an assistant's message; one that no version drew is its text alone."""
    return Answer(message.content) if answer is None and message.role == "assistant" else answer


def _insert(
    connection: Connection,
    conversation_id: int,
    place: int,
    message: Message,
    answer: Answer | None,
    parent: int | None,
    created: str,
    answer_id: int | None = None,
) -> int:
    if answer_id is None and answer is not None:
        answer_id = rows.add_answer(connection, answer)
    return rows.add(
        connection,
        schema.messages,
        conversation_id=conversation_id,
        place=place,
        role=message.role,
        content=message.content,
        answer_id=answer_id,
        created=created or rows.now(),
        parent_id=parent,
        folded=message.content.casefold(),
    )


def _chats(connection: Connection, annotator: str) -> list[Chat]:
    chats, messages, notes = schema.conversations, schema.messages, schema.notes
    first = (
        select(messages.c.conversation_id, func.min(messages.c.place).label("place"))
        .where(messages.c.role == "user")
        .group_by(messages.c.conversation_id)
        .subquery()
    )
    query = (
        select(chats.c.id, chats.c.annotator, chats.c.created, messages.c.content)
        .join(first, first.c.conversation_id == chats.c.id)
        .join(messages, (messages.c.conversation_id == chats.c.id) & (messages.c.place == first.c.place))
        .where(chats.c.annotator == annotator)
    )
    latest = (
        select(func.max(notes.c.id))
        .join(chats, chats.c.id == notes.c.conversation_id)
        .where(chats.c.annotator == annotator, notes.c.name.in_(("title", "folder", "pinned")))
        .group_by(notes.c.conversation_id, notes.c.name)
    )
    noted: dict[int, dict[str, Any]] = {}
    for row in connection.execute(select(notes).where(notes.c.id.in_(latest))):
        noted.setdefault(row.conversation_id, {})[row.name] = json.loads(row.value)
    return [
        Chat(
            row.id,
            row.annotator,
            row.created,
            noted.get(row.id, {}).get("title") or " ".join(row.content.split())[:80],
            noted.get(row.id, {}).get("folder", ""),
            noted.get(row.id, {}).get("pinned", False),
        )
        for row in connection.execute(query)
    ]


def _holding(connection: Connection, annotator: str, search: str) -> set[int]:
    """Conversations with a message that holds a text. It travels as a value, and its % and _ are plain characters."""
    chats, messages = schema.conversations, schema.messages
    query = (
        select(messages.c.conversation_id)
        .join(chats, chats.c.id == messages.c.conversation_id)
        .where(chats.c.annotator == annotator, messages.c.folded.contains(search.casefold(), autoescape=True))
        .distinct()
    )
    return set(connection.scalars(query))
