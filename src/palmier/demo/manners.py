"""How people write: four characters of demonstrators, and the phrases by which manners show.

Most demonstrators are mediocre on purpose (curt, wordy or rude; one in five is careful), so that
imitation alone does not end in good manners and rankings have something to say.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Character:
    """How likely a demonstrator of this sort does each thing; shares, 0 … 1."""

    share: float
    """How many demonstrators are of this sort."""
    heading: float
    """A subject line over an e-mail, a docstring in a function."""
    greeting: float
    """A proper greeting, not the bare name."""
    thanks: float
    """A warm word."""
    closing: float
    """A closing line."""
    wordy: float
    rude: float
    missing: float
    """Leaves out one of several points."""
    wrong: float
    """A fact wrong."""
    bug: float
    """A function that does something else."""


CHARACTERS = {
    "careful": Character(0.20, 0.90, 0.95, 0.90, 0.95, 0.05, 0.00, 0.05, 0.02, 0.05),
    "curt": Character(0.42, 0.15, 0.10, 0.08, 0.12, 0.02, 0.02, 0.25, 0.04, 0.12),
    "wordy": Character(0.23, 0.45, 0.80, 0.40, 0.50, 0.95, 0.02, 0.15, 0.05, 0.12),
    "rude": Character(0.15, 0.10, 0.15, 0.00, 0.08, 0.25, 0.95, 0.30, 0.06, 0.20),
}


@dataclass(frozen=True)
class Manner:
    """What one demonstrator does in one answer."""

    heading: bool
    greeting: bool
    thanks: bool
    closing: bool
    wordy: bool
    rude: bool
    missing: bool
    wrong: bool
    bug: bool


IDEAL = Manner(True, True, True, True, wordy=False, rude=False, missing=False, wrong=False, bug=False)
"""The manner of an answer that nothing is wrong with."""


def draw_manner(draw: random.Random) -> Manner:
    """One demonstrator's manner."""
    sorts = list(CHARACTERS.values())
    who = draw.choices(sorts, [sort.share for sort in sorts])[0]
    chances = (
        who.heading,
        who.greeting,
        who.thanks,
        who.closing,
        who.wordy,
        who.rude,
        who.missing,
        who.wrong,
        who.bug,
    )
    return Manner(*(draw.random() < chance for chance in chances))


RUDE_TO_ADULTS = (
    "Do not waste my time again.",
    "Hurry up for once.",
    "I want no excuses.",
    "You forgot it, as always.",
)
RUDE_TO_CHILDREN = (
    "Everybody knows that.",
    "Do not ask such silly things.",
    "You should know that by now.",
)
RUDE_REMARKS = ("any fool can write this", "learn it for once", "do not ask me again")

_RUDE_SIGNS = (
    "waste my time",
    "hurry up",
    "excuses",
    "as always",
    "everybody knows",
    "silly",
    "should know that",
    "fool",
    "for once",
    "do not ask",
    "stupid",
    "lazy",
    "idiot",
)
_WARM_SIGNS = ("thank you", "thanks", "please", "good question", "ask me", "happy to", "i hope")


def is_rude(text: str) -> bool:
    """Whether a rude phrase stands in the text."""
    lowered = text.lower()
    return any(sign in lowered for sign in _RUDE_SIGNS)


def is_warm(text: str) -> bool:
    """Whether a kind word stands in the text."""
    lowered = text.lower()
    return any(sign in lowered for sign in _WARM_SIGNS)
