"""What each thing that a person gave did: whether it will be used, and which versions were made with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, select

from palmier.feedback import rows, schema
from palmier.feedback.chats import require_conversation
from palmier.feedback.consent import COVERED_BY
from palmier.feedback.given import KINDS, Kind, stands, table_of
from palmier.feedback.training import Training, mixed_thumbs

State = Literal["used", "next", "waiting", "off", "withdrawn"]

SENTENCES: Mapping[State, str] = {
    "used": "used in version {versions}",
    "next": "used from the next improve on",
    "waiting": "kept: {why}",
    "off": "kept, not used: you have not agreed to its use",
    "withdrawn": "taken back: not used any more",
}

WAITING: Mapping[Kind, str] = {
    "ranking": "all answers tied, so there is no order to learn from",
    "label": "it is used once another answer to the same message gets the opposite thumb",
    "demonstration": "it stands above no other answer; it leaves by export",
}


@dataclass(frozen=True)
class Fate:
    """One thing that a person gave and what became of it; ``versions`` were made with it, also where it was taken back."""

    kind: Kind
    id: int
    created: str
    state: State
    versions: tuple[str, ...]
    about: str
    """The beginning of what was asked."""
    said: str = ""
    """The beginning of the answer that was picked, got the thumb or was written; empty where none was picked."""
    good: bool | None = None
    """Where a thumb points; of a comparison False where all were bad."""

    @property
    def sentence(self) -> str:
        said = SENTENCES[self.state].format(versions=", ".join(self.versions), why=WAITING[self.kind])
        if self.versions and self.state in ("off", "withdrawn"):
            said += f"; version {', '.join(self.versions)} was made with it"
        return said


@dataclass(frozen=True)
class Judged:
    """An answer of a conversation that somebody gave feedback to. ``rank``: 1 is the best, ``version`` whose it is."""

    message: int
    version: str
    rank: int


LONGEST = 80
"""Letters of a text that stand for it in a list."""


class Fates(Training):
    """The store's answer to "what did my feedback do?"."""

    def fates(self, annotator: str = "", kind: Kind | None = None, before: int = 0, limit: int = 50) -> list[Fate]:
        """What a person gave, newest first of each kind, with what it did; of a changed thumb the last alone.

        ``before`` pages on: of each kind only numbers below it (0: all).
        """
        consent = self.consented(annotator)
        with self._reading() as connection:
            found = []
            for one in KINDS if kind is None else (kind,):
                table = table_of(one)
                query = select(table).where(table.c.annotator == annotator).order_by(table.c.id.desc()).limit(limit)
                if before:
                    query = query.where(table.c.id < before)
                if one == "label":
                    query = query.where(*stands("label"))
                some = connection.execute(query).all()
                found += _told(connection, annotator, one, some, consent)
        return found

    def fates_in(self, annotator: str, conversation_id: int) -> list[tuple[Fate, tuple[Judged, ...]]]:
        """What a person gave to the answers of one conversation and did not take back, each with the answers it judged.

        Raises NotStored where there is no such conversation.
        """
        consent = self.consented(annotator)
        with self._reading() as connection:
            require_conversation(connection, conversation_id)
            found: list[tuple[Fate, tuple[Judged, ...]]] = []
            for kind in KINDS:
                some = _given_in(connection, annotator, kind, conversation_id)
                fates = _told(connection, annotator, kind, some, consent)
                judged = _judged(connection, kind, some, conversation_id)
                found += [(fate, tuple(judged[fate.id])) for fate in fates]
        return found


def _told(
    connection: Connection, annotator: str, kind: Kind, some: Sequence[Any], consent: tuple[bool | None, int]
) -> list[Fate]:
    """The fates of some rows of a kind that one person gave, whose consent is the answer to a wording."""
    covered = bool(consent[0]) and consent[1] >= COVERED_BY[kind]
    teaching = {row.conversation for row in mixed_thumbs(connection, annotator)} if kind == "label" else set()
    ids = [row.id for row in some]
    uses, table = schema.uses, table_of(kind)
    query = select(uses).where(uses.c.kind == kind, uses.c.item_id.in_(ids)).order_by(uses.c.id)
    used: dict[int, list[str]] = {}
    for row in connection.execute(query):
        used.setdefault(row.item_id, []).append(row.version)
    standing = set(connection.scalars(select(table.c.id).where(table.c.id.in_(ids), *stands(kind))))
    said = _said(connection, kind, some)

    def fate(row: Any) -> Fate:
        versions = tuple(used.get(row.id, ()))
        if row.id not in standing:
            state: State = "withdrawn"
        elif not covered:
            state = "off"
        elif versions:
            state = "used"
        else:
            state = "next" if _teaches(kind, row, teaching) else "waiting"
        about = _about(row.conversation)
        return Fate(
            kind, row.id, row.created, state, versions, about, _beginning(said.get(row.id, "")), _good(kind, row)
        )

    return [fate(row) for row in some]


