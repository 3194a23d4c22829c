"""Rankings as tensors: one prompt's K answers are one batch element (Ouyang et al. 2022, section 3.5).

Used by the reward model and by DPO, whose loss over scores (G, K) is
``sum over g, i, j of weights[g, i, j] · −log σ(score[g, i] − score[g, j])``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palmier.data.batches import NO_LOSS, Epochs
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Ranking

MULTIPLE = 16
"""Rows are padded to a multiple of this, which suits vector units and compiled kernels."""


@dataclass(frozen=True)
class _Group:
    conversation: Conversation
    prompt: npt.NDArray[np.int32]
    answers: tuple[npt.NDArray[np.int32], ...]
    ranks: tuple[int, ...]


class RankedGroups:
    """Groups of K ranked answers in one shape (G, K, T).

    ``length`` is the most tokens that prompt and answer may have together; T is the longest
    row that is kept, rounded up to a multiple of 16, and K is the largest group's.

    ``batch(step)`` gives, for G = ``batch`` groups:
    ``tokens`` int64 (G, K, T), padded right; ``answer_mask`` bool (G, K, T), True on the
    answer's tokens and end; ``targets`` int64 (G, K, T), the next token where it is the
    answer's, −100 elsewhere; ``last`` int64 (G, K), the answer's last token, where its score is
    read; ``weights`` float32 (G, K, K), above 0 where answer i stands strictly above answer j;
    ``group`` int64 (G,), the group's number in the data set, −1 for a filling one.
    The weights of a prompt sum to 1 over the data set, however many answers and rankings it
    has. Missing answers of a smaller group are padding (``last`` 0) and beat nothing. An epoch
    holds every group once; its last batch is filled with empty groups.

    Left out and counted: answers too long for ``length`` (``too_long``), rankings without any
    comparison left (``without_pairs``). "All bad" says nothing about the order and is not read.
    """

    def __init__(
        self, rankings: Sequence[Ranking], template: Template, length: int, *, batch: int = 1, seed: int = 0
    ) -> None:
        """Raises Refusal where no comparison is left, and where an answer's tokens are not this tokenizer's."""
        self.too_long = self.without_pairs = 0
        self._padding = template.stop_ids[-1]
        limit = length // MULTIPLE * MULTIPLE
        self._groups: list[_Group] = []
        for number, ranking in enumerate(rankings, start=1):
            try:
                group = self._group(ranking, template, limit)
            except Refusal as refusal:
                raise Refusal(f"ranking {number}: {refusal}") from None
            if group is None:
                self.without_pairs += 1
            else:
                self._groups.append(group)
        if not self._groups:
            why = "all are ties"
            if self.too_long:
                why = f"{self.too_long} answers are longer than {limit} tokens with their prompts, all else are ties"
                why += "; raise the length"
            raise Refusal(f"no comparison in {len(rankings)} rankings: {why}")
        longest = max(len(group.prompt) + len(answer) for group in self._groups for answer in group.answers)
        self.length = -(-longest // MULTIPLE) * MULTIPLE
        self.width = max(len(group.answers) for group in self._groups)
        self._times = Counter(group.conversation for group in self._groups)
        self._epochs = Epochs(len(self._groups), batch, seed, "ranked groups", keep_rest=True)
        self._batch = batch
        self.steps_per_epoch = self._epochs.steps

    def __len__(self) -> int:
        """Groups that are trained on."""
        return len(self._groups)

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, from 0 without an end."""
        return self.at(self._epochs.at(step)[1], self._batch)

    def at(self, numbers: Sequence[int], rows: int | None = None) -> dict[str, Tensor]:
        """The batch of these groups of the data set, filled up to ``rows`` with empty ones."""
        shape = (rows or len(numbers), self.width, self.length)
        tokens = np.full(shape, self._padding, dtype=np.int64)
        mask = np.zeros(shape, dtype=bool)
        last = np.zeros(shape[:2], dtype=np.int64)
        weights = np.zeros((shape[0], self.width, self.width), dtype=np.float32)
        numbered = np.full(shape[0], -1, dtype=np.int64)
        for row, number in enumerate(numbers):
            group = self._groups[number]
            for column, answer in enumerate(group.answers):
                start, end = len(group.prompt), len(group.prompt) + len(answer)
                tokens[row, column, :start] = group.prompt
                tokens[row, column, start:end] = answer
                mask[row, column, start:end] = True
                last[row, column] = end - 1
            ranks, count = np.array(group.ranks), len(group.ranks)
            above = ranks[:, None] < ranks[None, :]
            weights[row, :count, :count] = above / (above.sum() * self._times[group.conversation])
            numbered[row] = number
        targets = np.full(shape, NO_LOSS, dtype=np.int64)
        targets[..., :-1] = np.where(mask[..., 1:], tokens[..., 1:], NO_LOSS)
        arrays = {"tokens": tokens, "answer_mask": mask, "targets": targets, "last": last, "weights": weights}
        return {name: torch.from_numpy(a) for name, a in (arrays | {"group": numbered}).items()}

    def _group(self, ranking: Ranking, template: Template, limit: int) -> _Group | None:
        prompt = template.prompt(ranking.conversation)
        answers, ranks = [], []
        for answer, rank in zip(ranking.answers, ranking.ranks, strict=True):
            _refuse_foreign(answer, template)
            ids = template.answer_ids(answer)
            if len(prompt) + len(ids) > limit:
                self.too_long += 1
            else:
                answers.append(np.array(ids, dtype=np.int32))
                ranks.append(rank)
        if len(set(ranks)) < 2:
            return None
        return _Group(ranking.conversation, np.array(prompt, dtype=np.int32), tuple(answers), tuple(ranks))


def _refuse_foreign(answer: Answer, template: Template) -> None:
    """Raise Refusal where an answer's tokens do not begin with its text: another tokenizer drew them.

    They may say more than the text, which a stop string cuts.
    """
    if answer.tokens and not template.answer_text(answer.tokens).strip().startswith(answer.text.strip()):
        raise Refusal(
            f"the tokens of an answer of version {answer.version!r} are not its text in this model's tokenizer: "
            "train the model that answered, or remove the tokens from the file"
        )
