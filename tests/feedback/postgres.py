"""A PostgreSQL of the tests' own: Debian's programs, a cluster in a temporary folder, reached by a socket in it."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COUNTER = itertools.count()


@dataclass(frozen=True)
class Cluster:
    """A running server; ``folder`` holds its data and its socket."""

    folder: Path
    programs: Path
    who: dict[str, Any] = field(default_factory=dict)

    def url(self, database: str) -> str:
        return f"postgresql://palmier@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The address of a database that nobody has used."""
        name = f"test_{os.getpid()}_{next(COUNTER)}"
        self.say(f"CREATE DATABASE {name}")
        return self.url(name)

    def say(self, sql: str, database: str = "postgres") -> list[Any]:
        """Run one statement as its own transaction; returns its rows."""
        import pg8000.dbapi

        with contextlib.closing(
            pg8000.dbapi.connect("palmier", database=database, unix_sock=f"{self.folder}/.s.PGSQL.5432")
        ) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def control(self, *words: str) -> None:
        command = [self.programs / "pg_ctl", "-D", self.folder / "data", "-w", *words]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, timeout=60, **self.who)


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start one and stop it; skips the test where there is none, or no driver."""
    pytest.importorskip("pg8000", reason="pg8000 is not installed (pip install -e '.[postgres]')")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    # Not below pytest's folder, whose path is too long for a socket and closed to others.
    folder = Path(tempfile.mkdtemp(prefix="palmier-pg-"))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        other = pwd.getpwnam("postgres" if any(one.pw_name == "postgres" for one in pwd.getpwall()) else "nobody")
        os.chown(folder, other.pw_uid, other.pw_gid)
        who = {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    cluster = Cluster(folder, found[-1].parent, who)
    make = [cluster.programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "palmier", "-E", "UTF8"]
    try:
        done = subprocess.run(
            [*make, "--locale=C", "--no-sync"], cwd=folder, capture_output=True, text=True, check=False, **who
        )
        assert done.returncode == 0, done.stderr
        settings = f"-k {folder} -c listen_addresses= -c max_connections=300"
        cluster.control("-l", str(folder / "log"), "-o", settings, "start")
        try:
            yield cluster
        finally:
            cluster.control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
