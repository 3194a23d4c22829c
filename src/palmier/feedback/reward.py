"""Rewards: what an answer is worth, said by a model that learnt from rankings or by a program."""

from __future__ import annotations

import importlib
import importlib.util
import math
import numbers
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.models.names import resolve_model
from palmier.records import Answer, Conversation, Sampling
from palmier.workspace import Workspace, read_json

if TYPE_CHECKING:
    import torch

    from palmier.generate.engine import Engine
    from palmier.model.heads import RewardModel


class Reward(Protocol):
    """Anything that scores answers; a higher score is a better answer to the same conversation."""

    def score(self, conversations: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
        """One finite number for each answer to the conversation at the same place."""
        ...


FACTS = "reward.json"
"""Beside a reward model's weights: what its training found, the mean of its scores among it."""


class ModelReward:
    """A reward model's score at an answer's last token, less ``shift``.

    Reads the very tokens that were drawn where an answer has them, as in training. ``batch``
    is how many answers are scored in one forward pass. ``shift`` is the mean score of the answers
    that were learned from, so that an average answer earns 0 (Ouyang et al. 2022, section 3.5).
    """

    def __init__(self, model: RewardModel, template: Template, batch: int = 16, shift: float = 0.0) -> None:
        self.model, self.template, self.batch, self.shift = model, template, batch, shift

    @classmethod
    def load(cls, folder: Path, batch: int = 16, dtype: torch.dtype | None = None) -> ModelReward:
        """Read a reward model's folder with its tokenizer, to compute in ``dtype`` (as stored where None).

        Raises Refusal where it is none.
        """
        from palmier.model.checkpoint import load_reward

        facts = read_json(folder / FACTS) if (folder / FACTS).is_file() else {}
        return cls(load_reward(folder, dtype), Template.load(folder), batch, float(facts.get("mean", 0.0)))

    def score(self, conversations: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
        """Scores in nats of preference: σ(difference) is the chance that one is preferred.

        Raises Refusal where prompt and answer exceed the model's positions, or a score is not finite.
        """
        rows = [self._ids(conversation, answer) for conversation, answer in zip(conversations, answers, strict=True)]
        scores = [0.0] * len(rows)
        # Rows of like length share a batch, so that little of it is padding.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for start in range(0, len(order), self.batch):
            chosen = order[start : start + self.batch]
            for index, score in zip(chosen, self._forward([rows[index] for index in chosen]), strict=True):
                scores[index] = score
        return [_finite(score, "the reward model") - self.shift for score in scores]

    def _ids(self, conversation: Conversation, answer: Answer) -> list[int]:
        ids = self.template.prompt(conversation) + self.template.answer_ids(answer)
        limit = self.model.config.max_positions
        if len(ids) > limit:
            raise Refusal(f"prompt and answer are {len(ids)} tokens long, the reward model reads at most {limit}")
        return ids

    def _forward(self, rows: list[list[int]]) -> list[float]:
        import torch

        longest = max(len(row) for row in rows)
        # Padding stands on the right, where causal attention never looks; its id does not matter.
        device = self.model.score.weight.device
        tokens_BT = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        last_B = torch.tensor([len(row) - 1 for row in rows], device=device)
        with torch.inference_mode():
            scores: list[float] = self.model.scores(tokens_BT, last_B).float().tolist()
        return scores


class ProgramReward:
    """A Python function ``(Conversation, Answer) -> number`` as a reward.

    ``spec`` is ``module:function`` (found in the current folder or among the installed
    packages) or ``path/to/file.py:function``. Raises Refusal where there is no such function.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.function = _function(spec)

    def score(self, conversations: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
        """The function's numbers; raises Refusal where it fails or gives no finite number."""
        pairs = zip(conversations, answers, strict=True)
        return [_finite(self._call(conversation, answer), self.spec) for conversation, answer in pairs]

    def _call(self, conversation: Conversation, answer: Answer) -> object:
        try:
            return self.function(conversation, answer)
        except Exception as error:  # a person's program may raise whatever it likes
            raise Refusal(
                f"{self.spec} failed on the answer {answer.text[:60]!r}: {type(error).__name__}: {error}"
            ) from error


def load_reward_spec(spec: str | Path, workspace: Workspace | None = None) -> Reward:
    """A reward from its name: ``module:function``, ``file.py:function``, or a reward model's folder or name."""
    if ":" in str(spec) and not Path(spec).exists():
        return ProgramReward(str(spec))
    return ModelReward.load(resolve_model(spec, workspace))


def best_of(reward: Reward, conversation: Conversation, answers: Sequence[Answer]) -> int:
    """The index of the answer with the highest score, the first of several."""
    if not answers:
        raise Refusal("there is no answer to choose from")
    scores = reward.score([conversation] * len(answers), answers)
    return max(range(len(scores)), key=lambda index: scores[index])


def best_of_n(
    engine: Engine,
    template: Template,
    reward: Reward,
    conversation: Conversation,
    n: int,
    sampling: Sampling,
    version: str = "",
) -> Answer:
    """Draw ``n`` answers and keep the one that ``reward`` prefers.

    Its distance from the engine's own policy is KL = ln n − (n − 1)/n nats (Gao et al. 2022),
    without any training. ``version`` is stamped on the answer.
    """
    from palmier.generate.rollout import rollout

    answers = rollout(engine, template, [conversation], sampling, n, version)[0]
    return answers[best_of(reward, conversation, answers)]


def _function(spec: str) -> Callable[[Conversation, Answer], float]:
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise Refusal(f"{spec!r} names no program: write module:function or file.py:function")
    if where.endswith(".py"):
        source = importlib.util.spec_from_file_location(f"reward program {where}", where)
        if source is None or source.loader is None or not Path(where).is_file():
            raise Refusal(f"there is no file {where}")
        module = importlib.util.module_from_spec(source)
        sys.modules[source.name] = module  # where dataclasses look for the module that they stand in
        try:
            source.loader.exec_module(module)
        except Exception as error:
            raise Refusal(f"{where} can not be run: {type(error).__name__}: {error}") from error
    else:
        # An installed command does not look into the current folder by itself.
        if "" not in sys.path:
            sys.path.insert(0, "")
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            raise Refusal(f"no module {error.name} for {spec}: run from its folder, or write file.py:{name}") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise Refusal(f"{where} has no function {name}")
    return function  # type: ignore[no-any-return]  # that its result is a number is checked at every call


def _finite(score: object, source: str) -> float:
    if not isinstance(score, numbers.Real) or not math.isfinite(score):
        raise Refusal(f"{source} gave {score!r} as a score: a reward must be a finite number")
    return float(score)
