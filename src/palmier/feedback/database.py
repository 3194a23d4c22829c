"""One database under the store: SQLite's file, or PostgreSQL by its address.

SQLite: write-ahead log with ``synchronous=FULL``, so what a call added is on the disk when it
returns; ``BEGIN IMMEDIATE`` for whoever writes, a snapshot for whoever reads. PostgreSQL: one
advisory lock lets one writer in at a time, which gives the same rules there.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError

from palmier.errors import Refusal, Unable
from palmier.workspace import write_file_whole

MIGRATIONS = Path(__file__).parent / "migrations"

PATIENCE = 30.0
"""Seconds that a writer waits for another one."""

WRITERS = 0x9A13
"""The number of the advisory lock that PostgreSQL's writers take in turn."""


class Database:
    """Raises Refusal where ``place`` (a file, or PostgreSQL's URL) is no store, or one of a newer Palmier."""

    def __init__(self, place: Path | str) -> None:
        if isinstance(place, Path):
            self.name = str(place)
            self.path: Path | None = place
            place.parent.mkdir(parents=True, exist_ok=True)
            self._engine = _sqlite(place)
        else:
            self.path = None
            self._engine = _postgresql(place)
            self.name = self._engine.url.render_as_string(hide_password=True)
        with self._transaction() as connection:
            _migrate(connection, self.name)

    def close(self) -> None:
        """Close every connection; the store can't be used afterwards."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """To add something: committed, and on the disk, when the block ends."""
        try:
            with self._engine.begin() as connection:
                if self.path is None:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": WRITERS})
                yield connection
        except DBAPIError as error:
            raise self._fault(error) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        """To read: one moment's state, however long it takes, and in nobody's way."""
        try:
            with self._engine.connect() as connection:
                if self.path is None:
                    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                else:
                    connection.execution_options(reading=True)
                with connection.begin():
                    yield connection
        except DBAPIError as error:
            raise self._fault(error) from error

    def _fault(self, error: DBAPIError) -> Refusal:
        # What the database says of values is about them; anything else is about itself.
        kind = Refusal if isinstance(error, DataError | IntegrityError) else Unable
        return kind(self._sentence(error))

    def _sentence(self, error: DBAPIError) -> str:
        said = _said(error)
        if "database is locked" in said:
            return f"the store {self.name} is locked by another program: close it and try again; nothing was changed"
        if "is full" in said:
            return f"the store {self.name} can't grow, the disk is full: make room and try again; nothing was changed"
        return f"the store {self.name} can't be used: {said}; nothing was changed"


def back_up(source: Path, target: Path) -> None:
    """Write a whole copy of a store as it is at this moment, while others go on adding to it.

    The copy is checked before it gets its name: ``target`` is whole, or as it was. Nothing is
    migrated: whichever schema the store has, its copy has too.
    """
    if target.resolve() == source.resolve():
        raise Refusal(f"{target} is the store itself: choose another file for its copy")
    with write_file_whole(target) as partial:
        try:
            _copy_sqlite(source, partial)
        except sqlite3.Error as error:
            raise Refusal(f"{source} could not be copied: {error}; {target} is as it was") from error


def schema_of(address: str) -> str | None:
    """The schema of a PostgreSQL database, None for an empty one; looks, and changes nothing. Raises Refusal."""
    from alembic.runtime.migration import MigrationContext

    engine = _postgresql(address)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise Refusal(_said(error)) from error
    finally:
        engine.dispose()


def _said(error: DBAPIError) -> str:
    """What the database says of an error, in one line."""
    told: Any = error.orig.args[0] if error.orig is not None and error.orig.args else ""
    # PostgreSQL's own message is one field of several.
    said = " ".join(str(told["M"] if isinstance(told, dict) else error.orig).split())
    if said == "network error":  # the driver's words where it is still asking and the server has hung up
        return "the server closed the connection: look whether the database exists and lets this user in"
    return said


def _copy_sqlite(source: Path, target: Path) -> None:
    """A whole copy as one file without a log beside it. Raises sqlite3.Error where it can't be, or is not whole."""
    with (
        contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")
        for problem in problems(new):
            raise sqlite3.DatabaseError(f"the copy is damaged ({problem})")


def problems(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with a database: damaged pages, rows that refer to none."""
    found = []
    for (said,) in connection.execute("PRAGMA integrity_check"):
        found += [] if said == "ok" else [str(said)]
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        found.append(f"row {row} of {table} refers to a row of {parent} that is not there")
    return found


def _sqlite(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": PATIENCE, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # What a person deletes is overwritten, not only marked as free.
        connection.execute("PRAGMA secure_delete=ON")

    # The driver's own implicit BEGIN is deferred: two writers that have both read would then
    # deadlock. IMMEDIATE makes the second one wait, and makes a migration one transaction.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _postgresql(address: str) -> Engine:
    try:
        url = make_url(address)
    except ArgumentError:
        raise Refusal(
            "the database's address can't be read: write postgresql://USER:PASSWORD@HOST/DATABASE, "
            "or leave it out for a file in the home"
        ) from None
    if url.drivername not in ("postgresql", "postgresql+pg8000"):
        raise Refusal(
            f"a database of the kind {url.drivername} is not supported: use postgresql://…, or a file in the home"
        )
    # A folder as the host is where a server's socket lies; this driver wants the socket itself.
    folder = str(url.query.get("host", ""))
    socket = {"unix_sock": f"{folder}/.s.PGSQL.{url.port or 5432}"} if folder.startswith("/") else {}
    if socket:
        url = url.difference_update_query(["host"])
    try:
        return create_engine(url.set(drivername="postgresql+pg8000"), pool_pre_ping=True, connect_args=socket)
    except ImportError:
        raise Refusal("PostgreSQL needs the package pg8000: pip install 'palmier[postgres]'") from None


def revisions() -> tuple[str, set[str]]:
    """The newest schema that this Palmier knows, and all of them."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic(Config()))
    return str(scripts.get_current_head()), {script.revision for script in scripts.walk_revisions()}


def _alembic(config: Any) -> Any:
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _migrate(connection: Connection, name: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    newest, known = revisions()
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision == newest:
        return
    if revision is None and connection.dialect.get_table_names(connection):
        raise Refusal(f"{name} is a database of something else: choose another home")
    if revision is not None and revision not in known:
        raise Refusal(f"{name} was written by a newer Palmier (schema {revision}): update Palmier, or use another home")
    config = _alembic(Config())
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
