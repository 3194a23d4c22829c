"""What a policy said, as tensors: one row an answer, sorted by length, in pieces of like length.

Slot t of a row stands for the token drawn after position t, as in ``losses``. The pieces are made
once an iteration and never mixed: a log-probability that is computed again in the same piece is
equal to the bit, and a piece is only as wide as its longest row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from palmier.data.batches import NO_LOSS
from palmier.errors import Refusal
from palmier.records import Answer


@dataclass(frozen=True)
class Rollout:
    """B answers as they were drawn."""

    tokens_BT: Tensor  # int64: prompt and answer but for the last token, which nothing follows; padded right
    targets_BT: Tensor  # int64: the next token where it is the answer's, -100 elsewhere
    drawn_BT: Tensor  # fp32: ln p of that token, as the engine had it
    ended_B: Tensor  # bool: drew an end token
    order: tuple[int, ...]  # order[row] is the place of the row's answer among those given

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], answers: Sequence[Answer], padding: int) -> Rollout:
        """The very ids that were drawn after the very ids that were asked, the shortest row first.

        Raises Refusal where an answer was drawn from another distribution than the one that its log-probs tell of:
        the ratio of new to old policy would be biased from the first step on.
        """
        for answer in answers:
            if not answer.sampling.faithful:
                raise Refusal(
                    "an answer was drawn greedily, or with top_k, top_p, min_p, a penalty or a logit_bias: learn from "
                    "answers of the model's own distribution, at a temperature above 0 with all of these off"
                )
        sizes = [len(p) + len(a.tokens) for p, a in zip(prompts, answers, strict=True)]
        order = sorted(range(len(sizes)), key=lambda place: sizes[place])
        shape = (len(sizes), max(sizes) - 1)
        tokens_BT, targets_BT = torch.full(shape, padding), torch.full(shape, NO_LOSS)
        drawn_BT = torch.zeros(shape)
        for row, place in enumerate(order):
            prompt, answer = list(prompts[place]), answers[place]
            said = slice(len(prompt) - 1, sizes[place] - 1)
            tokens_BT[row, : sizes[place] - 1] = torch.tensor([*prompt, *answer.tokens[:-1]])
            targets_BT[row, said] = torch.tensor(answer.tokens)
            drawn_BT[row, said] = torch.tensor(answer.logprobs)
        ended_B = torch.tensor([answers[place].finish == "stop" for place in order])
        return cls(tokens_BT, targets_BT, drawn_BT, ended_B, tuple(order))

    @property
    def mask_BT(self) -> Tensor:
        """True where a slot stands for a token of the answer."""
        return self.targets_BT != NO_LOSS

    def pieces(self, size: int) -> list[Piece]:
        """Every row once, ``size`` rows at a time."""
        return [Piece(slice(start, start + size), self) for start in range(0, len(self.tokens_BT), size)]


@dataclass(frozen=True)
class Piece:
    """Rows that are always computed together."""

    rows: slice
    rollout: Rollout

    @property
    def width(self) -> int:
        """Slots up to the last one that stands for a token."""
        return int(self.rollout.mask_BT[self.rows].any(0).nonzero().max()) + 1

    def cut(self, values_BT: Tensor) -> Tensor:
        """This piece of a tensor over all rows."""
        return values_BT[self.rows, : self.width]


@dataclass(frozen=True)
class Episodes:
    """A rollout and what the learner thinks of it; (B, T) fp32, 0 where a slot stands for nothing."""

    rollout: Rollout
    old_BT: Tensor  # ln π of the policy that drew, as the trainer computes it
    reference_BT: Tensor  # ln π_ref
    entropy_BT: Tensor  # of π, in nats
    values_BT: Tensor  # what the critic expects from here
    rewards_B: Tensor  # of whole answers, in deviations of the starting policy's scores
    scores_B: Tensor  # the same as the reward said it

    @property
    def mask_BT(self) -> Tensor:
        return self.rollout.mask_BT

    def mean(self, values_BT: Tensor) -> float:
        """Over the tokens of all answers."""
        return float(values_BT[self.mask_BT].mean())

    def per_answer(self, values_BT: Tensor) -> float:
        """The mean over answers of the sum over tokens."""
        return float(torch.where(self.mask_BT, values_BT, 0.0).sum(1).mean())


@dataclass(frozen=True)
class Credit:
    """How much better than expected each token was, and what the critic should have expected; (B, T)."""

    advantages_BT: Tensor
    returns_BT: Tensor


def training_rows(episodes: Episodes, credit: Credit, piece: Piece) -> dict[str, Tensor]:
    """A piece as the trainer takes it: each tensor by its name without the axes."""
    whole = {"tokens": episodes.rollout.tokens_BT, "targets": episodes.rollout.targets_BT}
    whole |= {"old": episodes.old_BT, "values": episodes.values_BT}
    whole |= {field.name.removesuffix("_BT"): getattr(credit, field.name) for field in fields(credit)}
    return {name: piece.cut(values_BT) for name, values_BT in whole.items()}


def shuffled(pieces: Sequence[Piece], count: int, generator: torch.Generator) -> Iterator[list[Piece]]:
    """The pieces in a drawn order, ``count`` at a time."""
    order = torch.randperm(len(pieces), generator=generator).tolist()
    for start in range(0, len(order), count):
        yield [pieces[place] for place in order[start : start + count]]
