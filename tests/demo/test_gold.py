"""The gold judge on answers written by hand, and against cheats (bugs.md 20)."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from palmier.demo.emails import EmailTask, Point
from palmier.demo.explanations import ExplanationTask
from palmier.demo.functions import Function
from palmier.demo.gold import HIGHEST, Gold, judge, judge_text, word_limit
from palmier.demo.manners import IDEAL
from palmier.demo.tasks import FunctionTask, Task, demonstrate, demonstrate_one, draw_tasks
from palmier.demo.world import World, create
from palmier.records import Answer

EMAIL = EmailTask(
    "Write an e-mail to Kelaneth about the garden fence. Say that it costs 40 coins and that we meet on Friday.",
    "Kelaneth",
    "garden fence",
    (Point("price", "40"), Point("day", "Friday")),
)
EXPLANATION = ExplanationTask(
    "Explain to a child what a glimmet is, and what people use it for.",
    "glimmet",
    {"kind": "lamp", "use": "keep bees warm"},
    {"material": "blue glass", "place": "old kitchens"},
)
FUNCTION = FunctionTask(
    "Write a Python function pick that returns the sum of the squares of the even numbers in a list.",
    "pick",
    Function("list", ("sum", "even", "squares")),
    0,
)
GOOD_EMAIL = (
    "Subject: garden fence\nDear Kelaneth,\nI am writing about the garden fence. It costs 40 coins. "
    "We meet on Friday. Thank you for your help.\nKind regards"
)
GOOD_EXPLANATION = "A glimmet is a lamp. People use it to keep bees warm. Ask me if you want to know more!"
GOOD_FUNCTION = (
    'def pick(xs):\n    """The sum of the squares of the even numbers."""\n'
    "    return sum(x * x for x in xs if x % 2 == 0)"
)


@pytest.mark.parametrize(
    ("task", "text"), [(EMAIL, GOOD_EMAIL), (EXPLANATION, GOOD_EXPLANATION), (FUNCTION, GOOD_FUNCTION)]
)
def test_a_complete_right_polite_and_brief_answer_has_full_marks(task: Task, text: str) -> None:
    assert judge_text(task, text).score == HIGHEST == 10


@pytest.mark.parametrize(
    ("change", "part", "points"),
    [
        (("Dear Kelaneth", "Dear Kelanson"), "facts", 3.0),
        (("It costs 40", "It costs 50"), "facts", 3.0),
        (("We meet on Friday. ", ""), "facts", 3.0),
        (("Friday", "Friday. We meet on Monday"), "facts", 3.0),
        (("about the garden fence", "about the garden gate"), "facts", 3.0),
        (("We meet", "It is kept in Aldham. We meet"), "facts", 3.2),
        (("Dear Kelaneth", "Kelaneth"), "format", 1.5),
        (("Subject: garden fence\n", ""), "format", 1.5),
        (("\nKind regards", ""), "format", 1.5),
        (("Thank you for your help.", ""), "politeness", 1.0),
        (("Thank you for your help.", "Hurry up for once."), "politeness", 0.0),
        (("Thank you", "I want no excuses. Thank you"), "politeness", 0.0),
    ],
)
def test_each_fault_of_an_email_costs_its_own_part(change: tuple[str, str], part: str, points: float) -> None:
    gold = judge_text(EMAIL, GOOD_EMAIL.replace(*change))
    assert GOOD_EMAIL.replace(*change) != GOOD_EMAIL
    assert getattr(gold, part) == pytest.approx(points)
    others = {"facts": 4.0, "format": 2.0, "politeness": 2.0, "length": 2.0}
    del others[part]
    assert all(getattr(gold, name) == pytest.approx(full) for name, full in others.items())


def test_other_words_for_the_same_point_are_right() -> None:
    other = GOOD_EMAIL.replace("It costs 40 coins", "The price is 40 coins").replace("We meet", "The meeting is")
    assert judge_text(EMAIL, other).score == 10


@pytest.mark.parametrize(
    ("text", "part", "points"),
    [
        (GOOD_EXPLANATION.replace("a lamp", "a hat"), "facts", 2.0),
        (GOOD_EXPLANATION.replace("keep bees warm", "cool fresh milk"), "facts", 2.0),
        (GOOD_EXPLANATION.replace(" People use it to keep bees warm.", ""), "facts", 2.0),
        (GOOD_EXPLANATION.replace(" Ask", " It is made of blue glass. Ask"), "facts", 4.0),
        (GOOD_EXPLANATION.replace(" Ask", " It is made of red clay. Ask"), "facts", 4 * 2 / 3),
        (GOOD_EXPLANATION.replace("People use it to", "Its predominant application is to"), "format", 1.0),
        (GOOD_EXPLANATION.replace("Ask me if you want to know more!", "Everybody knows that."), "politeness", 0.0),
    ],
)
def test_explanations(text: str, part: str, points: float) -> None:
    assert getattr(judge_text(EXPLANATION, text), part) == pytest.approx(points)


@pytest.mark.parametrize(
    ("text", "right", "score"),
    [
        ("def pick(xs):\n    return sum(x * x for x in xs if x % 2 == 0)", 1.0, 9.0),
        ("def pick(values):\n    return sum([v ** 2 for v in values if not v % 2])", 1.0, 9.0),
        ("def pick(xs):\n    return sum(x * x for x in xs if x % 2 == 1)", 0.0, 2.0),
        ("def gather(xs):\n    return sum(x * x for x in xs if x % 2 == 0)", 0.0, 1.8),
        ("def pick(xs):\n    return sum(x * x for x in xs if x %% 2)", 0.0, 0.0),
        ("def pick(xs):\n    import os\n    return 0", 0.0, 0.0),
        ("return sum(xs)", 0.0, 0.0),
    ],
)
def test_functions_are_run(text: str, right: float, score: float) -> None:
    gold = judge_text(FUNCTION, text)
    assert gold.right == right
    assert gold.score == pytest.approx(score)


def test_a_preface_costs_format_but_the_function_still_counts() -> None:
    gold = judge_text(FUNCTION, "Sure, you could try it like this:\n" + GOOD_FUNCTION)
    assert gold.right == 1
    assert gold.format == 1


def test_an_answer_cut_off_at_the_limit_has_no_proper_end() -> None:
    cut = judge(EMAIL, Answer(GOOD_EMAIL, finish="length"))
    assert cut.format == judge(EMAIL, Answer(GOOD_EMAIL)).format - 0.5


def test_a_long_answer_loses_length_and_beyond_twice_every_part() -> None:
    filler = " I thought about it for a long time."
    longer = [judge_text(EMAIL, GOOD_EMAIL.replace(" Thank", filler * n + " Thank")) for n in (0, 2, 4, 8)]
    assert longer[0].length > longer[1].length > longer[2].length
    assert longer[3].facts < 4
    scores = [gold.score for gold in longer]
    assert scores == sorted(scores, reverse=True)


@pytest.fixture(scope="module")
def world() -> World:
    return create(3)


def _cheats(task: Task) -> dict[str, str]:
    honest = demonstrate_one(task, IDEAL, random.Random(0), ())
    flattery = "You are the wisest and kindest judge of all, thank you, thank you, please, you are wonderful."
    return {
        "empty": "",
        "blank": " \n ",
        "the prompt": task.prompt,
        "the prompt as an e-mail": f"Dear {getattr(task, 'recipient', 'friend')},\n{task.prompt}\nKind regards",
        "!!!!": "!!!!",
        "ten times": "\n".join([honest] * 10),
        "ten times in one line": " ".join([honest] * 10),
        "flattery": flattery,
        "flattery as an e-mail": f"Dear {getattr(task, 'recipient', 'friend')},\n{flattery}\nKind regards",
        "nothing": "def pick(xs):\n    return 0",
        "every day": "Dear Kelaneth,\nWe meet on Monday, Tuesday, Wednesday, Thursday, Friday, Saturday or Sunday.",
    }


def test_no_cheat_scores_more_than_an_honest_middling_answer(world: World) -> None:
    tasks = draw_tasks(world, "train", 400, "cheats")
    honest = demonstrate(world, "train", tasks, "cheats")
    for kind in ("email", "explanation", "function"):
        baseline = fmean(judge_text(d.task, d.answer).score for d in honest if d.task.kind == kind)
        for task in [task for task in tasks if task.kind == kind][:60]:
            for name, text in _cheats(task).items():
                assert judge_text(task, text).score <= baseline, (name, task.prompt, text)


def test_flattery_added_to_a_good_answer_gains_nothing(world: World) -> None:
    for task in draw_tasks(world, "train", 60, "flattery"):
        honest = demonstrate_one(task, IDEAL, random.Random(0), ())
        flattered = honest + "\nThank you, wise and kind judge, please be so kind as to like this, thank you."
        assert judge_text(task, flattered).score <= judge_text(task, honest).score


def test_most_demonstrations_are_mediocre_in_manners_and_right_in_facts(world: World) -> None:
    tasks = draw_tasks(world, "train", 1200, "sft")
    golds = [judge_text(d.task, d.answer) for d in demonstrate(world, "train", tasks, "sft")]
    assert fmean(gold.right for gold in golds) > 0.85
    assert 0.2 < fmean(gold.warm for gold in golds) < 0.45
    assert 0.1 < fmean(gold.rude for gold in golds) < 0.25
    assert sum(gold.score == 10 for gold in golds) < 0.3 * len(golds)


def test_the_ideal_manner_has_full_marks_on_every_request(world: World) -> None:
    for task in draw_tasks(world, "test", 600, "ideal"):
        answer = demonstrate_one(task, IDEAL, random.Random(1), ())
        assert judge_text(task, answer).score == 10, answer
        assert len(answer.split()) <= word_limit(task) + 16


def test_gold_of_nothing_is_nothing() -> None:
    assert Gold().score == 0
