"""A small world, drawn from a seed: who lives in it, what lies about in it, and what is held out.

Every inventory is cut into three disjoint parts. ``train`` is what demonstrations and rankings are
about; ``validation`` is for choosing settings; ``test`` is read once, by the last comparison.
People, subjects and functions outside ``train`` appear nowhere else, not even in the pre-training
text; things appear in the pre-training text (where their facts must be learnt) and outside
``train`` in no demonstration and no ranking.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from palmier.demo import names
from palmier.demo.functions import FUNCTIONS, Function

Split = Literal["train", "validation", "test"]
Item = TypeVar("Item")

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


@dataclass(frozen=True)
class Parts(Generic[Item]):
    """One inventory, cut into three disjoint parts."""

    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]

    def part(self, split: Split) -> tuple[Item, ...]:
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def all(self) -> tuple[Item, ...]:
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class Thing:
    """An invented thing and its four facts."""

    name: str
    kind: str
    material: str
    use: str
    place: str


@dataclass(frozen=True)
class Person:
    """An inhabitant: where they live and what they do."""

    name: str
    town: str
    trade: str


@dataclass(frozen=True)
class World:
    """Everything that the texts, the requests and the judge know."""

    seed: int
    people: Parts[Person]
    subjects: Parts[str]
    things: Parts[Thing]
    functions: Parts[Function]


def rng(seed: int, *purpose: str | int) -> random.Random:
    """A generator for one purpose: the same (seed, purpose) draws the same, whatever else is drawn."""
    return random.Random("/".join(str(part) for part in (seed, *purpose)))


def create(seed: int) -> World:
    """The world of a seed; equal seeds give equal worlds."""
    draw = rng(seed, "world")
    people = [Person(name, draw.choice(names.TOWNS), draw.choice(names.TRADES)) for name in names.PEOPLE]
    things = [
        Thing(
            name,
            draw.choice(names.KINDS),
            draw.choice(names.MATERIALS),
            draw.choice(names.USES),
            draw.choice(names.PLACES),
        )
        for name in names.THING_NAMES
    ]
    return World(
        seed,
        _cut(people, draw),
        _cut(names.SUBJECTS, draw),
        _cut(things, draw),
        _cut_functions(draw),
    )


def _cut(items: Sequence[Item], draw: random.Random) -> Parts[Item]:
    """Shuffle and cut by SHARES."""
    shuffled = list(items)
    draw.shuffle(shuffled)
    first = round(len(shuffled) * SHARES["train"])
    second = first + round(len(shuffled) * SHARES["validation"])
    return Parts(tuple(shuffled[:first]), tuple(shuffled[first:second]), tuple(shuffled[second:]))


def _cut_functions(draw: random.Random) -> Parts[Function]:
    """Cut the composed functions; the single ones (nothing to compose them from) are all for training."""
    composed = [function for function in FUNCTIONS if function.composed]
    single = tuple(function for function in FUNCTIONS if not function.composed)
    parts = _cut(composed, draw)
    return Parts(parts.train + single, parts.validation, parts.test)
