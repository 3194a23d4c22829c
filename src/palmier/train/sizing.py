"""What follows from a model's size and from how many rankings there are: rates, batches, pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palmier.data.template import Template
from palmier.model import checkpoint as weights
from palmier.records import Ranking

LARGE = 1.35e8
"""Parameters of the model that these peak learning rates were found with, SmolLM2-135M."""

DPO_LR, REWARD_LR, PPO_LR, VALUE_LR = 3e-5, 5e-5, 2e-5, 4e-5

MEMORY = 1.5e9
"""Bytes that the activations of one forward and backward may take."""


@dataclass(frozen=True)
class StageSize:
    """How a stage cuts its data: prompts, prompts a step, prompts computed at once, steps between saves."""

    prompts: int
    batch: int
    micro_batch: int
    save_every: int


@dataclass(frozen=True)
class Rounds:
    """How long PPO goes on: rounds, critic-only rounds before them, answers a round, answers computed at once."""

    iterations: int
    warmup: int
    episodes: int
    micro_batch: int


@dataclass(frozen=True)
class Sizing:
    """Settings that follow from the model's size.

    ``factor`` = √(1.35e8 / parameters), by which learning rates are multiplied: the rates that were
    found good for 135 million parameters (3e-5) and for 3.4 million (2e-4) lie on this line.
    """

    parameters: int
    factor: float
    tokens_at_once: int
    template: Template

    @classmethod
    def of(cls, folder: Path) -> Sizing:
        """Read the size of the model in ``folder``."""
        decoder = weights.load(folder)
        count = sum(parameter.numel() for parameter in decoder.parameters())
        config = decoder.config
        # A layer keeps some 20 numbers of the hidden size for the backward pass, of 2 bytes each.
        tokens = int(MEMORY / (40 * config.num_layers * config.hidden_size))
        return cls(count, (LARGE / count) ** 0.5, tokens, Template.load(folder))

    def stage(self, rankings: Sequence[Ranking]) -> StageSize:
        """About 25 steps an epoch, and no more answers at once than the memory holds."""
        prompts = len({ranking.conversation for ranking in rankings})
        batch = min(8, max(2, prompts // 25))
        longest = max(self._tokens(ranking) for ranking in rankings)
        micro_batch = min(batch, max(1, self.tokens_at_once // longest))
        return StageSize(prompts, batch, micro_batch, 10 if self.large else 50)

    def rounds(self, rankings: Sequence[Ranking], max_tokens: int) -> Rounds:
        """Sixteen rounds of 128 answers, or for a large model what two cores do in about an hour."""
        row = max(len(self.template.prompt(ranking.conversation)) for ranking in rankings) + max_tokens
        micro_batch = 16
        while micro_batch > 1 and micro_batch * row > self.tokens_at_once:
            micro_batch //= 2
        return Rounds(6, 2, 64, micro_batch) if self.large else Rounds(12, 4, 128, micro_batch)

    @property
    def large(self) -> bool:
        """Whether a step takes seconds, and a checkpoint gigabytes."""
        return self.parameters > 2e7

    def _tokens(self, ranking: Ranking) -> int:
        prompt = len(self.template.prompt(ranking.conversation))
        longest = max(len(self.template.answer_ids(answer)) for answer in ranking.answers)
        return len(ranking.answers) * (prompt + longest)
