"""E-mails: a request names a recipient, a subject and one to three points; people answer it as they do."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from palmier.demo import names
from palmier.demo.manners import RUDE_TO_ADULTS, Manner

POINT_KINDS = ("price", "day", "date", "town", "helper", "colour", "phone")

_CLAUSES: dict[str, tuple[str, ...]] = {
    "price": ("it costs {} coins", "the price is {} coins"),
    "day": ("we meet on {}", "the meeting is on {}"),
    "date": ("it must be ready by {}", "the last day is {}"),
    "town": ("it is kept in {}", "you can find it in {}"),
    "helper": ("{} will help us", "we get help from {}"),
    "colour": ("the new colour is {}", "it will be painted {}"),
    "phone": ("the number to call is {}", "people can call {}"),
}
_GREETINGS = ("Dear", "Hello", "Hi")
_CLOSINGS = ("Kind regards", "Best wishes", "Many greetings")
_THANKS = ("Thank you for your help.", "Thank you very much.", "Please write back to me.")
_FILLERS = (
    "I thought about all this for a very long time before I sat down to write.",
    "If I forgot something you will surely tell me, since we all forget things now and then.",
    "There is much more that I could tell you, and perhaps I will do so some day.",
)


@dataclass(frozen=True)
class Point:
    """One thing that an e-mail must say, for example price 40."""

    kind: str
    value: str

    def clause(self, wording: int) -> str:
        """It in words: "it costs 40 coins"."""
        return _CLAUSES[self.kind][wording % 2].format(self.value)


@dataclass(frozen=True)
class EmailTask:
    """A request for an e-mail to ``recipient`` about ``subject`` that says ``points``."""

    prompt: str
    recipient: str
    subject: str
    points: tuple[Point, ...]
    kind: str = "email"


def draw_point(kind: str, draw: random.Random, people: tuple[str, ...]) -> Point:
    """A point of a kind with a fresh value; helpers come from ``people``."""
    values: dict[str, Callable[[], str]] = {
        "price": lambda: str(draw.randint(10, 99)),
        "day": lambda: draw.choice(names.DAYS),
        "date": lambda: f"{draw.randint(1, 28)} {draw.choice(names.MONTHS)}",
        "town": lambda: draw.choice(names.TOWNS),
        "helper": lambda: draw.choice(people),
        "colour": lambda: draw.choice(names.COLOURS),
        "phone": lambda: str(draw.randint(1000, 9999)),
    }
    return Point(kind, values[kind]())


def draw_email(draw: random.Random, people: tuple[str, ...], subjects: tuple[str, ...]) -> EmailTask:
    """A request in one of many wordings."""
    recipient, *helpers = draw.sample(people, 3)
    subject = draw.choice(subjects)
    kinds = draw.sample(POINT_KINDS, draw.choice((1, 2, 2, 3)))
    points = tuple(draw_point(kind, draw, tuple(helpers)) for kind in kinds)
    return EmailTask(_wording(draw, recipient, subject, points), recipient, subject, points)


def _wording(draw: random.Random, recipient: str, subject: str, points: tuple[Point, ...]) -> str:
    clauses = [point.clause(draw.randrange(2)) for point in points]
    that = " and that ".join([clauses[0], *clauses[1:]])
    listed = "; ".join(clauses)
    mail = draw.choice(("an e-mail", "a short e-mail", "a message"))
    return draw.choice(
        (
            f"Write {mail} to {recipient} about the {subject}. Say that {that}.",
            f"Please write {recipient} {mail} about the {subject}. Mention that {that}.",
            f"I need {mail} to {recipient} about the {subject}. It should say that {that}.",
            f"Can you write to {recipient} about the {subject} and say that {that}?",
            f"Draft {mail}. To: {recipient}. About: the {subject}. Points: {listed}.",
            f"Tell {recipient} by e-mail about the {subject}: {listed}.",
            f"Help me write to {recipient}. It is about the {subject}. They must know that {that}.",
            f"{mail.capitalize()} for {recipient}, please. Subject: the {subject}. To be said: {listed}.",
        )
    )


def demonstrate_email(task: EmailTask, manner: Manner, draw: random.Random, people: tuple[str, ...]) -> str:
    """One person's answer to a request, with that person's manner and mistakes."""
    points = list(task.points)
    if manner.missing and len(points) > 1:
        points.pop(draw.randrange(len(points)))
    if manner.wrong:
        place = draw.randrange(len(points))
        points[place] = draw_point(points[place].kind, draw, people)
    lines = []
    if manner.heading:
        lines.append(f"Subject: {task.subject}")
    greeting = draw.choice(_GREETINGS)
    lines.append(f"{greeting} {task.recipient}," if manner.greeting else f"{task.recipient},")
    body = [_opening(task, manner, draw)]
    body += [_sentence(point.clause(draw.randrange(2))) for point in points]
    if manner.wordy:
        body.insert(draw.choice((0, len(body))), draw.choice(_FILLERS))
    if manner.rude:
        body.append(draw.choice(RUDE_TO_ADULTS))
    if manner.thanks:
        body.append(draw.choice(_THANKS))
    lines.append(" ".join(body))
    if manner.closing:
        lines.append(draw.choice(_CLOSINGS))
    return "\n".join(lines)


def _opening(task: EmailTask, manner: Manner, draw: random.Random) -> str:
    if manner.rude:
        return f"It is about the {task.subject} again."
    if manner.wordy:
        return f"I am writing to you today because of something about the {task.subject}."
    if manner.greeting:
        return draw.choice((f"I am writing about the {task.subject}.", f"This is about the {task.subject}."))
    return f"About the {task.subject}."


def _sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:] + "."


_TOWN = re.compile(r"\b(" + "|".join(names.TOWNS) + r")\b")
_CLAIMS: dict[str, tuple[re.Pattern[str], ...]] = {
    "price": (re.compile(r"\b(\d+) coins"),),
    "day": (re.compile(r"\b(" + "|".join(names.DAYS) + r")\b"),),
    "date": (re.compile(r"\b(\d+ (?:" + "|".join(names.MONTHS) + r"))\b"),),
    "town": (_TOWN,),
    "helper": (re.compile(r"\b(\w+) (?:will help|helps)\b"), re.compile(r"\b(?:help from|helped by) (\w+)")),
    "colour": (re.compile(r"\b(?:colour is|painted|colour will be|paint it) (\w+)"),),
    "phone": (re.compile(r"\b(?:call|call is|number is|phone is) (\d+)"),),
}
_SUBJECT = re.compile(r"\b(?:" + "|".join(sorted({s.split()[0] for s in names.SUBJECTS})) + r") [a-z]+\b")


@dataclass(frozen=True)
class ReadEmail:
    """An e-mail taken apart; ``body`` is what stands between greeting and closing."""

    heading: str | None
    greeting: str | None
    recipient: str | None
    body: str
    closed: bool

    def claims(self, kind: str) -> set[str]:
        """Every value that the body claims for a kind of point."""
        return {found.group(1) for pattern in _CLAIMS[kind] for found in pattern.finditer(self.body)}

    def subjects(self) -> set[str]:
        """Every subject that body or subject line names."""
        return set(_SUBJECT.findall(f"{self.heading or ''}\n{self.body}"))


_GREETING = re.compile(r"(?:(Dear|Hello|Hi|Good day) )?([A-Z][a-z]+),$")


def read_email(text: str) -> ReadEmail:
    """Take an answer apart; ``recipient`` is None where no line addresses anybody, so that it is no e-mail."""
    lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
    heading = None
    if lines and lines[0].startswith("Subject: "):
        heading = lines.pop(0).removeprefix("Subject: ")
    found = _GREETING.fullmatch(lines[0]) if lines else None
    if not found:
        return ReadEmail(heading, None, None, "", closed=False)
    body = lines[1:]
    closed = len(body) > 1 and body[-1].rstrip(",.") in _CLOSINGS
    if closed:
        body = body[:-1]
    return ReadEmail(heading, found.group(1), found.group(2), "\n".join(body), closed)
