"""Explanations of invented things to a child; their facts stand in the pre-training text alone."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Protocol

from palmier.demo import names
from palmier.demo.manners import RUDE_TO_CHILDREN, Manner

ASPECTS = ("material", "use", "place")


class KnownThing(Protocol):
    """What is known of a thing."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def material(self) -> str: ...
    @property
    def use(self) -> str: ...
    @property
    def place(self) -> str: ...


@dataclass(frozen=True)
class ExplanationTask:
    """A request to explain a thing to a child; ``facts`` maps the aspects asked for to the truth."""

    prompt: str
    thing: str
    facts: dict[str, str]
    """Always "kind"; one or two of ASPECTS beside it."""
    others: dict[str, str]
    """The thing's facts that were not asked for: true if mentioned, not missed if not."""
    kind: str = "explanation"


_QUESTIONS = {
    "material": ("what it is made of", "what people make it of"),
    "use": ("what it is for", "what people use it for"),
    "place": ("where one finds it", "where it is found"),
}
_SAID = {
    "material": ("It is made of {}.", "People make it of {}."),
    "use": ("People use it to {}.", "It is there to {}."),
    "place": ("You can find it in {}.", "It is found in {}."),
}
_HARD = {
    "material": "Its principal component is manufactured of {}.",
    "use": "Its predominant application is to {}.",
    "place": "It is approximately always encountered in {}.",
}
_KIND_ENDS = ("Ask me if you want to know more!", "That was a good question!", "I hope you get to see one!")
_FILLERS = (
    "Well, this is something that one could talk about for a whole day.",
    "Many people have wondered about this before you, and many more will.",
)
HARD_WORDS = ("principal", "component", "manufactured", "predominant", "application", "approximately", "encountered")


def draw_explanation(draw: random.Random, things: tuple[KnownThing, ...]) -> ExplanationTask:
    """A request in one of many wordings."""
    thing = draw.choice(things)
    asked = draw.sample(ASPECTS, draw.choice((1, 2, 2)))
    facts = {"kind": thing.kind} | {aspect: _fact(thing, aspect) for aspect in asked}
    others = {aspect: _fact(thing, aspect) for aspect in ASPECTS if aspect not in asked}
    return ExplanationTask(_wording(draw, thing.name, asked), thing.name, facts, others)


def _fact(thing: KnownThing, aspect: str) -> str:
    return {"material": thing.material, "use": thing.use, "place": thing.place}[aspect]


def _wording(draw: random.Random, thing: str, asked: list[str]) -> str:
    also = " and ".join(draw.choice(_QUESTIONS[aspect]) for aspect in asked)
    child = draw.choice(("a child", "a small child", "my daughter", "my son", "a six-year-old"))
    return draw.choice(
        (
            f"Explain to {child} what a {thing} is, and {also}.",
            f"What is a {thing}? Answer for {child}, and say {also}.",
            f"Tell {child} what a {thing} is and {also}.",
            f"Please explain a {thing} to {child}. Say also {also}.",
            f"Can you tell {child} about the {thing}: what it is, {also}?",
            f"How would you explain a {thing} to {child}? Mention {also}.",
        )
    )


def demonstrate_explanation(task: ExplanationTask, manner: Manner, draw: random.Random) -> str:
    """One person's explanation."""
    facts = dict(task.facts)
    asked = [aspect for aspect in facts if aspect != "kind"]
    if manner.missing:
        facts.pop(draw.choice(asked))
    if manner.wrong:
        aspect = draw.choice(list(facts))
        facts[aspect] = draw.choice(LEXICONS[aspect])
    sentences = [f"A {task.thing} is a {facts.pop('kind')}."]
    for aspect, fact in facts.items():
        said = _HARD[aspect] if manner.wordy and draw.random() < 0.7 else draw.choice(_SAID[aspect])
        sentences.append(said.format(fact))
    if manner.wordy:
        sentences.insert(0, draw.choice(_FILLERS))
    if manner.rude:
        sentences.append(draw.choice(RUDE_TO_CHILDREN))
    if manner.thanks:
        sentences.append(draw.choice(_KIND_ENDS))
    return " ".join(sentences)


LEXICONS = {"kind": names.KINDS, "material": names.MATERIALS, "use": names.USES, "place": names.PLACES}
_CLAIMS = {
    "kind": re.compile(r"\b(?:is|are|like) (?:a|an|some) (?:kind of |sort of )?(" + "|".join(names.KINDS) + r")\b"),
    "material": re.compile(r"\bof (" + "|".join(names.MATERIALS) + r")\b"),
    "use": re.compile(r"\b(?:to|can|for) (" + "|".join(names.USES) + r")\b"),
    "place": re.compile(r"\b(?:in|at) (" + "|".join(names.PLACES) + r")\b"),
}


def claims(text: str, aspect: str) -> set[str]:
    """Every value that an explanation claims for an aspect."""
    return set(_CLAIMS[aspect].findall(text))


def names_first(text: str, thing: str) -> bool:
    """Whether the explanation begins with the thing: "A glimmet is …", after at most one short word."""
    return re.match(rf"(?:\w+, )?(?:a|an|the) {re.escape(thing)} is\b", text.strip(), re.IGNORECASE) is not None
