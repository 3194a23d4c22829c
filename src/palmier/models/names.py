"""The one place that turns what a person writes after --model into a Hugging Face folder."""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmier.errors import Refusal
from palmier.models.catalogue import CATALOGUE, Entry, find
from palmier.workspace import Workspace, latest_step, read_json, write_json

SOURCE = "source.json"
"""In a model's folder in the home: where it came from, at which commit, under which licence."""

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Here:
    """A model in the home, by the name that --model takes."""

    name: str
    folder: Path
    source: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def resolve_model(spec: str | Path, workspace: Workspace | None = None) -> Path:
    """The Hugging Face folder that ``spec`` names; what is not here yet is made or fetched first.

    In this order: a folder with config.json, a run's folder (its ``latest`` step), a .gguf file,
    a version such as ``0002``, a model in the home, a name of the catalogue such as ``smollm2``, a
    repository of the hub such as ``HuggingFaceTB/SmolLM2-360M-Instruct``. Raises Refusal.
    """
    workspace = workspace or Workspace.default()
    path, name = Path(spec).expanduser(), str(spec)
    if path.suffix.lower() == ".gguf":
        return from_gguf(path, workspace)
    for folder in (path, workspace.versions / name, workspace.models / name):
        found = _model_in(folder)
        if found is not None:
            return found
    entry = find(name)
    if entry is not None:
        return _from_catalogue(entry, workspace)
    # A folder of that owner's name means that a path was meant, and mistyped: nobody else need hear of it.
    if isinstance(spec, str) and REPOSITORY.fullmatch(name) and not Path(name).parent.exists():
        return _pulled(name, workspace)
    raise Refusal(_unknown(path, name, workspace))


def from_gguf(path: Path, workspace: Workspace) -> Path:
    """The folder in the home that a .gguf file was written out to, on first use.

    The seam to the reader of GGUF files: whatever ``palmier.model.gguf`` reads can be named.
    """
    if not path.is_file():
        raise Refusal(f"{path} is missing")
    status = path.stat()
    source = {"from": "gguf", "file": str(path.resolve()), "size": status.st_size, "modified": status.st_mtime_ns}
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
    folder = workspace.models / f"{path.stem.lower()}-{digest[:8]}"
    workspace.models.mkdir(parents=True, exist_ok=True)
    with (workspace.models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes with one file: the second finds it made
        if _model_in(folder) is None:
            from palmier.model.gguf import import_gguf

            import_gguf(path, folder)
            write_json(folder / SOURCE, source)
    return folder


def here(workspace: Workspace) -> list[Here]:
    """The models in the home, by name; versions are listed by ``Versions``."""
    found = []
    for folder in sorted([*workspace.models.glob("*"), *workspace.models.glob("*/*")]):
        name = folder.relative_to(workspace.models).as_posix()
        # A step of a run in the home is found through the run.
        if name.startswith(".") or "/." in name or (folder.parent / "latest").is_file() or _model_in(folder) is None:
            continue
        source = read_json(folder / SOURCE) if (folder / SOURCE).is_file() else {}
        found.append(Here(name, folder, source if isinstance(source, dict) else {}))
    return found


def inside(name: str, workspace: Workspace) -> Path | None:
    """The folder of a model that lies in the home: a name, or a place there such as ``improve/…/reward``.

    None where there is none. Nothing else is looked at (no other path, no file, no hub), so that a request over the
    network may name it.
    """
    parts = name.split("/")
    if not all(re.fullmatch(r"\w[\w.-]*", part) for part in parts):
        return None
    for base in (workspace.models, workspace.home):
        found = _model_in(base.joinpath(*parts))
        if found is not None:
            return found
    return None


def remove(name: str, workspace: Workspace) -> int:
    """Take a model, and what an interrupted pull left of it, from the home; returns the bytes that are free again.

    Raises Refusal where the home holds no model of this name.
    """
    target = home_name(name)
    models = {model.name: model.folder for model in here(workspace)}
    folders = [folder for folder in (models.get(target), partial_folder(target, workspace)) if folder is not None]
    freed = 0
    for folder in [folder for folder in folders if folder.is_dir()]:
        freed += Here(target, folder, {}).size
        # Renamed first: a folder half deleted must not look like a model; a kill's rest is cleared by the next write.
        hidden = workspace.models / f".partial-{os.getpid()}-{time.monotonic_ns()}-removed"
        folder.rename(hidden)
        hidden.unlink() if hidden.is_symlink() else shutil.rmtree(hidden)
    if freed:
        return freed
    hint = "; versions stay, rankings name them" if (workspace.versions / name / "config.json").is_file() else ""
    listed = {entry.folder: entry.name for entry in CATALOGUE}  # the names that `palmier models` shows
    there = ", ".join(listed.get(one, one) for one in models) or "none"
    raise Refusal(f"{name} is no model in {workspace.models}; there: {there}{hint}")


def home_name(name: str) -> str:
    """The folder in the home that a name of the catalogue, a repository or a folder's name stands for."""
    entry = find(name)
    return entry.folder if entry is not None else name


def partial_folder(name: str, workspace: Workspace) -> Path:
    """Where a pull gathers its files until all are there, so that it can go on after a kill."""
    return workspace.models / f".pulling-{name.replace('/', '--')}"


def _from_catalogue(entry: Entry, workspace: Workspace) -> Path:
    if entry.embedded:
        from palmier.model.gguf import embedded_model

        return embedded_model(workspace)
    return _pulled(entry.name, workspace)


def _pulled(name: str, workspace: Workspace) -> Path:
    from palmier.models.pull import pull

    return pull(name, workspace)


def _model_in(folder: Path) -> Path | None:
    """The folder itself, or the last step of the run that it holds."""
    if (folder / "config.json").is_file():
        return folder
    return latest_step(folder) if (folder / "latest").is_file() else None


def _unknown(path: Path, name: str, workspace: Workspace) -> str:
    if path.is_file():
        return f"{path} is a file and no .gguf: give the folder that holds config.json and model.safetensors"
    if path.is_dir():
        return f"{path} is no model: it holds neither config.json nor a finished step of a run"
    known = [entry.name for entry in CATALOGUE] + [model.name for model in here(workspace)]
    near = difflib.get_close_matches(name.lower(), known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return (
        f"{name} is no model: {hint}give a name (`palmier models` lists them), a folder with config.json, a run's "
        "folder, a version, a .gguf file or a repository of the hub"
    )
