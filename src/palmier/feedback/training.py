"""What may train or leave the store: the one place where consent and withdrawal are applied, for every kind.

`improve`, every export and every count of what is usable read through this file. Preferences
come out of three kinds: a ranking as it is, a better answer above the one it was written for,
and one person's thumbs where they point both ways at answers to the same conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from palmier.feedback import rows, schema
from palmier.feedback.consent import Consents, willing
from palmier.feedback.given import KINDS, Given, Kind, stands, table_of
from palmier.records import MOST_RANKED, Demonstration, Label, Ranking

AT_ONCE = 200
"""Rows read together: what a pass over the whole store holds in memory."""


@dataclass(frozen=True)
class Preference:
    """A ranking that may train, and what it was made out of."""

    ranking: Ranking
    items: tuple[tuple[Kind, int], ...]


@dataclass(frozen=True)
class Reach:
    """What taking consent back reaches: how much of each kind is not used any more, and who has learnt from it already."""

    rankings: int
    labels: int
    demonstrations: int
    versions: tuple[str, ...]


class Training(Given, Consents):
    """Everything that trains or exports reads through these calls."""

    def preferences(self) -> Iterator[Preference]:
        """Every preference that may be used, one moment's state, a few in memory at a time.

        First the rankings, then better answers, then thumbs; each oldest first.
        """
        with self._reading() as connection:
            yield from _ranked(connection)
            for number, demonstration in _demonstrations(connection):
                preference = demonstration.preference()
                if preference is not None:
                    yield Preference(preference, (("demonstration", number),))
            yield from _by_thumbs(connection)

    def training_rankings(self) -> list[Ranking]:
        """The preferences as rankings: what a policy or a reward model learns from."""
        return [preference.ranking for preference in self.preferences()]

    def training_labels(self) -> Iterator[Label]:
        """The thumbs that may be used; of several on one answer by one person the last."""
        with self._reading() as connection:
            for _, label in _labels(connection):
                yield label

    def training_demonstrations(self) -> Iterator[Demonstration]:
        """The better answers that may be used."""
        with self._reading() as connection:
            for _, demonstration in _demonstrations(connection):
                yield demonstration

    def usable(self, kind: Kind, annotator: str | None = None) -> int:
        """How much of a kind may be used: one person's, or everybody's."""
        with self._reading() as connection:
            return _count(connection, kind, annotator)

    def reach(self, annotator: str) -> Reach:
        """What a person's withdrawal of consent would reach at this moment."""
        uses = schema.uses
        with self._reading() as connection:
            counts = {kind: _count(connection, kind, annotator) for kind in KINDS}
            versions: set[str] = set()
            for kind in KINDS:
                table = table_of(kind)
                own = select(table.c.id).where(table.c.annotator == annotator)
                versions |= set(
                    connection.scalars(select(uses.c.version).where(uses.c.kind == kind, uses.c.item_id.in_(own)))
                )
        return Reach(counts["ranking"], counts["label"], counts["demonstration"], tuple(sorted(versions)))


def _count(connection: Connection, kind: Kind, annotator: str | None) -> int:
    query = select(func.count()).select_from(table_of(kind)).where(*_allowed(kind))
    if annotator is not None:
        query = query.where(table_of(kind).c.annotator == annotator)
    return connection.scalar(query) or 0


def _allowed(kind: Kind) -> list[Any]:
    """What holds of every row of a kind that may be used: nobody took it back, and its person agreed to it."""
    return [table_of(kind).c.annotator.in_(willing(kind)), *stands(kind)]


def _ranked(connection: Connection) -> Iterator[Preference]:
    table = schema.rankings
    for some in _batches(connection, table, _allowed("ranking")):
        for row, ranking in zip(some, rows.read_rankings(connection, some), strict=True):
            yield Preference(ranking, (("ranking", row.id),))


def _demonstrations(connection: Connection) -> Iterator[tuple[int, Demonstration]]:
    table = schema.demonstrations
    for some in _batches(connection, table, _allowed("demonstration")):
        answers = _answers_of(connection, some)
        for row in some:
            answer = None if row.answer_id is None else answers[row.answer_id]
            conversation = rows.read_conversation(row.conversation)
            yield row.id, Demonstration(conversation, row.text, answer, row.annotator, row.reason)


def _labels(connection: Connection) -> Iterator[tuple[int, Label]]:
    table = schema.labels
    for some in _batches(connection, table, _allowed("label")):
        answers = _answers_of(connection, some)
        for row in some:
            yield row.id, _label(row, answers)


def _by_thumbs(connection: Connection) -> Iterator[Preference]:
    """One person's thumbs on answers to the same conversation, where some point up and some down; of many the latest."""
    table = schema.labels
    for group in mixed_thumbs(connection):
        wanted = [table.c.annotator == group.annotator, table.c.conversation == group.conversation]
        query = select(table).where(*wanted, *_allowed("label")).order_by(table.c.id.desc()).limit(MOST_RANKED)
        some = connection.execute(query).all()[::-1]
        answers = _answers_of(connection, some)
        labels = [_label(row, answers) for row in some]
        if len({label.good for label in labels}) == 2:
            ranks = tuple(1 if label.good else 2 for label in labels)
            given = tuple(label.answer for label in labels)
            ranking = Ranking(labels[0].conversation, given, ranks, annotator=group.annotator)
            yield Preference(ranking, tuple(("label", row.id) for row in some))


def mixed_thumbs(connection: Connection, annotator: str | None = None) -> list[Any]:
    """Pairs of annotator and conversation whose thumbs, as far as they may be used, point both ways."""
    table = schema.labels
    query = (
        select(table.c.annotator, table.c.conversation)
        .where(*_allowed("label"))
        .group_by(table.c.annotator, table.c.conversation)
        .having(func.min(table.c.value) < 0, func.max(table.c.value) > 0)
        .order_by(func.min(table.c.id))
    )
    if annotator is not None:
        query = query.where(table.c.annotator == annotator)
    return list(connection.execute(query))


def _batches(connection: Connection, table: Any, conditions: list[Any]) -> Iterator[Any]:
    """Rows of a table that meet the conditions, oldest first, in lists of a bounded length."""
    last = 0
    while True:
        query = select(table).where(table.c.id > last, *conditions).order_by(table.c.id).limit(AT_ONCE)
        some = connection.execute(query).all()
        if not some:
            return
        yield some
        last = some[-1].id


def _answers_of(connection: Connection, some: Any) -> dict[int, Any]:
    ids = [row.answer_id for row in some if row.answer_id is not None]
    return rows.read_answers(connection, select(schema.answers).where(schema.answers.c.id.in_(ids)))


def _label(row: Any, answers: dict[int, Any]) -> Label:
    conversation = rows.read_conversation(row.conversation)
    return Label(conversation, answers[row.answer_id], row.value > 0, row.annotator, row.reason)
