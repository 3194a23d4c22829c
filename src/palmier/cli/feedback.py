"""`palmier feedback …` and `palmier reward score`: numbers, files in the field's forms, answers in order."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts

from palmier.workspace import Workspace

feedback_app = cyclopts.App(
    name="feedback", help="What people said of answers: numbers, and files in the field's forms."
)


@feedback_app.command
def export(
    out: Path,
    *,
    format: Literal["rankings", "preference", "unpaired", "messages"] = "rankings",
    home: Path | None = None,
) -> None:
    """Write what may be used (consent given, not withdrawn) as JSONL, a line a thing.

    Parameters
    ----------
    out
        The file to write.
    format
        rankings: every preference in our own form, what `palmier reward train` and `palmier dpo` read;
        preference: pairs {prompt, chosen, rejected}; unpaired: thumbs {prompt, completion, label};
        messages: better answers {messages}, what `palmier sft` reads.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.data.prompts import write_jsonl
    from palmier.feedback.formats import lines
    from palmier.feedback.store import open_store

    store = open_store(Workspace.at(home), new=False)
    count = write_jsonl(out, lines(store, format))
    print(f"{count} lines written to {out}; what came without consent, or was taken back, is left out")


@feedback_app.command(name="import")
def import_feedback(
    file: Path,
    *,
    consent: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    annotator: str | None = None,
    home: Path | None = None,
) -> None:
    """Take feedback from a JSONL file (or .jsonl.gz) into the store; the same thing twice counts once.

    Each line is a ranking, {prompt, chosen, rejected}, {prompt, completion, label}, {messages}, or one
    of Open-Assistant's trees.

    Parameters
    ----------
    file
        The file; where a line is wrong, nothing of it is taken.
    consent
        You state that the people whose feedback this is agreed that it is used for training. Without
        it the feedback is kept, but nothing is trained with that of people who have not agreed. Whoever
        said no stays with it.
    annotator
        Whose it is, where the file does not say. By default a name made of the file's name and content:
        what is stated of one file says nothing of another.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.feedback.formats import name_of, take
    from palmier.feedback.store import open_store

    store = open_store(Workspace.at(home))
    taken = take(store, file, annotator or (name_of(file) if file.is_file() else file.name))
    unwilling = {name for name in taken.annotators if store.consented(name)[0] is False}
    if consent:
        for name in sorted(taken.annotators - unwilling):
            store.set_consent(
                name, True, f"Stated by whoever imported {file.name}: the people whose feedback it is agreed."
            )
    usable = sum(1 for _ in store.preferences())
    print(
        f"{taken.fresh} of {taken.total} were new; of all preferences, {usable} may be used for training"
        + f"; lines that held nothing to learn from: {taken.empty}" * (taken.empty > 0)
        + f"; said no before, which stays: {', '.join(sorted(unwilling))}" * (consent and bool(unwilling))
    )


@feedback_app.command
def stats(*, home: Path | None = None) -> None:
    """Show who said how much, who consented, and how far people agree.

    Parameters
    ----------
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from rich.console import Console
    from rich.table import Table

    from palmier.feedback.consent import WORDING
    from palmier.feedback.rankings import agreement, clear
    from palmier.feedback.store import KINDS, open_store

    store = open_store(Workspace.at(home), new=False)
    table = Table("annotator", "rankings", "thumbs", "better answers", "consent")
    words = {True: "yes", False: "no", None: "not asked"}
    for name in store.annotators():
        granted, wording = store.consented(name)
        answer = "to rankings alone" if granted and wording < WORDING else words[granted]
        counts = (store.count(name, kind) for kind in KINDS)
        table.add_row(name or "(no name)", *map(str, counts), answer)
    rankings = store.training_rankings()
    found, agreed = clear(rankings), agreement(rankings)
    console = Console(highlight=False)
    console.print(table)
    said = {"ranking": "rankings", "label": "thumbs", "demonstration": "better answers"}
    console.print(
        ", ".join(f"{store.usable(kind)} of {store.count(kind=kind)} {said[kind]}" for kind in KINDS)
        + " may be used for training."
    )
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
