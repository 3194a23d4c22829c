"""What people gave: rankings, thumbs and better answers. Raw, immutable, withdrawn by a row of its own."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, func, select

from palmier.errors import Refusal
from palmier.feedback import rows, schema
from palmier.feedback.chats import read_tree, write_message
from palmier.feedback.database import Database
from palmier.feedback.trees import StoredMessage, Tree
from palmier.records import Answer, Conversation, Demonstration, Label, Message, Ranking

Kind = Literal["ranking", "label", "demonstration"]

KINDS: tuple[Kind, ...] = ("ranking", "label", "demonstration")


@dataclass(frozen=True)
class Spot:
    """Where in a stored conversation answers were compared: they become alternatives after ``message``.

    ``best`` is the index of the answer that the conversation goes on from.
    """

    conversation: int
    message: int
    best: int = 0


class Given(Database):
    """The store's feedback, as it was given. What may be used of it is `Training`'s to say."""

    # ── rankings ─────────────────────────────────────────────────────────────────────────

    def add_ranking(self, ranking: Ranking, key: str, spot: Spot | None = None) -> int:
        """Store a confirmed ranking and return its number; it is on the disk when this returns.

        ``key`` is made by whoever confirms: the same key again (a request repeated after a
        lost answer) returns the first number and stores nothing. Raises Refusal where the key
        is empty or belongs to another ranking. With a ``spot`` the answers join a conversation.
        """
        if not key:
            raise Refusal("a ranking needs a key that is not empty, so that sending it twice counts once")
        table = schema.rankings
        with self._transaction() as connection:
            known = connection.execute(select(table).where(table.c.key == key)).one_or_none()
            if known is not None:
                if _order(rows.read_rankings(connection, [known])[0]) != _order(ranking):
                    raise Refusal(f"{key!r} was ranked already, in another order: undo that ranking first")
                return int(known.id)
            number, answers = _insert_ranking(connection, ranking, key)
            if spot is not None:
                _join(connection, spot, ranking.answers, answers)
            return number

    def undo(self, annotator: str = "") -> int:
        """Withdraw a person's last ranking that stands and return its number; 0 where there is none left."""
        table = schema.rankings
        with self._transaction() as connection:
            last = connection.scalar(
                select(func.max(table.c.id)).where(table.c.annotator == annotator, table.c.id.not_in(withdrawn()))
            )
            if last is None:
                return 0
            rows.add(connection, schema.withdrawals, ranking_id=last, created=rows.now())
            return int(last)

    # ── thumbs ───────────────────────────────────────────────────────────────────────────

    def set_label(
        self,
        annotator: str,
        conversation_id: int,
        message_id: int,
        good: bool | None,
        reason: str = "",
        read: Conversation | None = None,
    ) -> int:
        """Put a thumb on a stored answer, change it, or take it back (None); the log keeps all of them.

        ``read`` is what the model read of the conversation, where its context did not hold all of it.
        Returns the number of the label that counts now; the same thumb again adds nothing.
        """
        value = 0 if good is None else 1 if good else -1
        table = schema.labels
        with self._transaction() as connection:
            tree, one, answer_id = _answer_in(connection, conversation_id, message_id)
            own = select(table).where(table.c.annotator == annotator, table.c.answer_id == answer_id)
            last = connection.execute(own.order_by(table.c.id.desc()).limit(1)).one_or_none()
            if last is not None and (last.value, last.reason) == (value, reason):
                return int(last.id)
            return rows.add(
                connection,
                table,
                key=uuid.uuid4().hex,
                conversation=rows.conversation_text(read or tree.thread(one.parent or 0)),
                answer_id=answer_id,
                value=value,
                reason=reason,
                annotator=annotator,
                created=rows.now(),
            )

    def labels_of(self, annotator: str, conversation_id: int) -> dict[int, bool]:
        """A person's thumbs in a conversation: the message's number, and whether it points up."""
        messages, table = schema.messages, schema.labels
        query = (
            select(messages.c.id, table.c.value)
            .join(table, table.c.answer_id == messages.c.answer_id)
            .where(messages.c.conversation_id == conversation_id, table.c.id.in_(latest_labels()))
            .where(table.c.annotator == annotator, table.c.value != 0)
        )
        with self._reading() as connection:
            return {row.id: row.value > 0 for row in connection.execute(query)}

    # ── better answers ───────────────────────────────────────────────────────────────────

    def write_better(
        self,
        annotator: str,
        conversation_id: int,
        message_id: int,
        text: str,
        reason: str = "",
        read: Conversation | None = None,
    ) -> tuple[int, int]:
        """Keep what a person wrote instead of a stored answer; it becomes an alternative to it, and the branch goes on there.

        ``read`` is as in `set_label`. Returns the numbers of the demonstration and of the new message.
        The same text for the same answer, sent again, counts once.
        """
        with self._transaction() as connection:
            tree, one, answer_id = _answer_in(connection, conversation_id, message_id)
            better = Demonstration(read or tree.thread(one.parent or 0), text, one.answer, annotator, reason)
            key = hashlib.sha256(json.dumps([annotator, answer_id, text]).encode()).hexdigest()
            table = schema.demonstrations
            known = connection.scalar(select(table.c.id).where(table.c.key == key))
            if known is not None:
                same = [m for m in tree.children(one.parent) if m.message.content == text and m.id != one.id]
                return int(known), same[-1].id if same else message_id
            number = _insert_demonstration(connection, better, key, answer_id)
            written = Message("assistant", text)
            return number, write_message(connection, tree, written, Answer(text), one.parent or 0)

    # ── taken from files ─────────────────────────────────────────────────────────────────

    def add_all(self, given: Sequence[tuple[str, Ranking | Label | Demonstration]]) -> int:
        """Store what a file holds, all of it or nothing; each with its key, and known keys are passed over.

        Returns how many were new.
        """
        fresh = 0
        with self._transaction() as connection:
            for key, one in given:
                table = table_of(_kind(one))
                if connection.scalar(select(table.c.id).where(table.c.key == key)) is not None:
                    continue
                fresh += 1
                if isinstance(one, Ranking):
                    _insert_ranking(connection, one, key)
                elif isinstance(one, Label):
                    _insert_label(connection, one, key)
                else:
                    _insert_demonstration(connection, one, key)
        return fresh

    # ── withdrawn and counted ────────────────────────────────────────────────────────────

    def withdraw(self, annotator: str, kind: Kind, number: int) -> None:
        """Take back one thing that a person gave. Raises Refusal where it is not theirs, or is taken back already."""
        table = table_of(kind)
        with self._transaction() as connection:
            row = connection.execute(select(table).where(table.c.id == number)).one_or_none()
            if row is None or row.annotator != annotator:
                raise Refusal(f"there is no {kind} {number} of {annotator or 'this person'}")
            standing = select(table.c.id).where(table.c.id == number, *stands(kind))
            if connection.scalar(standing) is None:
                raise Refusal(f"{kind} {number} was taken back already")
            if kind == "ranking":
                rows.add(connection, schema.withdrawals, ranking_id=number, created=rows.now())
            elif kind == "demonstration":
                rows.add(connection, schema.withdrawn_demonstrations, demonstration_id=number, created=rows.now())
            else:
                again = {"conversation": row.conversation, "answer_id": row.answer_id, "annotator": annotator}
                key = uuid.uuid4().hex
                rows.add(connection, table, key=key, value=0, reason="", created=rows.now(), **again)

    def count(self, annotator: str | None = None, kind: Kind = "ranking") -> int:
        """How much of a kind stands, whether it may be used or not: one person's, or everybody's."""
        table = table_of(kind)
        query = select(func.count()).select_from(table).where(*stands(kind))
        if annotator is not None:
            query = query.where(table.c.annotator == annotator)
        with self._reading() as connection:
            return connection.scalar(query) or 0

    def annotators(self) -> list[str]:
        """Everybody who gave something or answered the question of consent, by name."""
        tables = (schema.rankings, schema.labels, schema.demonstrations, schema.consent)
        first, *others = [select(table.c.annotator) for table in tables]
        with self._reading() as connection:
            return sorted(connection.scalars(first.union(*others)))

    # ── what became of it ────────────────────────────────────────────────────────────────

    def note_uses(self, version: str, items: Sequence[tuple[Kind, int]]) -> None:
        """Note that a version was made out of these; noting it twice changes nothing."""
        table = schema.uses
        with self._transaction() as connection:
            query = select(table.c.kind, table.c.item_id).where(table.c.version == version)
            known = {(row.kind, row.item_id) for row in connection.execute(query)}
            for kind, number in dict.fromkeys(items):
                if (kind, number) not in known:
                    rows.add(connection, table, kind=kind, item_id=number, version=version, created=rows.now())


