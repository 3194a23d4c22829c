"""Conversations, messages, answers, rankings, consent and withdrawals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:  # size: one table after another
    """Make every table of the first store."""
    op.create_table(
        "conversations",
        sa.Column("id", Number, primary_key=True),
        sa.Column("annotator", sa.Text, nullable=False, index=True),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_table(
        "answers",
        sa.Column("id", Number, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("seed", sa.Text, nullable=False),
        sa.Column("sampling", sa.Text, nullable=False),
        sa.Column("finish", sa.Text, nullable=False),
        sa.Column("tokens", sa.Text, nullable=False),
        sa.Column("logprobs", sa.Text, nullable=False),
    )
    op.create_table(
        "messages",
        sa.Column("id", Number, primary_key=True),
        sa.Column("conversation_id", Number, sa.ForeignKey("conversations.id"), nullable=False),
        sa.Column("place", Number, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("answer_id", Number, sa.ForeignKey("answers.id")),
        sa.Column("created", sa.Text, nullable=False),
        sa.UniqueConstraint("conversation_id", "place", name="one_message_a_place"),
    )
    op.create_table(
        "rankings",
        sa.Column("id", Number, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("conversation", sa.Text, nullable=False),
        sa.Column("ranks", sa.Text, nullable=False),
        sa.Column("all_bad", sa.Boolean, nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("annotator", sa.Text, nullable=False, index=True),
        sa.Column("milliseconds", Number, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_table(
        "ranked_answers",
        sa.Column("ranking_id", Number, sa.ForeignKey("rankings.id"), primary_key=True),
        sa.Column("place", Number, primary_key=True),
        sa.Column("answer_id", Number, sa.ForeignKey("answers.id"), nullable=False),
    )
    op.create_table(
        "consent",
        sa.Column("id", Number, primary_key=True),
        sa.Column("annotator", sa.Text, nullable=False, index=True),
        sa.Column("granted", sa.Boolean, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_table(
        "withdrawals",
        sa.Column("id", Number, primary_key=True),
        sa.Column("ranking_id", Number, sa.ForeignKey("rankings.id"), nullable=False, unique=True),
        sa.Column("created", sa.Text, nullable=False),
    )
