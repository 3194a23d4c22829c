"""The store's tables, as the code reads and writes them; ``migrations/`` is what makes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()

Number = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits in either database: SQLite's INTEGER has them, PostgreSQL's has 32."""

conversations = Table(
    "conversations",
    metadata,
    Column("id", Number, primary_key=True),
    Column("annotator", Text, nullable=False, index=True),
    Column("created", Text, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("id", Number, primary_key=True),
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
    Column("id", Number, primary_key=True),
    Column("conversation_id", Number, ForeignKey("conversations.id"), nullable=False),
    Column("place", Number, nullable=False),  # the order in which they were added, 0 = the first
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("answer_id", Number, ForeignKey("answers.id"), index=True),
    Column("created", Text, nullable=False),
    Column("parent_id", Number, ForeignKey("messages.id"), index=True),  # what it follows; NULL for a root
    Column("folded", Text, nullable=False, server_default=""),  # the content as search compares it
    UniqueConstraint("conversation_id", "place", name="one_message_a_place"),
)

notes = Table(
    "notes",
    metadata,
    Column("id", Number, primary_key=True),
    Column("conversation_id", Number, ForeignKey("conversations.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),  # title, folder, pinned, leaf, settings: the latest of a name counts
    Column("value", Text, nullable=False),  # JSON
    Column("created", Text, nullable=False),
)

removals = Table(
    "removals",
    metadata,
    Column("id", Number, primary_key=True),
    Column("conversation_id", Number, ForeignKey("conversations.id"), nullable=False, unique=True),
    Column("created", Text, nullable=False),
)

rankings = Table(
    "rankings",
    metadata,
    Column("id", Number, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("conversation", Text, nullable=False),  # JSON of the messages as they were shown
    Column("ranks", Text, nullable=False),  # JSON list, 1 = best
    Column("all_bad", Boolean, nullable=False),
    Column("shown", Text, nullable=False),  # JSON list, the order on the screen
    Column("annotator", Text, nullable=False, index=True),
    Column("milliseconds", Number, nullable=False),
    Column("created", Text, nullable=False),
    Column("strength", Number, nullable=False, server_default="0"),  # 1 slight, 2 clear, 3 strong, 0 not told
    Column("reason", Text, nullable=False, server_default=""),
)

ranked_answers = Table(
    "ranked_answers",
    metadata,
    Column("ranking_id", Number, ForeignKey("rankings.id"), primary_key=True),
    Column("place", Number, primary_key=True),
    Column("answer_id", Number, ForeignKey("answers.id"), nullable=False, index=True),
)

labels = Table(
    "labels",
    metadata,
    Column("id", Number, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("conversation", Text, nullable=False),  # JSON of the messages before the answer
    Column("answer_id", Number, ForeignKey("answers.id"), nullable=False, index=True),
    Column("value", Number, nullable=False),  # 1 good, -1 bad, 0 taken back; the latest of a person counts
    Column("reason", Text, nullable=False),
    Column("annotator", Text, nullable=False, index=True),
    Column("created", Text, nullable=False),
)

demonstrations = Table(
    "demonstrations",
    metadata,
    Column("id", Number, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("conversation", Text, nullable=False),  # JSON of the messages before the answer
    Column("text", Text, nullable=False),  # what the person wrote
    Column("answer_id", Number, ForeignKey("answers.id"), index=True),  # the answer that it is better than
    Column("reason", Text, nullable=False),
    Column("annotator", Text, nullable=False, index=True),
    Column("created", Text, nullable=False),
)

consent = Table(
    "consent",
    metadata,
    Column("id", Number, primary_key=True),
    Column("annotator", Text, nullable=False, index=True),
    Column("granted", Boolean, nullable=False),
    Column("words", Text, nullable=False),  # what the person read when answering
    Column("created", Text, nullable=False),
    Column("wording", Number, nullable=False, server_default="1"),  # which of consent.WORDS it was
)

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", Number, primary_key=True),
    Column("ranking_id", Number, ForeignKey("rankings.id"), nullable=False, unique=True),
    Column("created", Text, nullable=False),
)

withdrawn_demonstrations = Table(
    "withdrawn_demonstrations",
    metadata,
    Column("id", Number, primary_key=True),
    Column("demonstration_id", Number, ForeignKey("demonstrations.id"), nullable=False, unique=True),
    Column("created", Text, nullable=False),
)

uses = Table(
    "uses",
    metadata,
    Column("id", Number, primary_key=True),
    Column("kind", Text, nullable=False),  # ranking, label or demonstration
    Column("item_id", Number, nullable=False),
    Column("version", Text, nullable=False),  # the version that was made out of it
    Column("created", Text, nullable=False),
    UniqueConstraint("kind", "item_id", "version", name="one_use_a_version"),
)