def stands(kind: Kind) -> list[Any]:
    """What holds of a row of a kind that was not taken back. Of a person's thumbs on an answer the last one stands."""
    if kind == "ranking":
        return [schema.rankings.c.id.not_in(withdrawn())]
    if kind == "demonstration":
        return [schema.demonstrations.c.id.not_in(select(schema.withdrawn_demonstrations.c.demonstration_id))]
    return [schema.labels.c.value != 0, schema.labels.c.id.in_(latest_labels())]


def withdrawn() -> Select[tuple[int]]:
    return select(schema.withdrawals.c.ranking_id)


def latest_labels() -> Select[tuple[int]]:
    table = schema.labels
    return select(func.max(table.c.id)).group_by(table.c.annotator, table.c.answer_id)


def _kind(one: Ranking | Label | Demonstration) -> Kind:
    return "ranking" if isinstance(one, Ranking) else "label" if isinstance(one, Label) else "demonstration"


def table_of(kind: Kind) -> Any:
    """Where the rows of a kind lie."""
    return {"ranking": schema.rankings, "label": schema.labels, "demonstration": schema.demonstrations}[kind]


def _answer_in(connection: Connection, conversation_id: int, message_id: int) -> tuple[Tree, StoredMessage, int]:
    """A conversation, one of its answers, and the answer's number. Raises Refusal where it is no answer."""
    tree = read_tree(connection, conversation_id)
    one = tree.find(message_id)
    if one.message.role != "assistant" or one.parent is None or tree.find(one.parent).message.role != "user":
        raise Refusal(f"message {message_id} is no answer: feedback is given to what the assistant said")
    table = schema.messages
    answer_id = connection.scalar(select(table.c.answer_id).where(table.c.id == message_id))
    return tree, one, int(answer_id or 0)


