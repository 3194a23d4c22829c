"""The gold judge: what the small world's people would say of an answer if they never erred. 0 … 10.

Four parts, each reported: facts (0 … 4), format, politeness and length (0 … 2 each). A
deterministic program that takes the answer apart; it never asks a model. Nothing that trains
reads it: it plays the people who rank, and it measures at the end.

Against cheating: what is no e-mail, no explanation or no function that runs gets nothing, and so
does a copy of the request; where most facts are wrong the other parts shrink to 0.4 of their worth
(manners can't make up for nonsense); a second value for a fact makes that fact wrong, so listing
every value does not help; kind words count once; what is twice too long loses in every part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from palmier.demo import explanations, interpreter
from palmier.demo.emails import POINT_KINDS, EmailTask, read_email
from palmier.demo.explanations import ExplanationTask
from palmier.demo.manners import is_rude, is_warm
from palmier.demo.tasks import FunctionTask, Task
from palmier.records import Answer

FACTS, FORMAT, POLITENESS, LENGTH = 4.0, 2.0, 2.0, 2.0
HIGHEST = FACTS + FORMAT + POLITENESS + LENGTH


@dataclass(frozen=True)
class Gold:
    """One judgement: the parts in points, and the share of the asked facts that are right."""

    facts: float = 0.0
    format: float = 0.0
    politeness: float = 0.0
    length: float = 0.0
    right: float = 0.0
    """Share of right facts, 0 … 1; a function's one fact is that it passes every test."""
    rude: bool = False
    warm: bool = False
    heading: bool = False
    """A subject line, or a docstring."""

    @property
    def score(self) -> float:
        """0 … 10, rounded so that equal answers are ties."""
        return round(self.facts + self.format + self.politeness + self.length, 3)


def judge(task: Task, answer: Answer) -> Gold:
    """Judge one answer; one that ran into the token limit has no proper end."""
    return judge_text(task, answer.text, ended=answer.finish == "stop")


def judge_text(task: Task, text: str, *, ended: bool = True) -> Gold:
    """Judge a text; ``ended`` says whether it ended by itself."""
    if not text.strip():
        return Gold()
    if isinstance(task, EmailTask):
        gold = _judge_email(task, text, ended)
    elif isinstance(task, ExplanationTask):
        gold = _judge_explanation(task, text, ended)
    else:
        gold = _judge_function(task, text, ended)
    return _shrunk(gold, _words(task, text) / word_limit(task))


def word_limit(task: Task) -> int:
    """How many words are brief enough for full marks in length."""
    if isinstance(task, EmailTask):
        return 21 + 8 * len(task.points)
    if isinstance(task, ExplanationTask):
        return 16 + 8 * (len(task.facts) - 1)
    return 18


def _words(task: Task, text: str) -> int:
    """The words of an answer; in a function the docstring's first sixteen are free."""
    count = len(text.split())
    if isinstance(task, FunctionTask):
        count -= min(16, len(interpreter.docstring(_code_in(text)).split()))
    return count


def _judge_email(task: EmailTask, text: str, ended: bool) -> Gold:
    mail = read_email(text)
    if mail.recipient is None or _copies(task.prompt, text):
        return Gold()
    asked = {point.kind: point.value for point in task.points}
    right = [mail.recipient == task.recipient, mail.subjects() == {task.subject}]
    right += [mail.claims(kind) == {value} for kind, value in asked.items()]
    # What was claimed without having been asked for is one more fact, and a wrong one.
    right += [False for kind in POINT_KINDS if kind not in asked and mail.claims(kind)]
    share = sum(right) / len(right)
    proper = mail.greeting is not None, mail.heading == task.subject, mail.closed, ended
    return _gold(task, text, share, sum(proper) / len(proper), heading=mail.heading is not None)


def _judge_explanation(task: ExplanationTask, text: str, ended: bool) -> Gold:
    right = [explanations.claims(text, aspect) == {fact} for aspect, fact in task.facts.items()]
    right += [False for aspect, fact in task.others.items() if explanations.claims(text, aspect) - {fact}]
    share = sum(right) / len(right)
    if task.thing not in text or _copies(task.prompt, text):
        return Gold()
    hard = any(word in text.lower() for word in explanations.HARD_WORDS)
    proper = explanations.names_first(text, task.thing), not hard, not hard, ended
    return _gold(task, text, share, sum(proper) / len(proper), heading=False)


def _judge_function(task: FunctionTask, text: str, ended: bool) -> Gold:
    code = _code_in(text)
    named = interpreter.function_name(code) == task.name
    results = []
    for argument in task.function.arguments(task.k):
        try:
            results.append(_same(interpreter.call(code, argument), task.function.value(argument, task.k)))
        except interpreter.NotRunnable:
            return Gold()
    documented = len(interpreter.docstring(code).split()) >= 3
    proper = code.strip() == text.strip(), code.strip() == text.strip(), named, ended
    passes = float(named and all(results))
    return _gold(task, text, passes, sum(proper) / len(proper), heading=documented, warm=documented)


def _gold(task: Task, text: str, right: float, proper: float, *, heading: bool, warm: bool | None = None) -> Gold:
    """Put the parts together; in a function the docstring is the kind word to its reader."""
    rude = is_rude(text)
    warm = is_warm(text) if warm is None else warm
    politeness = 0.0 if rude else (1.0 if warm else 0.5)
    brevity = min(1.0, max(0.0, 2 - _words(task, text) / word_limit(task)))
    worth = min(1.0, 0.4 + right)
    return Gold(
        facts=FACTS * right,
        format=FORMAT * worth * proper,
        politeness=POLITENESS * worth * politeness,
        length=LENGTH * worth * brevity,
        right=right,
        rude=rude,
        warm=warm,
        heading=heading,
    )


def _shrunk(gold: Gold, length: float) -> Gold:
    """Scale every part down where a text has more than twice the words it may have (``length`` > 2)."""
    share = min(1.0, 2 / max(length, 1e-9))
    if share == 1.0:
        return gold
    return replace(
        gold,
        facts=gold.facts * share,
        format=gold.format * share,
        politeness=gold.politeness * share,
        length=gold.length * share,
    )


def _copies(prompt: str, text: str) -> bool:
    """Whether six tenths of the request's words stand in the text in one run."""
    asked, said = prompt.lower().split(), text.lower().split()
    match = SequenceMatcher(None, asked, said, autojunk=False).find_longest_match()
    return match.size >= 0.6 * len(asked)


def _code_in(text: str) -> str:
    """The function in an answer: from its first ``def`` to the last line that still belongs to it."""
    lines = text.strip("\n").split("\n")
    first = next((i for i, line in enumerate(lines) if line.startswith("def ")), None)
    if first is None:
        return ""
    last = first + 1
    while last < len(lines) and (lines[last].startswith((" ", "\t")) or not lines[last].strip()):
        last += 1
    return "\n".join(lines[first:last]).rstrip()


def _same(result: object, truth: object) -> bool:
    """Equal in value and in type, so that True is not 1 and a text is not a list of letters."""
    return type(result) is type(truth) and result == truth
