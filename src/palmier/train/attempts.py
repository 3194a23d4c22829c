"""The folders ``improve/NNNN``: begun whole, gone on with after a death, tidied when they have ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palmier.data.prompts import read_rankings, write_jsonl
from palmier.errors import Refusal
from palmier.feedback.rankings import clear
from palmier.feedback.split import by_prompt, check_enough
from palmier.feedback.store import Preference, open_store
from palmier.train.log import say
from palmier.versions import Version, Versions
from palmier.workspace import Workspace, read_json, write_json, write_whole

BEGUN, OUTCOME = "begun.json", "outcome.json"
POLICY, JUDGE = "policy.jsonl", "judge.jsonl"
"""The two halves of the rankings."""

USED = "used.json"
"""What the halves were made out of, as (kind, number) in the store: noted there when a version was made."""


class Withdrawn(Exception):
    """Some of what an improvement learns from may not be used any more."""


def begin(workspace: Workspace, base: str, judge_share: float, settings: Mapping[str, Any]) -> Path:
    """Choose the rankings and write the folder of a new improvement; ``base`` "" is the current version.

    Raises Refusal where no version answers and where the rankings are too few.
    """
    versions = Versions(workspace)
    current = versions.current()
    start = versions.get(base) if base else current
    if start is None:
        raise Refusal(
            f"{workspace.home} has no version that answers yet: run `palmier serve` once, or give --from VERSION"
        )
    preferences, without_consent = _read(workspace)
    given = [preference.ranking for preference in preferences]
    found = clear(given)
    check_enough(found, len(given), without_consent)
    halves = by_prompt(found.rankings, int(settings["seed"]), judge_share)
    chosen = {id(ranking) for ranking in (*halves.policy, *halves.judge)}
    used = [item for preference in preferences if id(preference.ranking) in chosen for item in preference.items]
    target = workspace.improve / _next_name(workspace)
    with write_whole(target) as folder:
        write_jsonl(folder / POLICY, halves.policy)
        write_jsonl(folder / JUDGE, halves.judge)
        write_json(folder / USED, used)
        begun = {"base": start.name, "current": (current or start).name, "settings": dict(settings)}
        write_json(folder / BEGUN, begun)
    return target


def unfinished(workspace: Workspace, settings: Mapping[str, Any], fresh: bool) -> Path | None:
    """The improvement that was begun and has not ended; None where there is none that may go on.

    One that used rankings whose consent is gone is dropped, as is any with ``fresh``. What an
    ended one left lying about is cleared. Raises Refusal where it was begun with other settings.
    """
    for folder in folders(workspace):
        if (folder / OUTCOME).is_file():
            tidy(folder)
        elif fresh:
            _set_aside(folder, workspace)
        else:
            _same_settings(folder, settings)
            try:
                check_allowed(folder, workspace)
            except Withdrawn:
                say(f"Improvement {folder.name} used rankings that were withdrawn: it is dropped, a new one begins")
                _set_aside(folder, workspace)
            else:
                return folder
    return None


def folders(workspace: Workspace) -> list[Path]:
    """Every improvement's folder, oldest first."""
    if not workspace.improve.is_dir():
        return []
    return sorted(path for path in workspace.improve.iterdir() if path.is_dir() and path.name.isdigit())


def tidy(folder: Path) -> None:
    """Leave of an ended improvement its outcome and the curves; rankings and weights go."""
    for part in sorted(folder.iterdir()):
        if part.is_dir():
            if (part / "metrics.jsonl").is_file():
                (part / "metrics.jsonl").replace(folder / f"{part.name}.metrics.jsonl")
            shutil.rmtree(part)
        elif part.name != OUTCOME and not part.name.endswith(".metrics.jsonl"):
            part.unlink()


def candidate(folder: Path, workspace: Workspace) -> Version | None:
    """The version that an improvement which died before its end has added already."""
    made = [version for version in Versions(workspace).all() if version.card.get("improve") == folder.name]
    return made[0] if made else None


def _set_aside(folder: Path, workspace: Workspace) -> None:
    """Drop an improvement that has not ended; a version that it had made stays, and what that one was made of is noted."""
    made = candidate(folder, workspace)
    if made is not None:
        note_uses(folder, workspace, made.name)
    drop(folder)


def drop(folder: Path) -> None:
    """Remove a folder so that no half of it is ever taken for a whole one."""
    doomed = folder.with_name(f".partial-{os.getpid()}-{time.monotonic_ns()}-{folder.name}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def drop_older_steps(last: Path) -> None:
    """A finished run's earlier steps hold gigabytes that nothing will go on from."""
    for step in last.parent.glob("step-*"):
        if step != last:
            drop(step)


def copy_model(source: Path, target: Path) -> None:
    """Put a model's files (without what only a trainer needs) whole into ``target``."""
    with write_whole(target) as folder:
        for path in source.iterdir():
            if path.is_file():
                shutil.copy2(path, folder / path.name)


def check_unused(workspace: Workspace, version: str) -> None:
    """Raise Refusal where an improvement that has not ended goes on from ``version``, or is compared with it."""
    for folder in folders(workspace):
        begun = read_json(folder / BEGUN) if not (folder / OUTCOME).is_file() else {}
        if version in (begun.get("base"), begun.get("current")):
            raise Refusal(
                f"improvement {folder.name} has not ended and needs version {version}: "
                "run `palmier improve` to its end first, with the settings that it was begun with"
            )


def _next_name(workspace: Workspace) -> str:
    """A number that no folder has and no version names, also where the folder was set aside."""
    made = [str(version.card.get("improve", "")) for version in Versions(workspace).all()]
    given = [int(name) for name in [*made, *(folder.name for folder in folders(workspace))] if name.isdigit()]
    return f"{max(given, default=0) + 1:04d}"


def _same_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    before = read_json(folder / BEGUN)["settings"]
    for key, value in settings.items():
        if before.get(key) != value:
            raise Refusal(
                f"improvement {folder.name} has not ended and was begun with {key} = {before.get(key)!r}, not {value!r}: "
                "give the same command again to go on with it, or --fresh to set it aside"
            )


def note_uses(folder: Path, workspace: Workspace, version: str) -> None:
    """Note in the store what a version was made out of; an improvement of an older Palmier has not kept it."""
    if not (folder / USED).is_file():
        return
    with contextlib.closing(open_store(workspace)) as store:
        store.note_uses(version, [(kind, number) for kind, number in read_json(folder / USED)])


def _read(workspace: Workspace) -> tuple[list[Preference], int]:
    """What may be learnt from, and how many rankings stand that may not: nobody agreed to their use."""
    with contextlib.closing(open_store(workspace)) as store:
        preferences = list(store.preferences())
        own = sum(kind == "ranking" for preference in preferences for kind, _ in preference.items)
        return preferences, store.count() - own


def check_allowed(folder: Path, workspace: Workspace) -> None:
    """Raise Withdrawn where a ranking that an improvement began with may not be learnt from any more."""
    with contextlib.closing(open_store(workspace)) as store:
        allowed = Counter(json.dumps(ranking.to_json()) for ranking in store.training_rankings())
    used = read_rankings(folder / POLICY) + read_rankings(folder / JUDGE)
    if not Counter(json.dumps(ranking.to_json()) for ranking in used) <= allowed:
        raise Withdrawn