def _join(connection: Connection, spot: Spot, answers: Sequence[Answer], numbers: Sequence[int]) -> None:
    """Put compared answers into their conversation as alternatives, the best one last: there it goes on."""
    tree = read_tree(connection, spot.conversation)
    order = [index for index in range(len(answers)) if index != spot.best] + [spot.best]
    for more, index in enumerate(order):
        message, number = Message("assistant", answers[index].text), numbers[index]
        write_message(connection, tree, message, answers[index], spot.message, number, more)


def _insert_ranking(connection: Connection, ranking: Ranking, key: str) -> tuple[int, list[int]]:
    number = rows.add(
        connection,
        schema.rankings,
        key=key,
        conversation=rows.conversation_text(ranking.conversation),
        ranks=json.dumps(ranking.ranks),
        all_bad=ranking.all_bad,
        shown=json.dumps(ranking.shown),
        annotator=ranking.annotator,
        milliseconds=ranking.milliseconds,
        created=rows.now(),
        strength=ranking.strength,
        reason=ranking.reason,
    )
    answers = [rows.add_answer(connection, answer) for answer in ranking.answers]
    for place, answer_id in enumerate(answers):
        rows.add(connection, schema.ranked_answers, ranking_id=number, place=place, answer_id=answer_id)
    return number, answers


def _insert_label(connection: Connection, label: Label, key: str) -> int:
    return rows.add(
        connection,
        schema.labels,
        key=key,
        conversation=rows.conversation_text(label.conversation),
        answer_id=rows.add_answer(connection, label.answer),
        value=1 if label.good else -1,
        reason=label.reason,
        annotator=label.annotator,
        created=rows.now(),
    )


def _insert_demonstration(connection: Connection, better: Demonstration, key: str, answer_id: int | None = None) -> int:
    if answer_id is None and better.answer is not None:
        answer_id = rows.add_answer(connection, better.answer)
    return rows.add(
        connection,
        schema.demonstrations,
        key=key,
        conversation=rows.conversation_text(better.conversation),
        text=better.text,
        answer_id=answer_id,
        reason=better.reason,
        annotator=better.annotator,
        created=rows.now(),
    )


def _order(ranking: Ranking) -> tuple[Sequence[Any], ...]:
    """What makes two rankings the same confirmation: all but the time it took and what was said beside it."""
    texts = [answer.text for answer in ranking.answers]
    return ranking.conversation.messages, texts, ranking.ranks, [ranking.all_bad], [ranking.annotator]
