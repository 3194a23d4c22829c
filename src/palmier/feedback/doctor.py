"""`palmier doctor`: is everything in a home whole? Looks, and changes nothing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from palmier.errors import Refusal
from palmier.feedback.database import problems, revisions, schema_of
from palmier.feedback.store import ADDRESS
from palmier.versions import CARD, Versions
from palmier.workspace import Workspace, read_json


@dataclass(frozen=True)
class Finding:
    """What was looked at, and what is wrong with it ("" where nothing) and how to mend it."""

    about: str
    problem: str = ""


def examine(workspace: Workspace, database: str = "") -> Iterator[Finding]:
    """Look at the store, the versions, and what lies about; one finding for each thing looked at, or several."""
    if not workspace.home.is_dir():
        yield Finding(str(workspace.home), "there is no such home: palmier serve makes one")
        return
    address = database or os.environ.get(ADDRESS, "")
    yield from _postgresql(address) if address else _store(workspace.store)
    yield from _versions(workspace)
    yield from _draws(workspace)
    yield from _orphans(workspace)


def _store(path: Path) -> Iterator[Finding]:
    about = f"the store {path}"
    if not path.is_file():
        yield Finding(f"{about}: none yet")
        return
    newest, known = revisions()
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
        ) as connection:
            found = problems(connection)
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            if revision not in known:
                found.append(f"it was written by a newer Palmier (schema {revision}): update Palmier")
            elif revision == newest:
                found += _unreferenced(connection)
    except (sqlite3.Error, TypeError) as error:
        found = [f"it can't be read: {error}: put a copy that `palmier backup` made in its place"]
    yield from _several(about, found)


def _unreferenced(connection: sqlite3.Connection) -> list[str]:
    users = ("messages", "ranked_answers", "labels", "demonstrations")
    free = " AND ".join(f"id NOT IN (SELECT answer_id FROM {user} WHERE answer_id IS NOT NULL)" for user in users)
    (count,) = connection.execute(f"SELECT COUNT(*) FROM answers WHERE {free}").fetchone()
    return [f"{count} answers belong to no message and no feedback"] if count else []


def _postgresql(address: str) -> Iterator[Finding]:
    """PostgreSQL holds its own rules; what is asked here is whether it answers, and with which schema."""
    about = "the store in PostgreSQL"
    try:
        revision = schema_of(address)
    except Refusal as refusal:
        yield Finding(about, str(refusal))
        return
    newer = f"it was written by a newer Palmier (schema {revision}): update Palmier"
    yield Finding(about, newer if revision is not None and revision not in revisions()[1] else "")


def _versions(workspace: Workspace) -> Iterator[Finding]:
    versions = Versions(workspace)
    try:
        every = versions.all()
        current = versions.current()
    except Refusal as refusal:
        yield Finding("the versions", str(refusal))
        return
    for version in every:
        try:
            versions.verify(version)
            yield Finding(f"version {version.name} ({version.label})")
        except (Refusal, KeyError) as error:
            yield Finding(f"version {version.name}", str(error))
    if every and current is None:
        yield Finding("the pointer current.json", "no version answers: palmier promote VERSION")


def _draws(workspace: Workspace) -> Iterator[Finding]:
    found = []
    for path in sorted(workspace.draws.glob("[!.]*.json")) if workspace.draws.is_dir() else []:
        try:
            if not isinstance(read_json(path), dict):
                found.append(f"{path} is no draw: remove it, only answers that nobody has ranked are lost")
        except Refusal as refusal:
            found.append(f"{refusal}: remove it, only answers that nobody has ranked are lost")
    yield from _several("answers that wait to be ranked", found)


def _orphans(workspace: Workspace) -> Iterator[Finding]:
    """What a dead process left half written, and folders that belong to nothing.

    Not what a killed server leaves among its draws: the next one clears it by itself.
    """
    found = []
    for folder in (workspace.home, workspace.versions, workspace.models, workspace.improve):
        for path in sorted(folder.glob(".partial-*")) if folder.is_dir() else []:
            owner = path.name.split("-")[1]
            if not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
                found.append(f"{path} is what a dead process left half written: remove it")
    folders = sorted(workspace.versions.iterdir()) if workspace.versions.is_dir() else []
    bare = [path for path in folders if path.name.isdigit() and not (path / CARD).is_file()]
    found += [f"{path} has no card {CARD}, so it is no version: remove it" for path in bare]
    yield from _several("files that belong to nothing", found)


def _several(about: str, found: list[str]) -> Iterator[Finding]:
    if not found:
        yield Finding(about)
    for problem in found:
        yield Finding(about, problem)
