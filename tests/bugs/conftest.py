"""A world small enough to be written out: 5 tokens, answers of at most 3, all 85 of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from palmier.data.batches import NO_LOSS
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.heads import RewardModel
from palmier.train import losses, ppo
from palmier.train.advantages import ScoreScale
from palmier.train.episodes import Credit, Episodes, Rollout

VOCABULARY, LENGTH, END = 5, 3, 4


class Toy:
    """Every answer of the toy (an end token, or three without one) and exact sums over them.

    A policy is a table of logits ``(LENGTH, VOCABULARY + 1, VOCABULARY)``: position, token
    before (VOCABULARY stands for the prompt), next token.
    """

    def __init__(self) -> None:
        answers: list[tuple[int, ...]] = []
        for length in range(1, LENGTH + 1):
            heads = itertools.product(range(VOCABULARY - 1), repeat=length - 1)
            answers += [(*head, END) for head in heads]
        answers += list(itertools.product(range(VOCABULARY - 1), repeat=LENGTH))
        self.answers = answers
        count = len(answers)
        self.tokens_NT = torch.zeros(count, LENGTH, dtype=torch.long)
        self.mask_NT = torch.zeros(count, LENGTH, dtype=torch.bool)
        for n, answer in enumerate(answers):
            self.tokens_NT[n, : len(answer)] = torch.tensor(answer)
            self.mask_NT[n, : len(answer)] = True

    def policy(self, seed: int) -> Tensor:
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(LENGTH, VOCABULARY + 1, VOCABULARY, generator=draw, dtype=torch.float64)

    def distributions(self, table: Tensor) -> Tensor:
        """log π of every next token at every place of every answer: (N, LENGTH, VOCABULARY)."""
        before_NT = torch.cat([torch.full((len(self.answers), 1), VOCABULARY), self.tokens_NT[:, :-1]], 1)
        return table[torch.arange(LENGTH), before_NT].log_softmax(-1)

    def logprobs(self, table: Tensor) -> Tensor:
        """log π of the tokens of every answer: (N, LENGTH); masked slots hold some other number."""
        return self.distributions(table).gather(-1, self.tokens_NT[..., None])[..., 0]

    def probabilities(self, table: Tensor) -> Tensor:
        """π(y) of every answer; they sum to 1."""
        return torch.where(self.mask_NT, self.logprobs(table), 0.0).sum(1).exp()

    def kl(self, table: Tensor, reference: Tensor) -> Tensor:
        """The exact KL(π‖π_ref) in nats, by summing over all answers; differentiable."""
        gap_N = torch.where(self.mask_NT, self.logprobs(table) - self.logprobs(reference), 0.0).sum(1)
        return (self.probabilities(table) * gap_N).sum()

    def values(self, table: Tensor, rewards_NT: Tensor) -> Tensor:
        """The perfect critic: what is still to be earned, on average, before the token of each slot; (N, LENGTH)."""
        weight_N = self.probabilities(table).detach()
        left_NT = torch.where(self.mask_NT, rewards_NT, 0.0).flip(1).cumsum(1).flip(1)
        found = torch.zeros_like(left_NT)
        for n, answer in enumerate(self.answers):
            for t in range(len(answer)):
                alike = [m for m, other in enumerate(self.answers) if len(other) > t and other[:t] == answer[:t]]
                found[n, t] = (weight_N[alike] * left_NT[alike, t]).sum() / weight_N[alike].sum()
        return found

    def episodes(self, table: Tensor, reference: Tensor, rewards_N: Tensor, values_NT: Tensor) -> Episodes:
        """All answers, once each, as PPO collects them."""
        targets_NT = torch.where(self.mask_NT, self.tokens_NT, NO_LOSS)
        ended_N = torch.tensor([answer[-1] == END for answer in self.answers])
        order = tuple(range(len(self.answers)))
        old_NT = self.logprobs(table).detach()
        said = Rollout(self.tokens_NT, targets_NT, old_NT, ended_N, order)
        reference_NT = self.logprobs(reference).detach()
        entropy_NT = torch.zeros_like(old_NT)
        return Episodes(said, old_NT, reference_NT, entropy_NT, values_NT, rewards_N, rewards_N)

    def expected_gradient(self, table: Tensor, episodes: Episodes, credit: Credit) -> Tensor:
        """The gradient by ``table`` of PPO's loss of an answer drawn from the policy that gave the episodes."""
        table = table.detach().clone().requires_grad_()
        new_NT = self.logprobs(table)
        weight_N = torch.where(self.mask_NT, episodes.old_BT, 0.0).sum(1).exp()
        total = torch.zeros((), dtype=table.dtype)
        for n in range(len(self.answers)):
            row = slice(n, n + 1)
            mask = self.mask_NT[row]
            move = losses.clipped_policy(new_NT[row], episodes.old_BT[row], credit.advantages_BT[row], mask, ppo.CLIP)
            total = total + weight_N[n] * move.loss
        total.backward()
        assert table.grad is not None
        return table.grad

    def draw(self, table: Tensor, count: int, seed: int) -> Tensor:
        """Indices of ``count`` answers drawn from π."""
        draw = torch.Generator().manual_seed(seed)
        return torch.multinomial(self.probabilities(table).detach(), count, replacement=True, generator=draw)


@pytest.fixture
def toy() -> Toy:
    made = Toy()
    assert len(made.answers) == 85
    assert abs(float(made.probabilities(made.policy(0)).sum()) - 1) < 1e-12
    return made


@dataclass
class Learner:
    """PPO's two models at the toy's size, and a batch of what they learn from."""

    parts: Any  # ppo.Parts with a policy and a critic alone
    settings: ppo.Settings
    rows: dict[str, Tensor]

    def objective(self, **change: Any) -> ppo.Objective:
        from dataclasses import replace

        return ppo.Objective(replace(self.settings, **change), self.parts, ScoreScale(0.0, 1.0), policy_moves=True)

    def gradients(self) -> list[Tensor]:
        """Of both models, and cleared afterwards."""
        found = []
        for module in (self.parts.policy, self.parts.value):
            for parameter in module.parameters():
                found.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone())
                parameter.grad = None
        return found


@pytest.fixture
def learner() -> Learner:
    """Policy and critic over 5 tokens; 6 rows of 8 slots of which some stand for nothing."""
    shape = ModelConfig.palm(VOCABULARY, 16, 2, 2, max_positions=32)
    policy, critic = Decoder.create(shape, 0), RewardModel.from_decoder(Decoder.create(shape, 1), 1)
    parts = ppo.Parts(policy, critic, policy, None, None, None, [], [], Path())  # type: ignore[arg-type]  # the loss reads two
    settings = ppo.Settings(Path("unused"), "unused", "unused", Path("unused"))
    draw = torch.Generator().manual_seed(7)
    tokens = torch.randint(VOCABULARY, (6, 8), generator=draw)
    targets = torch.full((6, 8), NO_LOSS)
    for row, (begin, end) in enumerate([(1, 4), (2, 8), (0, 3), (3, 5), (1, 2), (2, 7)]):
        targets[row, begin:end] = torch.randint(VOCABULARY, (end - begin,), generator=draw)
    rows = {"tokens": tokens, "targets": targets}
    for name in ("old", "values", "advantages", "returns"):
        rows[name] = torch.randn(6, 8, generator=draw) * 0.3 - (1.5 if name == "old" else 0.0)
    return Learner(parts, settings, rows)
