"""Every path on disk has its name here, and every folder is written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmier.errors import Refusal, Unable


@dataclass(frozen=True)
class Workspace:
    """One home of Palmier: ``$PALMIER_HOME``, by default ``~/.palmier``."""

    home: Path

    @classmethod
    def at(cls, home: Path | None) -> Workspace:
        """The home that a command was given, or the usual one."""
        return cls(home.expanduser()) if home else cls.default()

    @classmethod
    def default(cls) -> Workspace:
        return cls(Path(os.environ.get("PALMIER_HOME") or Path.home() / ".palmier"))

    @property
    def models(self) -> Path:
        """Base models, each a Hugging Face folder."""
        return self.home / "models"

    @property
    def versions(self) -> Path:
        return self.home / "versions"

    @property
    def current(self) -> Path:
        """The pointer to the version that answers; a small JSON file, replaced whole."""
        return self.home / "current.json"

    @property
    def highest(self) -> Path:
        """The highest number of a version that was deleted: no number is given twice. A small JSON file."""
        return self.home / "highest.json"

    @property
    def store(self) -> Path:
        return self.home / "feedback.sqlite"

    @property
    def prompts(self) -> Path:
        """Prompts that /rank offers when nobody types one: JSONL of ``{"messages": […]}``."""
        return self.home / "prompts.jsonl"

    @property
    def draws(self) -> Path:
        """Answers that were drawn for /rank and wait to be ordered, one JSON file a draw."""
        return self.home / "draws"

    @property
    def improve(self) -> Path:
        """One folder an `improve`, kept until it has ended so that it can be resumed."""
        return self.home / "improve"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @contextlib.contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Hold the home's one lock; raises Refusal at once where another process has it."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise Refusal(f"{self.home} is busy with {holder}: wait for it, or stop it") from None
            handle.truncate(0)
            handle.write(f"{what} (process {os.getpid()})")
            handle.flush()
            yield


def latest_step(run: Path) -> Path:
    """The folder of a run's last finished step. Raises Refusal where there is none."""
    pointer = run / "latest"
    if not pointer.is_file():
        raise Refusal(f"{run} has no finished step: it holds no file 'latest'")
    return run / pointer.read_text("utf-8").strip()


@contextlib.contextmanager
def write_whole(target: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it is fsync'ed and renamed to ``target``.

    An existing ``target`` is replaced. Where the body fails, or the process dies, ``target``
    is as it was; leftovers of dead processes are cleared by the next call.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target.parent)
    partial = target.parent / f".partial-{os.getpid()}-{time.monotonic_ns()}-{target.name}"
    partial.mkdir()
    try:
        yield partial
        for path in sorted(partial.rglob("*"), reverse=True):
            _fsync(path)
        _fsync(partial)
        if target.exists():
            old = target.parent / f".partial-{os.getpid()}-{time.monotonic_ns()}-old"
            target.rename(old)
            partial.rename(target)
            shutil.rmtree(old)
        else:
            partial.rename(target)
        _fsync(target.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise Unable(
            f"could not write {target}: {error.strerror or error}; what was there before is untouched"
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextlib.contextmanager
def write_file_whole(target: Path) -> Iterator[Path]:
    """The same for a single file: give a temporary path to write, fsync it and rename it to ``target``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".partial-{os.getpid()}-{time.monotonic_ns()}-{target.name}"
    try:
        yield partial
        _fsync(partial)
        partial.replace(target)
        _fsync(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # nor can it be removed on a disk that is read only
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Unable(
                f"could not write {target}: {error.strerror or error}; what was there before is untouched"
            ) from error
        raise


def write_text(target: Path, text: str) -> None:
    """Replace a small file atomically and durably."""
    with write_file_whole(target) as partial, partial.open("w", encoding="utf-8") as handle:
        handle.write(text)


def write_json(target: Path, value: Any) -> None:
    """Replace a JSON file atomically and durably."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises Refusal with the file and the place where it is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise Refusal(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{path} is not JSON: {error}") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def clear_leftovers(folder: Path) -> None:
    """Remove what dead processes left half written in ``folder``."""
    for path in folder.glob(".partial-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
