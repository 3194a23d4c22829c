"""A world small enough to be written out: 5 tokens, answers of at most 3, all 85 of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

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
