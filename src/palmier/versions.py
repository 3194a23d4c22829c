"""Versions of the assistant: immutable folders ``versions/NNNN`` and one pointer, ``current``.

Knows folders, not models. A version is first its folder, written whole; what makes it
answer is the pointer, which is moved last and can be moved back. Answers and rankings name
versions by number, also deleted ones, so a number is never given twice. Who works with a
version's files holds it (`Version.hold`), and it can not be deleted meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from palmier.errors import Refusal
from palmier.workspace import Workspace, clear_leftovers, read_json, sha256, write_json, write_whole

CARD = "palmier.json"
"""A version's card inside its folder: name, parent, label, created, hashes, figures, verdict."""

HELD = "config.json"
"""The file that is locked while a model is in memory: every model's folder has it, a version's or not."""


@dataclass(frozen=True)
class Version:
    """One immutable version: its name (``0002``), its Hugging Face folder and its card."""

    name: str
    folder: Path
    card: dict[str, Any]

    @property
    def label(self) -> str:
        """What a person calls it, for example ``SmolLM2-135M-Instruct`` or ``DPO``."""
        return str(self.card.get("label", self.name))

    def hold(self) -> IO[bytes]:
        """Keep the version from being deleted until what is returned is closed, or its process has died.

        Any number may hold it at once. Raises Refusal where it is being deleted.
        """
        return self._lock(fcntl.LOCK_SH, f"version {self.name} is being deleted: choose another one")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be sure that nobody holds it. Raises Refusal where somebody does."""
        held = f"version {self.name} is in the memory of a running `palmier serve`: stop the server first"
        with self._lock(fcntl.LOCK_EX, held):
            yield

    def _lock(self, kind: int, otherwise: str) -> IO[bytes]:
        try:
            held = (self.folder / HELD).open("rb")
        except FileNotFoundError:
            raise Refusal(f"there is no version {self.name!r} any more") from None
        try:
            fcntl.flock(held, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise Refusal(otherwise) from None
        return held


class Versions:
    """The versions of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def add(self, model: Path, *, label: str, parent: str | None = None, **facts: Any) -> Version:
        """Copy a Hugging Face folder (its files, not its sub-folders) into the next version."""
        name = self._next_name()
        with write_whole(self.workspace.versions / name) as folder:
            hashes = {}
            for path in sorted(model.iterdir()):
                if path.is_file() and path.name != CARD:
                    shutil.copy2(path, folder / path.name)
                    hashes[path.name] = sha256(folder / path.name)
            if "config.json" not in hashes:
                raise Refusal(f"{model} holds no config.json, so it is no model")
            card = {"name": name, "label": label, "parent": parent, "hashes": hashes}
            card |= {"created": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
            write_json(folder / CARD, card)
        return self.get(name)

    def get(self, name: str) -> Version:
        folder = self.workspace.versions / name
        if not _is_name(name) or not (folder / CARD).is_file():
            known = ", ".join(version.name for version in self.all()) or "none yet"
            raise Refusal(f"there is no version {name!r}; known: {known}")
        return Version(name, folder, read_json(folder / CARD))

    def all(self) -> list[Version]:
        """Every version, oldest first."""
        folder = self.workspace.versions
        if not folder.is_dir():
            return []
        names = sorted(path.name for path in folder.iterdir() if _is_name(path.name) and (path / CARD).is_file())
        return [Version(name, folder / name, read_json(folder / name / CARD)) for name in names]

    def current(self) -> Version | None:
        """The version that answers, or None in a new home."""
        name = self._pointer()["current"]
        return None if name is None else self.get(name)

    def stamp(self) -> tuple[int, int, int]:
        """What changes whenever the pointer is replaced."""
        if not self.workspace.current.is_file():
            return (0, 0, 0)
        status = self.workspace.current.stat()
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def promote(self, name: str) -> Version:
        """Let ``name`` answer from now on; its files are checked against their hashes first."""
        version = self.get(name)
        with version.hold():
            self.verify(version)
            pointer = self._pointer()
            if pointer["current"] != name:
                before = [] if pointer["current"] is None else [pointer["current"]]
                write_json(self.workspace.current, {"current": name, "before": pointer["before"] + before})
        return version

    def rollback(self) -> Version:
        """Let the version before the current one answer again."""
        pointer = self._pointer()
        if not pointer["before"]:
            raise Refusal("there is no earlier version to roll back to")
        version = self.get(pointer["before"][-1])
        with version.hold():
            self.verify(version)
            write_json(self.workspace.current, {"current": version.name, "before": pointer["before"][:-1]})
        return version

    def remove(self, name: str) -> int:
        """Delete a version's folder; returns the bytes that it took. `rollback` passes it over from now on.

        What could be half done by a death is done in an order that leaves the version whole, or
        gone with its number taken. Raises Refusal for the one that answers and for one that is held.
        The caller has the home's lock (`Workspace.exclusively`): others add versions under it.
        """
        clear_leftovers(self.workspace.versions)
        version = self.get(name)
        with version.alone():
            pointer = self._pointer()
            if pointer["current"] == name:
                raise Refusal(
                    f"version {name} answers now, so it stays: let another one answer first (palmier promote)"
                )
            taken = sum(path.stat().st_size for path in version.folder.rglob("*") if path.is_file())
            write_json(self.workspace.highest, {"version": max(self._highest(), int(name))})
            before = _without(pointer["before"], name, pointer["current"])
            if before != pointer["before"]:
                write_json(self.workspace.current, pointer | {"before": before})
            doomed = version.folder.with_name(f".partial-{os.getpid()}-{time.monotonic_ns()}-{name}")
            version.folder.rename(doomed)
            shutil.rmtree(doomed)
        return taken

    def verify(self, version: Version) -> None:
        """Raise Refusal where a file of the version is not the one that was added."""
        for name, digest in version.card["hashes"].items():
            path = version.folder / name
            if not path.is_file() or sha256(path) != digest:
                raise Refusal(f"version {version.name} is damaged: {path} is not what was saved; use another version")

    def _pointer(self) -> dict[str, Any]:
        if not self.workspace.current.is_file():
            return {"current": None, "before": []}
        value = read_json(self.workspace.current)
        if not isinstance(value, dict) or set(value) != {"current", "before"}:
            raise Refusal(f"{self.workspace.current} is damaged: run `palmier promote VERSION` after removing it")
        return value

    def _next_name(self) -> str:
        names = [int(version.name) for version in self.all() if version.name.isdigit()]
        return f"{max([*names, self._highest()]) + 1:04d}"

    def _highest(self) -> int:
        """The highest number that a deleted version had; those that are there tell theirs themselves."""
        if not self.workspace.highest.is_file():
            return 0
        value = read_json(self.workspace.highest)
        if not isinstance(value, dict) or not isinstance(value.get("version"), int):
            raise Refusal(
                f'{self.workspace.highest} is damaged: it must be {{"version": N}}, N the highest number ever given'
            )
        return int(value["version"])


def _is_name(name: str) -> bool:
    """Whether a folder of this name can be a version: not what is half written or half deleted, nor a way to elsewhere."""
    return name.isascii() and name.isdigit()


def _without(before: list[str], name: str, current: str | None) -> list[str]:
    """The way back without ``name``, and without steps that would lead from a version to itself."""
    kept: list[str] = []
    for one in before:
        if one != name and kept[-1:] != [one]:
            kept.append(one)
    return kept[:-1] if kept and kept[-1] == current else kept
