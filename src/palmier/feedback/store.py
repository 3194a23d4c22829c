"""The feedback store: one SQLite file to which chats, rankings and consent are only ever added.

Write-ahead log with ``synchronous=FULL``: when a call that adds something returns, the thing
is on the disk. Every call takes its own connection and its own transaction, so one Store may
be shared by threads, and the server and a training run may open the same file at once.
Withdrawals and consent are rows of their own, and :meth:`Store.training_rankings` is the one
function that applies them; whatever trains or exports reads through it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, create_engine, event, func, insert, select
from sqlalchemy.exc import DatabaseError

from palmier.errors import Refusal
from palmier.feedback import schema
from palmier.records import Answer, Conversation, Message, Ranking, Sampling

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True)
class Chat:
    """A stored conversation's line in a list: ``title`` is the beginning of its first question."""

    id: int
    annotator: str
    created: str
    title: str


@dataclass(frozen=True)
class StoredMessage:
    """One message of a stored conversation, with the answer it was, where a version wrote it."""

    message: Message
    answer: Answer | None


class Store:
    """One feedback store. Raises Refusal where ``path`` is no store or one of a newer Palmier."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = _connect(path)
        with self._transaction() as connection:
            _migrate(connection, path)

    def close(self) -> None:
        """Close every connection; the store can't be used afterwards."""
        self._engine.dispose()

    # ── chats ────────────────────────────────────────────────────────────────────────────

    def new_conversation(self, annotator: str = "") -> int:
        """Begin a conversation; the number returned names it from now on."""
        with self._transaction() as connection:
            return _add(connection, schema.conversations, annotator=annotator, created=_now())

    def add_message(self, conversation_id: int, message: Message, answer: Answer | None = None) -> None:
        """Append a message; ``answer`` is what a version drew where the assistant speaks."""
        with self._transaction() as connection:
            _require_conversation(connection, conversation_id)
            count = select(func.count()).where(schema.messages.c.conversation_id == conversation_id)
            _add(
                connection,
                schema.messages,
                conversation_id=conversation_id,
                place=connection.scalar(count),
                role=message.role,
                content=message.content,
                answer_id=None if answer is None else _add_answer(connection, answer),
                created=_now(),
            )

    def messages(self, conversation_id: int) -> list[StoredMessage]:
        """Every message, oldest first; empty for a conversation that has just begun."""
        table = schema.messages
        with self._transaction() as connection:
            _require_conversation(connection, conversation_id)
            rows = connection.execute(
                select(table.c.role, table.c.content, table.c.answer_id)
                .where(table.c.conversation_id == conversation_id)
                .order_by(table.c.place)
            ).all()
            ids = [row.answer_id for row in rows if row.answer_id is not None]
            answers = _answers(connection, select(schema.answers).where(schema.answers.c.id.in_(ids)))
        return [StoredMessage(Message(row.role, row.content), answers.get(row.answer_id)) for row in rows]

    def conversation(self, conversation_id: int) -> Conversation:
        """The messages alone, as a conversation that a template renders."""
        return Conversation(tuple(stored.message for stored in self.messages(conversation_id)))

    def conversations(self, annotator: str = "") -> list[Chat]:
        """A person's conversations that hold a message, newest first."""
        chats, messages = schema.conversations, schema.messages
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
            .order_by(chats.c.id.desc())
        )
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return [Chat(row.id, row.annotator, row.created, " ".join(row.content.split())[:80]) for row in rows]

    # ── rankings ─────────────────────────────────────────────────────────────────────────

    def add_ranking(self, ranking: Ranking, key: str) -> int:
        """Store a confirmed ranking and return its number; it is on the disk when this returns.

        ``key`` is made by whoever confirms: the same key again (a request repeated after a
        lost answer) returns the first number and stores nothing. Raises Refusal where the key
        is empty or belongs to another ranking.
        """
        if not key:
            raise Refusal("a ranking needs a key that is not empty, so that sending it twice counts once")
        table = schema.rankings
        with self._transaction() as connection:
            known = connection.scalar(select(table.c.id).where(table.c.key == key))
            if known is not None:
                if _order(_read_rankings(connection, table.c.id == known)[0]) != _order(ranking):
                    raise Refusal(f"{key!r} was ranked already, in another order: undo that ranking first")
                return int(known)
            ranking_id = _add(
                connection,
                table,
                key=key,
                conversation=json.dumps(ranking.conversation.to_json(), ensure_ascii=False),
                ranks=json.dumps(ranking.ranks),
                all_bad=ranking.all_bad,
                shown=json.dumps(ranking.shown),
                annotator=ranking.annotator,
                milliseconds=ranking.milliseconds,
                created=_now(),
            )
            for place, answer in enumerate(ranking.answers):
                answer_id = _add_answer(connection, answer)
                _add(connection, schema.ranked_answers, ranking_id=ranking_id, place=place, answer_id=answer_id)
            return ranking_id

    def undo(self, annotator: str = "") -> bool:
        """Withdraw a person's last ranking that stands; False where there is none left."""
        table = schema.rankings
        with self._transaction() as connection:
            last = connection.scalar(
                select(func.max(table.c.id)).where(table.c.annotator == annotator, table.c.id.not_in(_withdrawn()))
            )
            if last is None:
                return False
            _add(connection, schema.withdrawals, ranking_id=last, created=_now())
            return True

    def count(self, annotator: str | None = None) -> int:
        """Rankings that stand: one person's, or everybody's."""
        table = schema.rankings
        query = select(func.count()).select_from(table).where(table.c.id.not_in(_withdrawn()))
        if annotator is not None:
            query = query.where(table.c.annotator == annotator)
        with self._transaction() as connection:
            return connection.scalar(query) or 0

    def annotators(self) -> list[str]:
        """Everybody who ranked or answered the question of consent, by name."""
        query = select(schema.rankings.c.annotator).union(select(schema.consent.c.annotator)).order_by("annotator")
        with self._transaction() as connection:
            return list(connection.scalars(query))

    # ── consent ──────────────────────────────────────────────────────────────────────────

    def set_consent(self, annotator: str, granted: bool, words: str) -> None:
        """Add an answer to the log of consent; ``words`` is the text that the person read."""
        if not words.strip():
            raise Refusal("consent is stored with the words that were read: they are empty")
        with self._transaction() as connection:
            _add(connection, schema.consent, annotator=annotator, granted=granted, words=words, created=_now())

    def consent(self, annotator: str = "") -> bool | None:
        """The person's latest answer; None where the question was never answered."""
        table = schema.consent
        query = select(table.c.granted).where(table.c.annotator == annotator).order_by(table.c.id.desc()).limit(1)
        with self._transaction() as connection:
            granted = connection.scalar(query)
        return None if granted is None else bool(granted)

    def training_rankings(self) -> list[Ranking]:
        """Every ranking that may train or leave the store, oldest first.

        The one place where consent is applied: the annotator's latest answer is yes, and the
        ranking was not withdrawn.
        """
        latest = select(func.max(schema.consent.c.id)).group_by(schema.consent.c.annotator)
        willing = select(schema.consent.c.annotator).where(schema.consent.c.id.in_(latest), schema.consent.c.granted)
        table = schema.rankings
        with self._transaction() as connection:
            return _read_rankings(connection, table.c.annotator.in_(willing), table.c.id.not_in(_withdrawn()))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DatabaseError as error:
            raise Refusal(f"the store {self.path} can't be used: {error.orig}; nothing was changed") from error


