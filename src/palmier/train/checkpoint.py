"""A run's folder: what makes a training run continue exactly where it stood.

``run.json`` (settings, libraries, threads, commit), ``step-N/`` (the model's folder, and in
``trainer/`` what only the trainer needs), ``metrics.jsonl``, and ``latest``, which names the
last whole step and is replaced last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from palmier import __version__
from palmier.errors import Refusal
from palmier.scale import runtime
from palmier.workspace import clear_leftovers, latest_step, read_json, sha256, write_json, write_text, write_whole

KEPT = 2
"""How many steps are kept behind the final one."""

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def settings_json(settings: Any) -> dict[str, Any]:
    """A stage's frozen Settings as JSON values, without ``out`` (a run's folder may be moved)."""
    values = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name != "out":
            values[field.name] = _json(value)
    return values


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, of a shards' folder's manifest (which carries its files' own), or of a model's weights."""
    if not path.is_dir():
        files = [path]
    elif (path / "manifest.json").is_file():
        files = [path / "manifest.json"]
    else:
        files = [path / "config.json", *sorted(path.glob("*.safetensors"))]
    digests = []
    for file in files:
        try:
            digests.append(sha256(file))
        except OSError as error:
            raise Refusal(f"{file} can not be read: {error.strerror}") from None
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a run's folder; raises Refusal where another living process trains in it."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(f"another process trains in {run}: wait for it, or choose another folder") from None
        yield


def finished(run: Path, stage: str, settings: Any) -> Path | None:
    """The finished model of a run with these very settings, or None where there is more to do.

    Clears what a dead process left half written. Raises Refusal where ``run`` was made with other settings or by another stage.
    """
    if not (run / "run.json").is_file():
        return None
    compare(run, stage, settings_json(settings), {})
    clear_leftovers(run)
    if not (run / "latest").is_file():
        return None
    folder = latest_step(run)
    return folder if read_json(folder / "trainer" / "state.json")["finished"] else None


def compare(run: Path, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    """Read run.json; raises Refusal with the first key in which it is not this run."""
    before: dict[str, Any] = read_json(run / "run.json")
    mend = "give the old value to go on, or another --out to begin anew"
    if before["stage"] != stage:
        raise Refusal(f"{run} is a run of {before['stage']}, not of {stage}: {mend}")
    for key in sorted({*before["settings"], *settings}):
        old, new = before["settings"].get(key), settings.get(key)
        if old != new:
            raise Refusal(f"{run} was begun with {key} = {old!r}, not {new!r}: {mend}")
    for key, digest in inputs.items():
        if before["inputs"].get(key) != digest:
            raise Refusal(f"{key} of {run} is no longer the file it was begun with: {mend}")
    return before


def describe(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str], **facts: Any) -> dict[str, Any]:
    """What run.json says."""
    versions = {"palmier": __version__, "torch": torch.__version__, "python": platform.python_version()}
    return {
        "stage": stage,
        "settings": dict(settings),
        "inputs": dict(inputs),
        "threads": runtime.threads(),
        "versions": versions,
        "commit": commit(),
        **facts,
    }


def save_step(
    run: Path, step: int, write_model: Callable[[Path], None], tensors: Mapping[str, Tensor], finished: bool
) -> Path:
    """Write ``step-N`` whole, then let ``latest`` name it, then drop older steps.

    Where it fails (a full disk) Refusal is raised and the step before is as it was. A
    finished run's last step carries no optimizer: nothing will go on from it.
    """
    target = run / f"step-{step}"
    with write_whole(target) as folder, _as_os_errors():
        write_model(folder)
        (folder / "trainer").mkdir()
        if not finished:
            save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "trainer" / "optimizer.safetensors")
        write_json(folder / "trainer" / "state.json", {"step": step, "finished": finished})
    write_text(run / "latest", target.name + "\n")
    _prune(run, step)
    return target


def load_step(folder: Path) -> tuple[int, dict[str, Tensor]]:
    """The step's number and the optimizer's tensors. Raises Refusal where they are damaged."""
    state = read_json(folder / "trainer" / "state.json")
    path = folder / "trainer" / "optimizer.safetensors"
    try:
        return int(state["step"]), load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise Refusal(f"{path} is damaged: {error}; name an earlier step in {folder.parent / 'latest'}") from None


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put the tokenizer and chat template of ``source`` into a model's folder, so that it is complete."""
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn the safetensors library's own error for a full disk into the system's, which write_whole explains."""
    try:
        yield
    except safetensors.SafetensorError as error:
        raise OSError(None, str(error)) from error
    except Refusal as refusal:
        if isinstance(refusal.__cause__, safetensors.SafetensorError):
            raise OSError(None, str(refusal.__cause__)) from refusal
        raise


def _prune(run: Path, last: int) -> None:
    steps = sorted(int(path.name[5:]) for path in run.glob("step-*") if path.name[5:].isdigit())
    for step in [step for step in steps if step < last][:-KEPT]:
        # Renamed first, so that a death in the middle leaves no half step behind.
        doomed = run / f".partial-{os.getpid()}-{time.monotonic_ns()}-step-{step}"
        (run / f"step-{step}").rename(doomed)
        shutil.rmtree(doomed)
    clear_leftovers(run)


def _json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_json(item) for item in value]
    return value


def commit() -> str | None:
    """The commit of the checkout that this code runs from, where it is one."""
    git, checkout = shutil.which("git"), Path(__file__).parents[3]
    if git is None or not (checkout / ".git").exists():
        return None
    command = [git, "-C", str(checkout), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
