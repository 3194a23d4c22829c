"""Conversations become trees with notes, and can be removed; labels, demonstrations, uses; consent says to what."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEPT = ("conversations", "rankings", "ranked_answers", "consent", "withdrawals")
NEW = ("removals", "labels", "demonstrations", "withdrawn_demonstrations", "uses")
CONDITIONS = {
    "messages": "NOT EXISTS (SELECT 1 FROM removals WHERE conversation_id = OLD.conversation_id)",
    "notes": "NOT EXISTS (SELECT 1 FROM removals WHERE conversation_id = OLD.conversation_id)",
    "answers": " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE answer_id = OLD.id)"
        for table in ("messages", "ranked_answers", "labels", "demonstrations")
    ),
}
"""Tables of which rows may go: where DELETE is refused all the same."""


def upgrade() -> None:
    """The order matters: what is filled in would else be refused by the triggers."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    if sqlite:
        for trigger in ("messages_no_update", "messages_no_delete", "answers_no_delete"):
            op.execute(f"DROP TRIGGER {trigger}")
    _new_tables()
    _new_columns("INTEGER" if sqlite else "BIGINT")
    _grow_trees()
    if sqlite:
        _guard_sqlite()
    else:
        _guard_postgresql()


def _new_tables() -> None:  # size: one table after another
    op.create_table(
        "notes",
        sa.Column("id", Number, primary_key=True),
        sa.Column("conversation_id", Number, sa.ForeignKey("conversations.id"), nullable=False, index=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_table(
        "removals",
        sa.Column("id", Number, primary_key=True),
        sa.Column("conversation_id", Number, sa.ForeignKey("conversations.id"), nullable=False, unique=True),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_table(
        "labels",
        sa.Column("id", Number, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("conversation", sa.Text, nullable=False),
        sa.Column("answer_id", Number, sa.ForeignKey("answers.id"), nullable=False, index=True),
        sa.Column("value", Number, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("annotator", sa.Text, nullable=False, index=True),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_table(
        "demonstrations",
        sa.Column("id", Number, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("conversation", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("answer_id", Number, sa.ForeignKey("answers.id"), index=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("annotator", sa.Text, nullable=False, index=True),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_table(
        "withdrawn_demonstrations",
        sa.Column("id", Number, primary_key=True),
        sa.Column("demonstration_id", Number, sa.ForeignKey("demonstrations.id"), nullable=False, unique=True),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_table(
        "uses",
        sa.Column("id", Number, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("item_id", Number, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.UniqueConstraint("kind", "item_id", "version", name="one_use_a_version"),
    )


def _new_columns(number: str) -> None:
    """As SQL: SQLite adds a column with its reference in one statement and in no other way."""
    op.execute(f"ALTER TABLE messages ADD COLUMN parent_id {number} REFERENCES messages (id)")
    op.execute("ALTER TABLE messages ADD COLUMN folded TEXT DEFAULT '' NOT NULL")
    op.execute(f"ALTER TABLE rankings ADD COLUMN strength {number} DEFAULT 0 NOT NULL")
    op.execute("ALTER TABLE rankings ADD COLUMN reason TEXT DEFAULT '' NOT NULL")
    op.execute(f"ALTER TABLE consent ADD COLUMN wording {number} DEFAULT 1 NOT NULL")
    op.create_index("ix_messages_parent_id", "messages", ["parent_id"])
    op.create_index("ix_messages_answer_id", "messages", ["answer_id"])
    op.create_index("ix_ranked_answers_answer_id", "ranked_answers", ["answer_id"])


def _grow_trees() -> None:
    """Give each message of the linear conversations its parent.

    Several assistant's messages in a row were alternatives to one another, and the last one was
    gone on from. An assistant's message that no version wrote gets an answer of its own.
    """
    connection = op.get_bind()
    rows = connection.execute(
        sa.text("SELECT id, conversation_id, role, content, answer_id FROM messages ORDER BY conversation_id, place")
    ).all()
    chat: int | None = None
    asked: int | None = None
    tip: int | None = None
    for row in rows:
        if row.conversation_id != chat:
            chat, asked, tip = row.conversation_id, None, None
        parent, answer = tip, row.answer_id
        if row.role == "assistant":
            parent = asked
            answer = _written(connection, row.content) if answer is None else answer
        else:
            asked = row.id
        tip = row.id
        connection.execute(
            sa.text("UPDATE messages SET parent_id = :parent, answer_id = :answer, folded = :folded WHERE id = :id"),
            {"parent": parent, "answer": answer, "folded": row.content.casefold(), "id": row.id},
        )


def _written(connection: sa.Connection, text: str) -> int:
    """An answer that is text alone, drawn by nobody; what it was sampled with is the records' default."""
    sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 256, "seed": 0}
    table = sa.table(
        "answers",
        sa.column("id", Number),
        *(sa.column(name, sa.Text) for name in ("text", "version", "seed", "sampling", "finish", "tokens", "logprobs")),
    )
    values = {"text": text, "version": "", "seed": "0", "sampling": json.dumps(sampling), "finish": "stop"}
    added = connection.execute(sa.insert(table).values(**values, tokens="[]", logprobs="[]").returning(table.c.id))
    return int(added.scalar_one())


def _guard_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END"
    for table in (*NEW, "messages", "notes"):
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
    for table in NEW:
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
    for table, condition in CONDITIONS.items():
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} WHEN {condition} {refuse}")


def _guard_postgresql() -> None:
    raised = "RAISE EXCEPTION 'the store is append-only' USING ERRCODE = 'integrity_constraint_violation';"
    op.execute(f"CREATE FUNCTION palmier_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {raised} END $$")
    for table in (*KEPT, *NEW, *CONDITIONS):
        changes = "UPDATE" if table in CONDITIONS else "UPDATE OR DELETE"
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE {changes} ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION palmier_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION palmier_append_only()"
        )
    for table, condition in CONDITIONS.items():
        op.execute(
            f"CREATE FUNCTION palmier_{table}_delete() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN IF {condition} THEN {raised} END IF; RETURN OLD; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION palmier_{table}_delete()"
        )
