"""Rows in and out: what every subject of the store writes and reads alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from palmier.data.tokenizer import whole_characters
from palmier.feedback import schema
from palmier.records import Answer, Conversation, Ranking, Sampling


def now() -> str:
    """The time as it is written beside everything; nothing is ever ordered by it, since clocks go backwards."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def add(connection: Connection, table: Any, **values: Any) -> int:
    """Insert a row and return its number. A text that no database can hold is mended (→ U+FFFD)."""
    postgresql = connection.dialect.name == "postgresql"
    for name, value in values.items():
        if isinstance(value, str):
            whole = whole_characters(value)
            # PostgreSQL alone can't hold U+0000.
            values[name] = whole.replace("\0", "\ufffd") if postgresql else whole
    key = connection.execute(insert(table).values(**values)).inserted_primary_key
    return int(key[0]) if key else 0


def add_answer(connection: Connection, answer: Answer) -> int:
    return add(
        connection,
        schema.answers,
        text=answer.text,
        version=answer.version,
        seed=str(answer.sampling.seed),
        sampling=json.dumps(asdict(answer.sampling)),
        finish=answer.finish,
        tokens=json.dumps(answer.tokens),
        logprobs=json.dumps(answer.logprobs),
    )


def conversation_text(conversation: Conversation) -> str:
    """A conversation as its column holds it."""
    return json.dumps(conversation.to_json(), ensure_ascii=False)


def read_conversation(value: str) -> Conversation:
    return Conversation.from_json(json.loads(value))


def read_answer(row: Any) -> Answer:
    return Answer(
        text=row.text,
        version=row.version,
        tokens=tuple(json.loads(row.tokens)),
        logprobs=tuple(json.loads(row.logprobs)),
        finish=row.finish,
        sampling=Sampling.from_json(json.loads(row.sampling)),
    )


def read_answers(connection: Connection, query: Any) -> dict[int, Answer]:
    """The answers that a query of their table finds, by number."""
    return {row.id: read_answer(row) for row in connection.execute(query)}


def read_rankings(connection: Connection, rows: Sequence[Any]) -> list[Ranking]:
    """The rankings of some rows of their table, with their answers."""
    places = schema.ranked_answers
    answers: dict[int, list[Answer]] = {row.id: [] for row in rows}
    joined = (
        select(places.c.ranking_id, schema.answers)
        .join(schema.answers, schema.answers.c.id == places.c.answer_id)
        .where(places.c.ranking_id.in_(answers))
        .order_by(places.c.ranking_id, places.c.place)
    )
    for row in connection.execute(joined):
        answers[row.ranking_id].append(read_answer(row))
    return [
        Ranking(
            conversation=read_conversation(row.conversation),
            answers=tuple(answers[row.id]),
            ranks=tuple(json.loads(row.ranks)),
            all_bad=bool(row.all_bad),
            shown=tuple(json.loads(row.shown)),
            annotator=row.annotator,
            milliseconds=row.milliseconds,
            strength=row.strength,
            reason=row.reason,
        )
        for row in rows
    ]
