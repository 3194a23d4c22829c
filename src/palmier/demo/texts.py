"""The pre-training text: posts, news, book passages and programmers' notes of the small world.

A stochastic grammar written as plain functions, one a form, so that millions of words take
seconds. It shows what the requests will ask for, never in their words: the facts of things, one
person passing on to another what a third one said (copying names, subjects and numbers), and
what a line of Python returns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from palmier.demo import names
from palmier.demo.emails import POINT_KINDS, Point, draw_point
from palmier.demo.functions import Function
from palmier.demo.world import Person, Thing, World, rng
from palmier.records import Document


def documents(world: World, characters: int, purpose: str = "text", rolls: float = 0.0) -> Iterator[Document]:
    """Documents until they hold ``characters`` characters; a purpose's are always the same.

    ``rolls`` is the weight of rolls that are called twice beside the other forms, whose weights add up to 1.
    """
    draw = rng(world.seed, purpose)
    writer = Writer(world, draw)
    forms, weights = zip(*_FORMS, (_roll, rolls), strict=True)
    written = number = 0
    while written < characters:
        form = draw.choices(forms, weights)[0]
        text = form(writer)
        written += len(text) + 1
        number += 1
        yield Document(text, f"world:{number}")


@dataclass(frozen=True)
class Writer:
    """What a form writes from: the parts of the world that training may see."""

    world: World
    draw: random.Random

    def person(self) -> Person:
        return self.draw.choice(self.world.people.train)

    def name(self) -> str:
        return self.person().name

    def subject(self) -> str:
        return self.draw.choice(self.world.subjects.train)

    def thing(self) -> Thing:
        """Any thing: the facts of held-out things must be learnt from here."""
        return self.draw.choice(_all_things(self.world))

    def points(self, most: int = 3) -> list[Point]:
        kinds = self.draw.sample(POINT_KINDS, self.draw.randint(1, most))
        return [draw_point(kind, self.draw, (self.name(),)) for kind in kinds]

    def clauses(self, points: list[Point]) -> list[str]:
        return [point.clause(self.draw.randrange(2)) for point in points]

    def pick(self, *options: str) -> str:
        return self.draw.choice(options)


def _all_things(world: World) -> tuple[Thing, ...]:
    things = world.things
    return things.train + things.validation + things.test


def _sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:] + "."


def _sentences(clauses: list[str]) -> str:
    return " ".join(_sentence(clause) for clause in clauses)


def _relay(w: Writer) -> str:
    """A book passage: somebody passes on what another one said."""
    sender, carrier, receiver = w.name(), w.name(), w.name()
    subject, points = w.subject(), w.points()
    asked = " and that ".join(w.clauses(points))
    told = _sentences(w.clauses(points))
    return w.pick(
        f'{sender} asked {carrier} to go to {receiver} and to say about the {subject} that {asked}. {carrier} found {receiver} at home. "{receiver}," said {carrier}, "it is about the {subject}. {told}"',
        f'There was a letter for {receiver}. It was about the {subject}, and it said that {asked}. {receiver} read it twice. "About the {subject}," said {receiver} then. "{told}"',
        f'"Tell {receiver} about the {subject}," said {sender} to {carrier}. "{told}" So {carrier} told {receiver} about the {subject}: that {asked}.',
        f"{carrier} wrote down for {receiver} what {sender} had said about the {subject}: {'; '.join(w.clauses(points))}. {receiver} nodded. {told}",
    )


def _letter(w: Writer) -> str:
    """A letter, as letters in books are."""
    receiver, subject, points = w.name(), w.subject(), w.points()
    told = _sentences(w.clauses(points))
    opening = w.pick(
        f"I am writing about the {subject}.",
        f"About the {subject}.",
        f"It is about the {subject} again.",
        f"This is about the {subject}.",
        f"I thought for a very long time about the {subject}.",
    )
    greeting = w.pick(f"Dear {receiver},", f"{receiver},", f"Hello {receiver},", f"Hi {receiver},")
    ending = w.pick(
        "", "", " Thank you for your help.", " Please write back to me.", " Hurry up for once.", " I want no excuses."
    )
    closing = w.pick("", "", "\nKind regards", "\nBest wishes", "\nMany greetings")
    frame = w.pick(
        f"The letter to {receiver} about the {subject}",
        f"To {receiver}, about the {subject}",
        f"Subject: {subject}",
        f"A letter came for {receiver}. It read like this",
    )
    return f"{frame}\n{greeting}\n{opening} {told}{ending}{closing}"


def _news(w: Writer) -> str:
    """A news item: an event with a subject, a day and a person who is quoted."""
    who, other, subject = w.person(), w.person(), w.subject()
    town, day = w.pick(*names.TOWNS), w.pick(*names.DAYS)
    amount = w.draw.randint(10, 99)
    first = w.pick(
        f"The {subject} in {town} is new since {day}.",
        f"On {day} the {subject} in {town} broke.",
        f"{who.name} of {town} has mended the {subject}.",
        f"The {subject} was sold in {town} on {day}.",
    )
    return f"{town}, {w.draw.randint(1, 28)} {w.pick(*names.MONTHS)}. {first} " + w.pick(
        f'"It costs {amount} coins," said the {who.trade} {who.name}. {other.name} paid the {amount} coins.',
        f'{who.name}, a {who.trade} from {who.town}, said: "{other.name} will help us." {other.name} said that the {subject} pleased everybody.',
        f'"We meet on {day}," {who.name} told this paper. {other.name} will be there on {day} too.',
        f"{who.name} and {other.name} painted the {subject} {w.pick(*names.COLOURS)}. {who.name} lives in {who.town}, and {other.name} in {other.town}.",
    )


def _facts(w: Writer, thing: Thing) -> list[str]:
    """Sentences on a thing's three aspects, in a random order."""
    facts = [
        w.pick(
            f"It is made of {thing.material}.",
            f"People make it of {thing.material}.",
            f"Its maker takes {thing.material} for it: it is made of {thing.material}.",
        ),
        w.pick(
            f"People use it to {thing.use}.",
            f"It is there to {thing.use}.",
            f"With it one can {thing.use}. Many people use it to {thing.use}.",
        ),
        w.pick(
            f"You can find it in {thing.place}.",
            f"It is found in {thing.place}.",
            f"There is one in many {thing.place}: it is found in {thing.place}.",
        ),
    ]
    w.draw.shuffle(facts)
    return facts


