"""`palmier feedback …` and `palmier reward score`: look at rankings, export them, sort answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from palmier.workspace import Workspace

if TYPE_CHECKING:
    from palmier.feedback.store import Store

feedback_app = cyclopts.App(name="feedback", help="Look at and export the rankings.")


def open_store(home: Path | None) -> Store:
    """The store of a home; raises Refusal where there is none yet."""
    from palmier.errors import Refusal
    from palmier.feedback.store import Store

    workspace = Workspace(home.expanduser()) if home else Workspace.default()
    if not workspace.store.is_file():
        raise Refusal(f"{workspace.home} holds no feedback yet: run `palmier serve` and rank answers at /rank")
    return Store(workspace.store)


@feedback_app.command
def export(out: Path, *, home: Path | None = None) -> None:
    """Write the rankings that may be used (consent given, not withdrawn) as JSONL.

    Parameters
    ----------
    out
        The file to write, a line a ranking: what `palmier reward train` and `palmier dpo` read.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.data.prompts import write_jsonl

    store = open_store(home)
    count = write_jsonl(out, store.training_rankings())
    every = store.count()
    print(f"{count} of {every} rankings written to {out}" + "; the others came without consent" * (count < every))


@feedback_app.command(name="import")
def import_rankings(
    file: Path, *, consent: Annotated[bool, cyclopts.Parameter(negative="")] = False, home: Path | None = None
) -> None:
    """Take rankings from a JSONL file into the store; the same ranking twice counts once.

    Parameters
    ----------
    file
        JSONL as `palmier feedback export` writes it.
    consent
        You state that the people who ranked agreed that their rankings are used for training. Without
        it the rankings are kept, but nothing is trained with those of people who have not agreed.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    import hashlib

    from palmier.data.prompts import read_rankings
    from palmier.feedback.store import Store

    rankings = read_rankings(file)
    workspace = Workspace(home.expanduser()) if home else Workspace.default()
    store = Store(workspace.store)
    before = store.count()
    for ranking in rankings:
        content = json.dumps(ranking.to_json(), sort_keys=True)
        store.add_ranking(ranking, "imported " + hashlib.sha256(content.encode()).hexdigest())
    if consent:
        for annotator in sorted({ranking.annotator for ranking in rankings}):
            store.set_consent(annotator, True, f"Stated by whoever imported {file.name}: the people who ranked agreed.")
    usable = len(store.training_rankings())
    print(f"{store.count() - before} of {len(rankings)} rankings were new; {usable} in all may be used for training")


@feedback_app.command
def stats(*, home: Path | None = None) -> None:
    """Show who ranked how much, who consented, and how far people agree.

    Parameters
    ----------
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from rich.console import Console
    from rich.table import Table

    from palmier.feedback.rankings import agreement, clear

    store = open_store(home)
    table = Table("annotator", "rankings", "consent")
    words = {True: "yes", False: "no", None: "not asked"}
    for name in store.annotators():
        table.add_row(name or "(no name)", str(store.count(name)), words[store.consent(name)])
    rankings = store.training_rankings()
    found, agreed = clear(rankings), agreement(rankings)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(rankings)} of {store.count()} rankings may be used for training.")
    console.print(f"{found.prompts} prompts with a clear order; {found.tied} rankings are ties alone.")
    if found.pairs:
        console.print(f"{found.contradicted} of {found.pairs} pairs of answers were ordered both ways.")
    if agreed.total:
        console.print(f"Two people agree on {agreed.share:.0%} of {agreed.total} pairs.")


def reward_score(
    file: Path,
    *,
    model: str,
    sort: bool = False,
    best: int = 0,
    out: Annotated[Path | None, cyclopts.Parameter(name=["--out", "-o"])] = None,
) -> None:
    """Score answers by a reward model or a program, sort them by preference, keep the best.

    Parameters
    ----------
    file
        JSONL of {"messages": […], "answers": [text, …]} or of rankings.
    model
        A reward model (a folder, a run, or a name in the home), or a program: module:function.
    sort
        Put each line's answers in order, best first.
    best
        Keep this many of each line's answers, the best; 0 keeps all.
    out
        The file to write; by default the lines go to the terminal.
    """
    from rich.console import Console

    from palmier.data.prompts import write_jsonl
    from palmier.feedback.reward import load_reward_spec
    from palmier.feedback.scoring import Agreed, read_answered, score_lines

    lines = read_answered(file)
    agreed = Agreed()
    reward = load_reward_spec(model)
    scored = _with_progress(score_lines(reward, lines, sort=sort, best=best, agreed=agreed), len(lines), out is None)
    console = Console(stderr=True, highlight=False)
    if out is None:
        for line in scored:
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    else:
        console.print(f"{write_jsonl(out, scored)} lines written to {out}")
    if agreed.pairs:
        console.print(
            f"{agreed.right / agreed.pairs:.1%} of {agreed.pairs} pairs are in the order that people gave them"
        )


def _with_progress(lines: Iterable[dict[str, Any]], total: int, quiet: bool) -> Iterable[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    return track(lines, "Scoring", total, console=Console(stderr=True), transient=True, disable=quiet)