def _connect(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    # The driver's own implicit BEGIN is deferred: two writers that have both read would then
    # deadlock. IMMEDIATE makes the second one wait, and makes a migration one transaction.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _migrate(connection: Connection, path: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision == scripts.get_current_head():
        return
    if revision is None and connection.dialect.get_table_names(connection):
        raise Refusal(f"{path} is a database of something else: choose another home")
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise Refusal(f"{path} was written by a newer Palmier (schema {revision}): update Palmier, or use another home")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _add(connection: Connection, table: Any, **values: Any) -> int:
    key = connection.execute(insert(table).values(**values)).inserted_primary_key
    return int(key[0]) if key else 0


def _require_conversation(connection: Connection, conversation_id: int) -> None:
    table = schema.conversations
    if connection.scalar(select(table.c.id).where(table.c.id == conversation_id)) is None:
        raise Refusal(f"there is no conversation {conversation_id} in this store")


def _withdrawn() -> Select[tuple[int]]:
    return select(schema.withdrawals.c.ranking_id)


def _add_answer(connection: Connection, answer: Answer) -> int:
    return _add(
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


def _answers(connection: Connection, query: Any) -> dict[int, Answer]:
    return {row.id: _answer(row) for row in connection.execute(query)}


def _answer(row: Any) -> Answer:
    return Answer(
        text=row.text,
        version=row.version,
        tokens=tuple(json.loads(row.tokens)),
        logprobs=tuple(json.loads(row.logprobs)),
        finish=row.finish,
        sampling=Sampling.from_json(json.loads(row.sampling)),
    )


def _read_rankings(connection: Connection, *conditions: Any) -> list[Ranking]:
    table, places = schema.rankings, schema.ranked_answers
    rows = connection.execute(select(table).where(*conditions).order_by(table.c.id)).all()
    wanted = select(table.c.id).where(*conditions)
    answers: dict[int, list[Answer]] = {row.id: [] for row in rows}
    joined = (
        select(places.c.ranking_id, schema.answers)
        .join(schema.answers, schema.answers.c.id == places.c.answer_id)
        .where(places.c.ranking_id.in_(wanted))
        .order_by(places.c.ranking_id, places.c.place)
    )
    for row in connection.execute(joined):
        answers[row.ranking_id].append(_answer(row))
    return [
        Ranking(
            conversation=Conversation.from_json(json.loads(row.conversation)),
            answers=tuple(answers[row.id]),
            ranks=tuple(json.loads(row.ranks)),
            all_bad=bool(row.all_bad),
            shown=tuple(json.loads(row.shown)),
            annotator=row.annotator,
            milliseconds=row.milliseconds,
        )
        for row in rows
    ]


def _order(ranking: Ranking) -> tuple[Sequence[Any], ...]:
    """What makes two rankings the same confirmation: all but the time it took."""
    texts = [answer.text for answer in ranking.answers]
    return ranking.conversation.messages, texts, ranking.ranks, [ranking.all_bad], [ranking.annotator]
