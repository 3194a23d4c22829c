"""A program with a plain taste, and the requests that it judges answers to: short e-mails.

It likes answers that are brief (about 60 words), hold no placeholder such as "[Your Name]",
have every asked point in them, and end by themselves. It stands in for a person in the
experiment on the real model; nothing in the product imports it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from palmier.records import Answer, Conversation

RECIPIENTS = (
    "my landlord", "my neighbour", "my boss", "my dentist", "my teacher", "my sister", "the library", "my coach",
    "a friend", "the school office", "my bank", "the hotel", "our plumber", "my doctor", "the bakery", "my colleague",
)  # fmt: skip

# A subject, and points with the words of which at least one must stand in the answer.
SUBJECTS: tuple[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ...] = (
    ("a broken heater", (("it broke on Monday", ("monday",)), ("the baby is cold", ("baby",)))),
    ("a late parcel", (("it was due on Friday", ("friday",)), ("it is a gift", ("gift", "present")))),
    ("a birthday party", (("it is on Saturday", ("saturday",)), ("there will be cake", ("cake",)))),
    ("a lost umbrella", (("it is red", ("red",)), ("I left it in the hall", ("hall",)))),
    ("a change of appointment", (("Tuesday does not work", ("tuesday",)), ("mornings are best", ("morning",)))),
    ("the loud music", (("it goes on after midnight", ("midnight",)), ("I work early", ("early", "work")))),
    ("a wrong bill", (("I paid in March", ("march",)), ("I have the receipt", ("receipt",)))),
    ("a day off", (("it would be Thursday", ("thursday",)), ("Anna can cover for me", ("anna",)))),
    ("a leaking tap", (("it is in the kitchen", ("kitchen",)), ("a bucket stands under it", ("bucket",)))),
    ("the school trip", (("my son has an allergy to nuts", ("nut",)), ("he needs a window seat", ("window",)))),
    ("a room for two nights", (("we arrive on Sunday", ("sunday",)), ("we bring a dog", ("dog",)))),
    ("a borrowed book", (("I need two more weeks", ("two", "2")), ("it is about birds", ("bird",)))),
    ("a cake order", (("it is for twelve people", ("twelve", "12")), ("no eggs please", ("egg",)))),
    ("a sore tooth", (("it hurts since yesterday", ("yesterday",)), ("I can come at noon", ("noon",)))),
    ("the garden fence", (("the storm broke it", ("storm",)), ("we could share the cost", ("share", "split", "cost")))),
    ("my new address", (("I move in April", ("april",)), ("the street is Mill Lane", ("mill",)))),
    ("a football match", (("it starts at five", ("five", "5")), ("bring warm clothes", ("warm",)))),
    ("a stolen bicycle", (("it was blue", ("blue",)), ("the police know of it", ("police",)))),
    ("thanks for dinner", (("the soup was great", ("soup",)), ("come to us in June", ("june",)))),
    ("a missing key", (("I lost it at the station", ("station",)), ("I need a copy", ("copy", "spare")))),
)

OPENINGS = ("Write a short e-mail to {to} about {subject}.", "Please write a brief email to {to} about {subject}.")
POINTS = ("Say that {a} and that {b}.", "Mention that {a} and {b}.")


@dataclass(frozen=True)
class Request:
    """One request, and the words of each point that an answer has to make."""

    prompt: str
    points: tuple[tuple[str, ...], ...]


def requests(held_out: bool) -> list[Request]:
    """Requests in a fixed random order. Held-out subjects are never among the others."""
    chosen = [item for i, item in enumerate(SUBJECTS) if (i % 2 == 1) == held_out]
    found = []
    for subject, points in chosen:
        for to in RECIPIENTS:
            draw = random.Random(f"{subject} {to}")
            first, second = draw.sample(points, 2)
            text = draw.choice(OPENINGS).format(to=to, subject=subject) + " "
            text += draw.choice(POINTS).format(a=first[0], b=second[0])
            found.append(Request(text, (first[1], second[1])))
    random.Random(7).shuffle(found)
    return found


def parts(request: Request, answer: Answer) -> dict[str, float]:
    """Each part of the taste: share of points made, words, placeholders (0 or 1), ended (0 or 1)."""
    text = answer.text.lower()
    made = [any(re.search(rf"\b{word}", text) for word in words) for words in request.points]
    return {
        "points": sum(made) / len(made),
        "words": float(len(text.split())),
        "placeholder": float(bool(re.search(r"\[[^\]\n]{1,40}\]", answer.text))),
        "ended": float(answer.finish == "stop"),
    }


def score(request: Request, answer: Answer) -> float:
    """2 for all points, −1 for a placeholder, −½ without an end, −1 for each 60 words away from 60; empty: −9."""
    found = parts(request, answer)
    if found["words"] < 10:
        return -9.0
    away = min(2.0, abs(found["words"] - 60) / 60)
    return 2 * found["points"] - found["placeholder"] - 0.5 * (1 - found["ended"]) - away


def conversation(request: Request) -> Conversation:
    return Conversation.ask(request.prompt)