def _entry(w: Writer) -> str:
    """A passage of a book about things."""
    thing = w.thing()
    start = w.pick(
        f"A {thing.name} is a {thing.kind}.",
        f"A {thing.name} is a {thing.kind}.",
        f"The {thing.name} is a kind of {thing.kind}. A {thing.name} is a {thing.kind} that everybody here knows.",
        f"What is a {thing.name}? A {thing.name} is a {thing.kind}.",
    )
    facts = _facts(w, thing)
    return " ".join([start, *facts[: w.draw.randint(1, 3)]])


def _dialogue(w: Writer) -> str:
    """A child asks, somebody answers."""
    thing, child, other = w.thing(), w.name(), w.name()
    facts = _facts(w, thing)[: w.draw.randint(1, 3)]
    ending = w.pick("", "", " Everybody knows that.", " That was a good question!", " Ask me if you want to know more!")
    return w.pick(
        f'"What is a {thing.name}?" asked {child}. "A {thing.name} is a {thing.kind}," said {other}. "{" ".join(facts)}{ending}"',
        f'{child} held up a {thing.name}. "A {thing.name} is a {thing.kind}," said {other} to {child}. "{" ".join(facts)}{ending}"',
        f'"Tell me about the {thing.name}," said {child}. {other} knew it well. "A {thing.name} is a {thing.kind}. {" ".join(facts)}{ending}"',
    )


def _offer(w: Writer) -> str:
    """A post that sells a thing."""
    thing, person = w.thing(), w.person()
    amount, number = w.draw.randint(10, 99), w.draw.randint(1000, 9999)
    return w.pick(
        f"For sale in {person.town}: a {thing.name}. It is made of {thing.material}. People use it to {thing.use}. It costs {amount} coins. The number to call is {number}. Ask for {person.name}.",
        f"{person.name} here. I have a {thing.name} to give away, a {thing.kind} made of {thing.material}. People can call {number}. Again, the number to call is {number}, and my name is {person.name}.",
        f"Who has seen my {thing.name}? A {thing.name} is a {thing.kind}, and I use it to {thing.use}. I lost it in {person.town}. {person.name}",
        f"I bought a {thing.name} from {person.name} in {person.town}. The price is {amount} coins. {amount} coins for a {thing.kind}! But it is made of {thing.material}.",
    )


def _errands(w: Writer) -> str:
    """A post that lists people and what each of them does: a plain exercise in names."""
    people = [w.name() for _ in range(w.draw.randint(2, 3))]
    subjects = [w.subject() for _ in people]
    first = "; ".join(f"{name} looks after the {subject}" for name, subject in zip(people, subjects, strict=True))
    order = list(range(len(people)))
    w.draw.shuffle(order)
    second = " ".join(
        w.pick(f"The {subjects[i]}: ask {people[i]}.", f"{people[i]} will answer for the {subjects[i]}.") for i in order
    )
    return f"Who does what in {w.pick(*names.TOWNS)}: {first}. {second}"


def _roll(w: Writer) -> str:
    """A roll is called and called again: the plainest way to learn that what was said comes back."""
    people = ", ".join(w.name() for _ in range(w.draw.randint(3, 6)))
    subjects = ", ".join(f"the {w.subject()}" for _ in range(w.draw.randint(2, 4)))
    number = w.draw.randint(1000, 9999)
    return w.pick(
        f"The roll of {w.pick(*names.TOWNS)}: {people}. Once more: {people}. All were there.",
        f'"{people}," read the teacher. "{people}," said the children.',
        f"On the list stood {subjects}. So they went to see {subjects}, one after the other.",
        f"Remember these: {people}; {subjects}; {number}. Now say them: {people}; {subjects}; {number}.",
    )


def _code(w: Writer) -> str:
    """A programmer's note: words, then the function."""
    function: Function = w.draw.choice(w.world.functions.train)
    k = w.draw.randint(2, 4) if function.family == "text" else w.draw.randint(2, 9)
    words, name = function.words(k), w.pick(*names.FUNCTION_NAMES)
    said = words.removesuffix(" in a list").capitalize()
    code = function.code(
        name,
        k,
        docstring=f"{said}." if w.draw.random() < 0.3 else "",
        loop=w.draw.random() < 0.3,
        remark=w.pick("any fool can write this", "learn it for once") if w.draw.random() < 0.1 else "",
    )
    return w.pick(
        f"{name}: {words}\n{code}",
        f"A note on {name}. It gives {words}, like this:\n{code}",
        f"{words.capitalize()} is what {name} returns.\n{code}",
        f"{code}\nThis {name} gives {words}.",
        f"To get {words}, write\n{code}",
    )


Form = Callable[[Writer], str]
_FORMS: tuple[tuple[Form, float], ...] = (
    (_relay, 0.20),
    (_letter, 0.16),
    (_news, 0.08),
    (_entry, 0.14),
    (_dialogue, 0.10),
    (_offer, 0.08),
    (_errands, 0.06),
    (_code, 0.18),
)
"""The forms and how often each is drawn."""
