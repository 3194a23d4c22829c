"""`palmier improve | versions | versions rm | promote | rollback`: from rankings to the version that answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cyclopts

from palmier.cli.options import Option, options, take
from palmier.versions import Version, Versions
from palmier.workspace import Workspace

if TYPE_CHECKING:
    from palmier.train.improve import Outcome

versions_app = cyclopts.App(name="versions", help="List the versions, or delete one.")

OWN = {
    "home": Option(Path | None, None, "folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier"),
    "fresh": Option(bool, False, "set an improvement aside that did not end, and begin anew"),
}


def __getattr__(name: str) -> cyclopts.App:
    """`palmier improve`, built out of its Settings when it is asked for."""
    if name != "improve":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    command: cyclopts.App = globals().setdefault(name, improve_command())
    return command


def improve_command() -> cyclopts.App:
    """A command whose options are the fields of the Settings of ``train/improve.py``."""
    from palmier.train import improve as stage

    def command(home: Path | None = None, fresh: bool = False, **values: Any) -> int:
        return finish(stage.run(stage.Settings(Workspace.at(home).home, **values), fresh=fresh))

    app = cyclopts.App(name="improve", result_action="return_value")
    app.default(take(command, options(stage.Settings, own=OWN, called={"base": "--from"})))
    return app


def finish(outcome: Outcome) -> int:
    """Say how it ended and what to do next; returns the exit status."""
    print(_sentence(outcome.sentence))
    if outcome.promoted:
        print(f"Version {outcome.version} answers now; a running `palmier serve` follows within seconds.")
        print("Back to the one before: palmier rollback")
    elif outcome.version:
        print(f"Version {outcome.version} is kept. Try it: choose it in the chat, or palmier promote {outcome.version}")
    if not outcome.version:
        return 1
    print("Its reward model sorts answers: palmier reward score FILE --model reward --sort --best 1")
    return 0


@versions_app.default
def versions(*, home: Path | None = None) -> None:
    """List the versions, oldest first; * marks the one that answers.

    `palmier versions rm VERSION` deletes one.

    Parameters
    ----------
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    known = Versions(Workspace.at(home))
    every, current = known.all(), known.current()
    if not every:
        print("There is no version yet: palmier serve makes the first.")
    for version in every:
        mark = "*" if current is not None and version.name == current.name else " "
        made = str(version.card.get("created", ""))[:16].replace("T", " ")
        print(f"{mark} {version.name}  {made}  {version.label}")
        for line in (_made_by(version, every), _won(version), _sentence(version.card.get("verdict"))):
            if line:
                print(f"        {line}")


@versions_app.command(name="rm")
def remove(version: str, *, home: Path | None = None) -> None:
    """Delete a version's folder for good. The one that answers stays, and so do answers and rankings.

    Parameters
    ----------
    version
        Its number, as `palmier versions` lists it; it is never given again.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.train.attempts import check_unused

    workspace = Workspace.at(home)
    known = Versions(workspace)
    label = known.get(version).label
    with workspace.exclusively("palmier versions rm"):
        check_unused(workspace, version)
        freed = known.remove(version)
    print(f"Version {version} ({label}) is deleted: {freed / 1e6:,.1f} MB are free again.")
    print("Its answers and rankings stay as they are.")


def promote(version: str, *, home: Path | None = None) -> None:
    """Let a version answer from now on; a running server follows within seconds.

    Parameters
    ----------
    version
        Its number, as `palmier versions` lists it.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.serve.loading import check

    versions = Versions(Workspace.at(home))
    check(versions.get(version).folder)
    promoted = versions.promote(version)
    print(f"Version {promoted.name} ({promoted.label}) answers now. Back to the one before: palmier rollback")


def rollback(*, home: Path | None = None) -> None:
    """Let the version before the current one answer again.

    Parameters
    ----------
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    version = Versions(Workspace.at(home)).rollback()
    print(f"Version {version.name} ({version.label}) answers again.")


def _sentence(text: Any) -> str:
    return "" if not text else str(text)[:1].upper() + str(text)[1:].rstrip(".") + "."


def _made_by(version: Version, every: list[Version]) -> str:
    """What it was made from and by what; of the settings those that not all versions of its name share."""
    card = version.card
    said = [f"from {card['parent']}"] if card.get("parent") else []
    if card.get("improve"):
        said.append(f"improve {card['improve']}")
    if card.get("rankings"):
        said.append(f"{card['rankings']} rankings")
    namesakes = [other.card.get("settings", {}) for other in every if other.label == version.label]
    for key, value in card.get("settings", {}).items():
        if any(other.get(key) != value for other in namesakes):
            said.append(f"{key} {value}")
    return ", ".join(said)


def _won(version: Version) -> str:
    """The win rate against the version it was compared with, with its interval."""
    evidence = version.card.get("evidence")
    if not isinstance(evidence, dict):
        return ""
    rate = evidence["win_rate"]
    return (
        f"won {rate['mean']:.0%} against {version.card.get('compared_with')} ({rate['low']:.0%} … {rate['high']:.0%})"
    )
