"""A model from the hub into the home: safetensors and JSON alone, each file checked before it counts.

The hub's client says what a repository holds and carries the bytes; going on after a kill is done
here, because the client begins a file anew in every process. Files gather in a hidden folder of the
home, a file under way with the ending .part; when all are there and checked, the folder is renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from palmier.errors import Refusal
from palmier.models.catalogue import Entry, find
from palmier.models.names import REPOSITORY, SOURCE, partial_folder
from palmier.workspace import Workspace, read_json, write_json

PATTERNS = (
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""What is asked for beside the weights."""

WHOLE, PARTS = "model.safetensors", ("model.safetensors.index.json", "model-*-of-*.safetensors")
SECONDS = 15.0
"""How long the hub may take to say what a repository holds."""


@dataclass(frozen=True)
class Remote:
    """One file of a repository: its bytes, and the digest that its content must have.

    Large files have a SHA-256; the hub knows small ones by git's blob id (SHA-1 of a header and the content).
    """

    name: str
    size: int
    sha256: str | None
    blob: str | None

    def matches(self, path: Path) -> bool:
        """Whether a file on the disk is this one."""
        if path.stat().st_size != self.size:
            return False
        digest = (
            hashlib.sha256() if self.sha256 else hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)
        )
        with path.open("rb") as handle:
            while piece := handle.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest() == (self.sha256 or self.blob)


def pull(name: str, workspace: Workspace | None = None) -> Path:
    """The folder of a model, fetched from the hub where it is not in the home yet.

    ``name`` is one of the catalogue or a repository (``owner/name``). What an interrupted pull
    fetched is kept and gone on from. Raises Refusal: no such name or repository, no network, a
    licence to accept first, a kind of model that the decoder does not read, a wrong checksum.
    """
    workspace = workspace or Workspace.default()
    entry = find(name)
    target = workspace.models / (entry.folder if entry else name)
    if (target / "config.json").is_file():
        return target
    if entry is not None and entry.embedded:
        from palmier.model.gguf import embedded_model

        return embedded_model(workspace)
    repository = entry.repository if entry else name
    if not REPOSITORY.fullmatch(repository):
        raise Refusal(f"{name} is unknown: `palmier models` lists the names, or give a repository as owner/name")
    partial = partial_folder(target.relative_to(workspace.models).as_posix(), workspace)
    with _alone(partial, name):
        if (target / "config.json").is_file():  # another process has just finished it
            return target
        with _explained(repository), _quietly():
            commit, files = _contents(repository)
            _gather(repository, commit, files, partial, entry)
        _finish(partial, target, repository, commit, files, entry)
    return target


def _contents(repository: str) -> tuple[str, list[Remote]]:
    """The commit that the branch main is at, and the files of it that are asked for."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=_endpoint()).model_info(repository, revision="main", timeout=SECONDS, files_metadata=True)
    siblings = {one.rfilename: one for one in info.siblings or []}
    weights = [WHOLE] if WHOLE in siblings else [n for n in siblings if any(fnmatchcase(n, p) for p in PARTS)]
    wanted = [n for n in siblings if "/" not in n and (n in weights or any(fnmatchcase(n, p) for p in PATTERNS))]
    if "config.json" not in wanted or not weights:
        raise Refusal(f"{repository} holds no config.json with safetensors: Palmier reads nothing else from the hub")
    files = []
    for name in sorted(wanted):
        one = siblings[name]
        size = one.lfs.size if one.lfs else one.size
        if info.sha is None or size is None or not (one.lfs or one.blob_id):
            raise Refusal(f"{repository}: the hub does not say how {name} can be checked, so it is not fetched")
        files.append(Remote(name, size, one.lfs.sha256 if one.lfs else None, one.blob_id))
    # The shape comes first: what the decoder can't read is refused before its weights are fetched.
    files.sort(key=lambda file: (file.name != "config.json", file.size))
    return str(info.sha), files


def _gather(repository: str, commit: str, files: list[Remote], partial: Path, entry: Entry | None) -> None:
    """Have every file in ``partial``; what is there already, from this commit, is kept."""
    mark = partial / SOURCE
    if not mark.is_file() or read_json(mark).get("commit") != commit:
        for path in partial.iterdir():
            path.unlink()
        write_json(mark, {"from": "hub", "repository": repository, "commit": commit})
    lacking = sum(file.size for file in files if not (partial / file.name).is_file())
    lacking -= sum(path.stat().st_size for path in partial.glob("*.part"))
    free = shutil.disk_usage(partial).free
    if lacking > free:
        raise Refusal(f"{repository} needs {lacking / 1e9:.1f} GB and {free / 1e9:.1f} GB are free in {partial.parent}")
    licence = f", {entry.licence}" if entry else ""
    print(f"Fetching {repository} ({sum(file.size for file in files) / 1e9:.2f} GB{licence})", file=sys.stderr)
    for file in files:
        if not (partial / file.name).is_file():
            _fetch(repository, commit, file, partial)
        if file.name == "config.json":
            _check_shape(partial)


def _check_shape(partial: Path) -> None:
    """Refuse a model that the decoder does not read, and keep nothing of it."""
    from palmier.model.checkpoint import load_config

    try:
        load_config(partial)
    except Refusal:
        shutil.rmtree(partial)
        raise


def _fetch(repository: str, commit: str, file: Remote, partial: Path) -> None:
    """One file, from where an earlier try ended; it gets its name when its digest is right."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported, but not in __all__

    part = partial / f"{file.name}.part"
    url = hf_hub_url(repository, file.name, revision=commit, endpoint=_endpoint())
    with part.open("ab") as handle:
        if handle.tell() > file.size:
            handle.truncate(0)
        http_get(
            url,
            handle,
            resume_size=handle.tell(),
            headers=build_hf_headers(),
            expected_size=file.size,
            displayed_filename=file.name,
        )
        handle.flush()
        os.fsync(handle.fileno())
    if not file.matches(part):
        part.unlink()
        raise Refusal(
            f"{repository}: {file.name} arrived otherwise than the hub says it is (its checksum is wrong); "
            "it was thrown away: try again"
        )
    part.rename(partial / file.name)


