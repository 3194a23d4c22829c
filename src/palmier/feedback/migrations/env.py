"""Alembic's entry: runs the revisions on the connection, and in the transaction, that the store opened."""

from __future__ import annotations

from alembic import context

from palmier.feedback.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
