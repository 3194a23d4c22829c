"""The nearest-neighbour baseline finds the most similar request and knows nothing else."""

from __future__ import annotations

from statistics import fmean

from palmier.demo.gold import judge_text
from palmier.demo.neighbour import NearestNeighbour
from palmier.demo.tasks import demonstrate, draw_tasks
from palmier.demo.world import create


def test_a_training_request_finds_its_own_demonstration_and_a_new_one_gets_few_facts() -> None:
    world = create(2)
    known = demonstrate(world, "train", draw_tasks(world, "train", 1500, "sft"), "sft")
    neighbour = NearestNeighbour(known)
    assert all(neighbour.answer(d.task.prompt) == d.answer for d in known[:50])
    tasks = draw_tasks(world, "test", 300, "test")
    golds = [judge_text(task, neighbour.answer(task.prompt)) for task in tasks]
    assert fmean(gold.right for gold in golds) < 0.2
    assert neighbour.answer("zzz") in {d.answer for d in known}