def _finish(
    partial: Path, target: Path, repository: str, commit: str, files: list[Remote], entry: Entry | None
) -> None:
    """Give the whole folder its name, after what it is has been written beside it."""
    digests = {file.name: file.sha256 or f"git {file.blob}" for file in files}
    source = {"from": "hub", "repository": repository, "commit": commit, "licence": entry.licence if entry else None}
    write_json(partial / SOURCE, source | {"files": digests})
    for path in partial.iterdir():
        if path.name not in digests and path.name != SOURCE:
            path.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(target)


@contextlib.contextmanager
def _alone(partial: Path, name: str) -> Iterator[None]:
    """Hold the model's own lock; raises Refusal where another process fetches the same model."""
    partial.mkdir(parents=True, exist_ok=True)
    lock = partial.with_name(f"{partial.name}.lock")
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(f"{name} is being fetched by another process: wait for it") from None
        if not os.fstat(handle.fileno()).st_nlink:  # opened while its last holder removed it
            raise Refusal(f"{name} was being fetched by another process, which has just ended: try again")
        partial.mkdir(exist_ok=True)  # the process before may have renamed it
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # an empty folder says nothing: a refused name leaves no trace
                partial.rmdir()
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what to do."""
    from huggingface_hub import errors

    host = _endpoint() or "huggingface.co"
    try:
        yield
    except errors.GatedRepoError:
        raise Refusal(
            f"{repository} is gated: accept its licence at https://huggingface.co/{repository}, make a token "
            "in your settings there, and set HF_TOKEN to it"
        ) from None
    except errors.RepositoryNotFoundError:
        raise Refusal(
            f"{repository} is neither a folder here nor a repository that {host} shows you: check the name, "
            "or set HF_TOKEN where it is private"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise Refusal(f"{repository} is not here and HF_HUB_OFFLINE is set: unset it to fetch the model") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no")
        raise Refusal(f"{host} refused {repository} (HTTP {status}): try again later") from None
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # the transport's base class, which it re-exports
        if "Connect" in type(error).__name__:
            raise Refusal(
                f"{repository} is not here and {host} can't be reached: connect to a network, or take a model that is "
                "here (`palmier models` lists them)"
            ) from None
        raise Refusal(_broken_off(repository, host)) from None
    except ValueError:
        raise Refusal(f"{host} did not answer as a hub does: is there a login page between, or a proxy?") from None
    except OSError as error:
        # The client raises a bare one where fewer bytes came than were promised; others are the disk's.
        if error.errno is None:
            raise Refusal(_broken_off(repository, host)) from None
        raise Refusal(f"{repository} can't be written into the home: {error.strerror}") from None


def _broken_off(repository: str, host: str) -> str:
    return (
        f"{host} broke off in the midst of {repository}; what has arrived is kept: the same command goes on from there"
    )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Let the hub's client try again without a word for each try; what remains is said once, by `_explained`."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _endpoint() -> str | None:
    """The hub's address where it is not the usual one."""
    return os.environ.get("HF_ENDPOINT") or None
