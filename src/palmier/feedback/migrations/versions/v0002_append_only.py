"""What people said can be added to, never changed: the database itself refuses UPDATE and DELETE."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("conversations", "answers", "messages", "rankings", "ranked_answers", "consent", "withdrawals")


def upgrade() -> None:
    """Put two triggers on every table. PostgreSQL, which came with the next schema, gets its own there."""
    if op.get_bind().dialect.name == "postgresql":
        return
    for table in TABLES:
        for change in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change} BEFORE {change.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END"
            )
