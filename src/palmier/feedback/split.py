"""Rankings in two halves that share no prompt: what moves the policy never taught its judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palmier.data.shards import share
from palmier.errors import Refusal
from palmier.feedback.rankings import Clear
from palmier.records import Conversation, Ranking

NEEDED = 20
"""Prompts with a clear order that a first `palmier improve` needs; 100 make a result likely."""

NEEDED_IN_EACH = 6
"""… and in each half: fewer prompts can't give an interval that lies above chance."""


@dataclass(frozen=True)
class Halves:
    """``policy`` moves the model; ``judge`` teaches the judge, and its prompts are the held-out ones."""

    policy: list[Ranking]
    judge: list[Ranking]


def by_prompt(rankings: Sequence[Ranking], seed: int, judge_share: float) -> Halves:
    """Split by a seeded hash of the prompt, which therefore falls to the same half in every later run.

    Prompts that differ in case and white space alone count as one. Raises Refusal where a half
    has fewer than ``NEEDED_IN_EACH`` different prompts.
    """
    sides: tuple[list[Ranking], list[Ranking]] = ([], [])
    for ranking in rankings:
        sides[share(prompt_key(ranking.conversation), seed) < judge_share].append(ranking)
    for side, part, what in ((sides[0], 1 - judge_share, "to learn from"), (sides[1], judge_share, "to judge by")):
        count = len({ranking.conversation for ranking in side})
        if count < NEEDED_IN_EACH:
            more = round((NEEDED_IN_EACH - count) / part)
            raise Refusal(
                f"improve needs {NEEDED_IN_EACH} prompts {what} and has {count}: rank answers to about {more} more prompts"
            )
    return Halves(*sides)


def prompt_key(conversation: Conversation) -> str:
    """What makes two prompts the same: roles and words, whatever their case and white space."""
    return "\x1e".join(f"{m.role}\x1f{' '.join(m.content.split()).casefold()}" for m in conversation.messages)


def check_enough(found: Clear, given: int, without_consent: int) -> None:
    """Raise Refusal, with the number needed and what is wrong with those there are, where they are too few."""
    if found.prompts >= NEEDED:
        return
    why = []
    if found.tied:
        why.append(f"{found.tied} of ties alone")
    if found.undone:
        why.append(f"{found.undone} contradicting each other")
    if without_consent:
        why.append(f"{without_consent} more without consent")
    raise Refusal(
        f"improve needs rankings of {NEEDED} different prompts with a clear order and has {found.prompts}, out of {given} "
        f"ranking{'s' * (given != 1)}{' (' + ', '.join(why) + ')' if why else ''}: rank more answers at /rank"
    )
