"""The gold judge as a reward program, for stages that take one: ``palmier.demo.judging:gold``.

It plays the people whom one would ask, on validation requests, which round of PPO they like
best. It knows only the requests that were told to it in this process.
"""

from __future__ import annotations

from collections.abc import Iterable

from palmier.demo.gold import judge
from palmier.demo.tasks import Task
from palmier.errors import Refusal
from palmier.records import Answer, Conversation

SPEC = "palmier.demo.judging:gold"

_KNOWN: dict[str, Task] = {}


def learn(tasks: Iterable[Task]) -> None:
    """Tell the judge what the prompts ask for."""
    _KNOWN.update((task.prompt, task) for task in tasks)


def gold(conversation: Conversation, answer: Answer) -> float:
    """The judge's score, 0 … 10; raises Refusal for a prompt that it was not told."""
    prompt = conversation.messages[-1].content
    if prompt not in _KNOWN:
        raise Refusal(f"the demo's judge does not know the request {prompt!r}: it judges the demo's own requests alone")
    return judge(_KNOWN[prompt], answer).score
