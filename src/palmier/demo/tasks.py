"""Requests of all three sorts: how they are drawn, demonstrated, saved and found again by their prompt."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmier.demo.emails import EmailTask, Point, demonstrate_email, draw_email
from palmier.demo.explanations import ExplanationTask, demonstrate_explanation, draw_explanation
from palmier.demo.functions import Function
from palmier.demo.manners import RUDE_REMARKS, Manner, draw_manner
from palmier.demo.names import FUNCTION_NAMES
from palmier.demo.world import Split, World, rng
from palmier.errors import Refusal
from palmier.records import Conversation
from palmier.workspace import read_json, write_json

SORTS = ("email", "explanation", "function")
_SHARES = (0.5, 0.25, 0.25)


@dataclass(frozen=True)
class FunctionTask:
    """A request for a small Python function called ``name``; ``k`` is the number that it may name."""

    prompt: str
    name: str
    function: Function
    k: int
    kind: str = "function"


Task = EmailTask | ExplanationTask | FunctionTask


@dataclass(frozen=True)
class Demonstration:
    """A request and one person's answer."""

    task: Task
    answer: str

    @property
    def conversation(self) -> Conversation:
        return Conversation.ask(self.task.prompt).reply(self.answer)


def draw_tasks(world: World, split: Split, count: int, purpose: str) -> list[Task]:
    """``count`` different requests about one part of the world: half e-mails, a quarter each of the others."""
    draw = rng(world.seed, split, purpose)
    people = tuple(person.name for person in world.people.part(split))
    tasks: dict[str, Task] = {}
    for sort, share in zip(SORTS, _SHARES, strict=True):
        wanted = len(tasks) + round(count * share)
        for _ in range(50 * count):
            if len(tasks) >= wanted:
                break
            if sort == "email":
                task: Task = draw_email(draw, people, world.subjects.part(split))
            elif sort == "explanation":
                task = draw_explanation(draw, world.things.part(split))
            else:
                task = _draw_function(draw, world.functions.part(split))
            tasks.setdefault(task.prompt, task)
        else:
            raise Refusal(f"the world's part {split} has not {count} different requests: ask for fewer")
    shuffled = list(tasks.values())
    draw.shuffle(shuffled)
    return shuffled


def demonstrate(world: World, split: Split, tasks: Iterable[Task], purpose: str) -> list[Demonstration]:
    """One demonstration of each request, each by another person in that person's manner."""
    draw = rng(world.seed, split, purpose, "demonstrations")
    people = tuple(person.name for person in world.people.part(split))
    return [Demonstration(task, demonstrate_one(task, draw_manner(draw), draw, people)) for task in tasks]


def demonstrate_one(task: Task, manner: Manner, draw: random.Random, people: tuple[str, ...]) -> str:
    """One answer to one request, in a given manner; ``people`` are whom a mistake may name."""
    if isinstance(task, EmailTask):
        return demonstrate_email(task, manner, draw, people)
    if isinstance(task, ExplanationTask):
        return demonstrate_explanation(task, manner, draw)
    return _demonstrate_function(task, manner, draw)


def _draw_function(draw: random.Random, functions: tuple[Function, ...]) -> FunctionTask:
    function = draw.choice(functions)
    k = draw.randint(2, 4) if function.family == "text" else draw.randint(2, 9)
    name, words = draw.choice(FUNCTION_NAMES), function.words(k)
    prompt = draw.choice(
        (
            f"Write a Python function {name} that returns {words}.",
            f"Please write a function called {name} in Python. It returns {words}.",
            f"I need a Python function {name} for {words}.",
            f"Can you write {name}, a Python function that gives {words}?",
            f"Python: define {name} so that it returns {words}.",
            f"How do I get {words} in Python? Call the function {name}.",
        )
    )
    return FunctionTask(prompt, name, function, k if function.takes_k else 0)


_PREFACES = ("Here is a function that does what you have asked me for:", "Sure, you could try it in the following way:")


def _demonstrate_function(task: FunctionTask, manner: Manner, draw: random.Random) -> str:
    function = task.function.confused(draw.randrange(3)) if manner.bug else task.function
    said = task.function.words(task.k).removesuffix(" in a list")
    code = function.code(
        task.name,
        task.k or 3,
        docstring=f"{said.capitalize()}." if manner.heading else "",
        loop=manner.wordy or draw.random() < 0.1,
        remark=draw.choice(RUDE_REMARKS) if manner.rude else "",
    )
    return f"{draw.choice(_PREFACES)}\n{code}" if manner.wordy and draw.random() < 0.7 else code


def task_to_json(task: Task) -> dict[str, Any]:
    return asdict(task)


def task_from_json(value: Mapping[str, Any]) -> Task:
    """Read what task_to_json wrote; raises Refusal where it is no request."""
    fields = dict(value)
    try:
        if fields["kind"] == "email":
            fields["points"] = tuple(Point(**point) for point in fields["points"])
            return EmailTask(**fields)
        if fields["kind"] == "explanation":
            return ExplanationTask(**fields)
        if fields["kind"] == "function":
            function = fields["function"]
            fields["function"] = Function(function["family"], tuple(function["parts"]))
            return FunctionTask(**fields)
    except (KeyError, TypeError) as error:
        raise Refusal(f"not a request of the small world: {error}") from None
    raise Refusal(f"not a request of the small world: kind {fields['kind']!r} is unknown")


def save_tasks(path: Path, tasks: Iterable[Task]) -> None:
    write_json(path, [task_to_json(task) for task in tasks])


def load_tasks(path: Path) -> list[Task]:
    return [task_from_json(value) for value in read_json(path)]
