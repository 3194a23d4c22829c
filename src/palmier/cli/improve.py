"""`palmier improve | versions | promote | rollback`: from rankings to the version that answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from palmier.versions import Version, Versions
from palmier.workspace import Workspace


def improve(  # size: the docstring is the command's --help, a line or two a setting
    *,
    base: Annotated[str, Parameter(name="--from")] = "",
    method: Literal["dpo", "ppo"] = "dpo",
    judge: str = "none",
    lr: float = 0.0,
    reward_lr: float = 0.0,
    beta: float = 0.1,
    epochs: int = 0,
    answers: int = 0,
    seed: int = 0,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    fresh: Annotated[bool, Parameter(negative="")] = False,
    home: Path | None = None,
) -> int:
    """Make a better version out of the rankings; it answers only where it is shown to be better.

    Trains a reward model, moves the version by the rankings, lets old and new answer prompts that
    were held out, and promotes by a judge that did not train it. Stopped or killed, the same
    command goes on where it was.

    Parameters
    ----------
    base
        The version to start from; by default the one that answers now.
    method
        How to move it: dpo (by the rankings directly) or ppo (by the reward model; several times as long).
    judge
        A program that judges, module:function or file.py:function, called with a conversation and an
        answer and giving a number. none: a reward model from half of the rankings, the other half of
        which moves the version.
    lr
        Peak learning rate; 0 chooses by the model's size.
    reward_lr
        Peak learning rate of the reward models; 0 chooses by the model's size.
    beta
        How strongly DPO holds to the version that it starts from.
    epochs
        How often DPO sees each ranking; 0 chooses by how many there are.
    answers
        Answers of each version to each held-out prompt; 0 chooses by how many prompts there are.
    seed
        Decides the split, the orders and the draws.
    precision
        Number format of the computation; auto is bf16 where the processor multiplies it.
    fresh
        Set an improvement aside that did not end, and begin anew.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.train import improve as stage

    workspace = _workspace(home)
    settings = stage.Settings(
        home=workspace.home,
        base=base,
        method=method,
        judge=judge,
        lr=lr,
        reward_lr=reward_lr,
        beta=beta,
        epochs=epochs,
        answers=answers,
        seed=seed,
        precision=precision,
    )
    outcome = stage.run(settings, fresh=fresh)
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


def versions(*, home: Path | None = None) -> None:
    """List the versions, oldest first; * marks the one that answers.

    Parameters
    ----------
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from rich.console import Console
    from rich.table import Table

    known = Versions(_workspace(home))
    every, current = known.all(), known.current()
    console = Console(highlight=False)
    if not every:
        console.print("There is no version yet: palmier serve makes the first.")
        return
    table = Table("", "version", "name", "from", "made", "won", "verdict")
    for version in every:
        mark = "*" if current is not None and version.name == current.name else ""
        parent, made = version.card.get("parent") or "", str(version.card.get("created", ""))[:16].replace("T", " ")
        table.add_row(
            mark, version.name, version.label, parent, made, _won(version), _sentence(version.card.get("verdict"))
        )
    console.print(table)


def promote(version: str, *, home: Path | None = None) -> None:
    """Let a version answer from now on; a running server follows within seconds.

    Parameters
    ----------
    version
        Its number, as `palmier versions` lists it.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    promoted = Versions(_workspace(home)).promote(version)
    print(f"Version {promoted.name} ({promoted.label}) answers now. Back to the one before: palmier rollback")


def rollback(*, home: Path | None = None) -> None:
    """Let the version before the current one answer again.

    Parameters
    ----------
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    version = Versions(_workspace(home)).rollback()
    print(f"Version {version.name} ({version.label}) answers again.")


def _workspace(home: Path | None) -> Workspace:
    return Workspace(home.expanduser()) if home else Workspace.default()


def _sentence(text: Any) -> str:
    return "" if not text else str(text)[:1].upper() + str(text)[1:].rstrip(".") + "."


def _won(version: Version) -> str:
    """The win rate against the version it was compared with, with its interval."""
    evidence = version.card.get("evidence")
    if not isinstance(evidence, dict):
        return ""
    rate = evidence["win_rate"]
    return f"{rate['mean']:.0%} of {version.card.get('compared_with')} ({rate['low']:.0%} … {rate['high']:.0%})"
