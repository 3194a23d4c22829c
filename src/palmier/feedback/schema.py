"""The store's tables, as the code reads and writes them; ``migrations/`` is what makes them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Integer, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("annotator", Text, nullable=False, index=True),
    Column("created", Text, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("seed", Text, nullable=False),  # may exceed 64 bits
    Column("sampling", Text, nullable=False),  # JSON of records.Sampling
    Column("finish", Text, nullable=False),
    Column("tokens", Text, nullable=False),  # JSON list of ids
    Column("logprobs", Text, nullable=False),  # JSON list of natural logarithms
)

messages = Table(
    "messages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("conversation_id", Integer, ForeignKey("conversations.id"), nullable=False),
    Column("place", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("answer_id", Integer, ForeignKey("answers.id")),
    Column("created", Text, nullable=False),
    UniqueConstraint("conversation_id", "place", name="one_message_a_place"),
)

rankings = Table(
    "rankings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("conversation", Text, nullable=False),  # JSON of the messages as they were shown
    Column("ranks", Text, nullable=False),  # JSON list, 1 = best
    Column("all_bad", Boolean, nullable=False),
    Column("shown", Text, nullable=False),  # JSON list, the order on the screen
    Column("annotator", Text, nullable=False, index=True),
    Column("milliseconds", Integer, nullable=False),
    Column("created", Text, nullable=False),
)

ranked_answers = Table(
    "ranked_answers",
    metadata,
    Column("ranking_id", Integer, ForeignKey("rankings.id"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("answer_id", Integer, ForeignKey("answers.id"), nullable=False),
)

consent = Table(
    "consent",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("annotator", Text, nullable=False, index=True),
    Column("granted", Boolean, nullable=False),
    Column("words", Text, nullable=False),  # what the person read when answering
    Column("created", Text, nullable=False),
)

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ranking_id", Integer, ForeignKey("rankings.id"), nullable=False, unique=True),
    Column("created", Text, nullable=False),
)
