"""What is done to logits before the temperature: bias, and penalties on tokens that were said.

The formulas and their sources stand at the top of ``generate.sampling``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from palmier.records import Sampling

FURTHEST = 1e30
"""How far from 0 a changed logit may lie."""

Text = tuple[Sequence[int], Sequence[int]]
"""A row's (prompt, answer so far)."""


class Penalties:
    """The rows of a batch that have a bias or a penalty, and what their texts hold so far."""

    def __init__(self, samplings: Sequence[Sampling], texts: Sequence[Text]) -> None:
        chosen = [i for i, sampling in enumerate(samplings) if is_changed(sampling)]
        self._samplings = [samplings[i] for i in chosen]
        self._texts: list[Text] = [texts[i] for i in chosen]
        self.rows_C = torch.tensor(chosen, dtype=torch.long)
        if not chosen:  # the usual case, made anew with every change of the batch
            return
        self._repetition_C1, self._presence_C1, self._frequency_C1 = (
            torch.tensor([[getattr(one, name)] for one in self._samplings], dtype=torch.float32)
            for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
        )
        self._said_CV = self._times_CV = self._bias_CV = torch.empty(0)

    def __len__(self) -> int:
        return len(self._samplings)

    def apply(self, logits_CV: Tensor) -> Tensor:
        """The changed fp32 logits of the rows ``rows_C``."""
        if not len(self._bias_CV):
            self._count(logits_CV.shape[1])
        logits_CV = logits_CV + self._bias_CV
        repeated_CV = torch.where(logits_CV > 0, logits_CV / self._repetition_C1, logits_CV * self._repetition_C1)
        logits_CV = torch.where(self._said_CV, repeated_CV, logits_CV)
        logits_CV = logits_CV - self._presence_C1 * (self._times_CV > 0) - self._frequency_C1 * self._times_CV
        # A penalty near 0 divides past fp32's end, and the difference of two infinities is no number.
        return logits_CV.clamp_(-FURTHEST, FURTHEST)

    def note(self, tokens_C: Tensor) -> None:
        """One more token of each row's answer."""
        self._said_CV.scatter_(1, tokens_C[:, None], True)
        self._times_CV.scatter_add_(1, tokens_C[:, None], torch.ones(len(tokens_C), 1))

    def _count(self, vocabulary: int) -> None:
        """Tables of the texts so far: whether a token stands in them, how often in the answer, and the bias."""
        shape = (len(self._samplings), vocabulary)
        self._said_CV = torch.zeros(shape, dtype=torch.bool)
        self._times_CV, self._bias_CV = torch.zeros(shape), torch.zeros(shape)
        for row, (sampling, (prompt, answer)) in enumerate(zip(self._samplings, self._texts, strict=True)):
            self._said_CV[row, torch.tensor([*prompt, *answer], dtype=torch.long)] = True
            self._times_CV[row] += torch.bincount(torch.tensor(answer, dtype=torch.long), minlength=vocabulary)
            for token, bias in sampling.logit_bias:
                self._bias_CV[row, token] = bias


def is_changed(sampling: Sampling) -> bool:
    """Whether logits are changed at all."""
    lowered = sampling.presence_penalty or sampling.frequency_penalty
    return bool(sampling.repetition_penalty != 1 or lowered or sampling.logit_bias)