def _teaches(kind: Kind, row: Any, teaching: set[str]) -> bool:
    if kind == "ranking":
        return _is_clear(row)
    if kind == "label":
        return row.conversation in teaching
    return row.answer_id is not None


def _is_clear(row: Any) -> bool:
    return len(set(json.loads(row.ranks))) > 1


def _good(kind: Kind, row: Any) -> bool | None:
    if kind == "label":
        return bool(row.value > 0)
    return False if kind == "ranking" and row.all_bad else None


def _said(connection: Connection, kind: Kind, some: Sequence[Any]) -> dict[int, str]:
    """The text that each row is about: of a ranking the best answer's, where there is a best one."""
    if kind == "demonstration":
        return {row.id: row.text for row in some}
    answers = schema.answers
    if kind == "label":
        query = select(answers.c.id, answers.c.text).where(answers.c.id.in_([row.answer_id for row in some]))
        texts = {row.id: row.text for row in connection.execute(query)}
        return {row.id: texts[row.answer_id] for row in some}
    places = schema.ranked_answers
    best = {row.id: json.loads(row.ranks).index(1) for row in some if _is_clear(row)}
    joined = (
        select(places.c.ranking_id, places.c.place, answers.c.text)
        .join(answers, answers.c.id == places.c.answer_id)
        .where(places.c.ranking_id.in_(best))
    )
    return {row.ranking_id: row.text for row in connection.execute(joined) if row.place == best[row.ranking_id]}


def _given_in(connection: Connection, annotator: str, kind: Kind, conversation_id: int) -> Sequence[Any]:
    """The standing rows of a kind that a person gave to a conversation's answers, oldest first."""
    table, messages, places = table_of(kind), schema.messages, schema.ranked_answers
    own = select(messages.c.answer_id).where(messages.c.conversation_id == conversation_id)
    if kind == "ranking":
        of = table.c.id.in_(select(places.c.ranking_id).where(places.c.answer_id.in_(own)))
    else:
        of = table.c.answer_id.in_(own)
    query = select(table).where(table.c.annotator == annotator, of, *stands(kind)).order_by(table.c.id)
    return connection.execute(query).all()


def _judged(connection: Connection, kind: Kind, some: Sequence[Any], conversation_id: int) -> dict[int, list[Judged]]:
    """The conversation's answers that each row judges; of a better answer itself first, then the one it was written for."""
    messages, answers, places = schema.messages, schema.answers, schema.ranked_answers
    joined = (
        select(messages.c.id, messages.c.parent_id, messages.c.answer_id, answers.c.version, answers.c.text)
        .join(answers, answers.c.id == messages.c.answer_id)
        .where(messages.c.conversation_id == conversation_id)
        .order_by(messages.c.id)
    )
    known = {row.answer_id: row for row in connection.execute(joined)}

    def judged(answer_id: int, rank: int) -> list[Judged]:
        one = known.get(answer_id)
        return [] if one is None else [Judged(one.id, one.version, rank)]

    found: dict[int, list[Judged]] = {row.id: [] for row in some}
    if kind == "ranking":
        ranks = {row.id: json.loads(row.ranks) for row in some}
        query = select(places).where(places.c.ranking_id.in_(ranks)).order_by(places.c.place)
        for place in connection.execute(query):
            found[place.ranking_id] += judged(place.answer_id, ranks[place.ranking_id][place.place])
        return found
    for row in some:
        if kind == "demonstration":
            old = known[row.answer_id]
            same = [one for one in known.values() if (one.parent_id, one.text) == (old.parent_id, row.text)]
            written = [one for one in same if one.id != old.id]
            found[row.id] += judged(written[-1].answer_id, 1) if written else []
        bad = kind == "demonstration" or row.value < 0
        found[row.id] += judged(row.answer_id, 2 if bad else 1)
    return found


def _about(conversation: str) -> str:
    return _beginning(rows.read_conversation(conversation).messages[-1].content)


def _beginning(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
