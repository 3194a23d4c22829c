"""The small world: deterministic, varied, and nothing of the test set seen in training."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from palmier.demo import names, texts
from palmier.demo.emails import EmailTask
from palmier.demo.explanations import ExplanationTask
from palmier.demo.functions import FUNCTIONS
from palmier.demo.tasks import (
    FunctionTask,
    Task,
    demonstrate,
    draw_tasks,
    load_tasks,
    save_tasks,
    task_from_json,
    task_to_json,
)
from palmier.demo.world import Parts, World, create
from palmier.errors import Refusal


@pytest.fixture(scope="module")
def world() -> World:
    return create(7)


@pytest.fixture(scope="module")
def seen(world: World) -> str:
    """Everything that training reads: text, demonstrations, prompts of rankings and of PPO."""
    text = [document.text for document in texts.documents(world, 2_000_000, rolls=0.1)]
    for purpose in ("sft", "rankings", "rl"):
        tasks = draw_tasks(world, "train", 2000, purpose)
        text += [f"{d.task.prompt}\n{d.answer}" for d in demonstrate(world, "train", tasks, purpose)]
    return "\n\n".join(text)


def test_a_seed_gives_the_same_world_text_and_requests(world: World) -> None:
    again = create(7)
    assert again == world
    assert create(8) != world
    assert [d.text for d in texts.documents(world, 5000)] == [d.text for d in texts.documents(again, 5000)]
    assert draw_tasks(world, "test", 60, "x") == draw_tasks(again, "test", 60, "x")
    assert draw_tasks(world, "test", 60, "x") != draw_tasks(world, "test", 60, "y")


def test_no_held_out_person_subject_or_function_is_ever_seen_in_training(world: World, seen: str) -> None:
    words = set(re.findall(r"[A-Z][a-z]+", seen))
    for split in ("validation", "test"):
        assert not {person.name for person in world.people.part(split)} & words
        assert not [subject for subject in world.subjects.part(split) if f" {subject}" in seen]
    assert {person.name for person in world.people.train} <= words
    bodies = {_body(block) for block in re.findall(r"def \w+\(\w+\):\n(?:    .*\n?)+", seen)}
    assert len(bodies) > 300
    for split in ("validation", "test"):
        for function in world.functions.part(split):
            for k in range(2, 10):
                for loop in (False, True):
                    body = _body(function.code("f", k, loop=loop))
                    # A mistaken demonstration may happen to be another function's right code; it is
                    # never shown under that function's words.
                    if body in bodies:
                        assert f"{function.words(k)}.\n" not in seen


def _body(code: str) -> str:
    kept = [line for line in code.splitlines()[1:] if '"""' not in line and "#" not in line]
    return "\n".join(kept)


def test_held_out_things_stand_in_the_text_and_in_no_demonstration_or_training_prompt(world: World) -> None:
    text = "\n".join(document.text for document in texts.documents(world, 2_000_000))
    asked = ""
    for purpose in ("sft", "rankings", "rl"):
        tasks = draw_tasks(world, "train", 2000, purpose)
        asked += "\n".join(f"{d.task.prompt}\n{d.answer}" for d in demonstrate(world, "train", tasks, purpose))
    for thing in world.things.validation + world.things.test:
        for fact in (f"is a {thing.kind}", thing.material, thing.use, thing.place):
            assert re.search(rf"{thing.name}[^\n]*{fact}", text), (thing.name, fact)
        assert thing.name not in asked


def test_parts_are_disjoint_and_prompts_too(world: World) -> None:
    for parts in (world.people, world.subjects, world.things, world.functions):
        assert len(set(parts.all())) == len(parts.all())
        assert parts.test
        assert parts.validation
    train = {task.prompt for purpose in ("sft", "rl") for task in draw_tasks(world, "train", 1500, purpose)}
    test = {task.prompt for task in draw_tasks(world, "test", 600, "test")}
    assert len(test) == 600
    assert not train & test


def test_requests_are_half_emails_and_vary_in_wording_and_points(world: World) -> None:
    tasks = draw_tasks(world, "train", 1200, "sft")
    kinds = [task.kind for task in tasks]
    assert kinds.count("email") == 600
    assert kinds.count("explanation") == kinds.count("function") == 300
    emails = [task for task in tasks if isinstance(task, EmailTask)]
    assert {len(task.points) for task in emails} == {1, 2, 3}
    assert len({point.kind for task in emails for point in task.points}) == 7
    assert len({task.prompt.split()[0] + task.prompt.split()[1] for task in tasks}) > 20


def test_every_function_of_the_family_differs_from_its_mistaken_form() -> None:
    assert len(FUNCTIONS) == len(set(FUNCTIONS)) == 247
    for function in FUNCTIONS:
        for which in range(3):
            wrong = function.confused(which)
            assert wrong != function
            assert wrong.code("f", 3) != function.code("f", 3)


def test_tasks_survive_the_disk(world: World, tmp_path: Path) -> None:
    tasks: list[Task] = draw_tasks(world, "test", 40, "disk")
    path = tmp_path / "tasks.json"
    save_tasks(path, tasks)
    assert load_tasks(path) == tasks
    assert {type(task) for task in tasks} == {EmailTask, ExplanationTask, FunctionTask}
    with pytest.raises(Refusal, match="kind 'poem' is unknown"):
        task_from_json(task_to_json(tasks[0]) | {"kind": "poem"})


def test_asking_for_more_requests_than_there_are_is_refused(world: World) -> None:
    one = Parts(world.functions.train, world.functions.validation[:1], world.functions.test)
    with pytest.raises(Refusal, match="part validation has not 8000 different requests"):
        draw_tasks(replace(world, functions=one), "validation", 8000, "too many")


def test_inventories_hold_no_word_twice() -> None:
    for inventory in (names.PEOPLE, names.SUBJECTS, names.THING_NAMES, names.TOWNS, names.KINDS, names.MATERIALS):
        assert len(set(inventory)) == len(inventory)
    assert len(names.PEOPLE) == 1440
    assert len(names.SUBJECTS) == 650
