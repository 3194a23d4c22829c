"""Answers as rows of tensors: cut to what is needed, computed, and put back in their places.

A row is a prompt and an answer, padded right. Rows of one forward are cut to the longest of
them, so that no time goes into padding. How rows are grouped into a forward is decided once,
by the stage, and stays: then a log-probability that is computed again is equal to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from palmier.data.batches import NO_LOSS
from palmier.data.pairs import RankedGroups
from palmier.data.prompts import read_rankings
from palmier.data.shards import share
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.feedback.rankings import clear
from palmier.model.decoder import Decoder, token_logprobs
from palmier.records import Ranking
from palmier.train.log import say

Rows = Mapping[str, Tensor]

MUCH = 0.1
"""Share of pairs ordered both ways from which a person is told."""


def row_length(wished: int | None, longest: int) -> int:
    """Tokens of a row: what was wished, or all that the model can hold. Raises Refusal where that is less."""
    if wished is not None and wished > longest:
        raise Refusal(f"length {wished} is more than the model can hold: {longest}")
    return wished or longest


def ranked_groups(
    path: Path, template: Template, length: int, *, validation: float, batch: int, seed: int
) -> tuple[RankedGroups, RankedGroups | None]:
    """Groups of ranked answers to learn from, and held-out ones (of other prompts) where there are any.

    ``validation`` is the share of the prompts that is held out; all rankings of a prompt fall on
    the same side. Raises Refusal where there is nothing to learn from.
    """
    rankings = read_rankings(path)
    if len(rankings) < 2:
        raise Refusal(f"{path} holds one ranking only, which cannot tell a taste from chance: rank more answers")
    _refuse_chance(path, rankings)
    sides: tuple[list[Ranking], list[Ranking]] = ([], [])
    for ranking in rankings:
        prompt = json.dumps(ranking.conversation.to_json())
        sides[share(prompt, seed) < validation].append(ranking)
    if not sides[0]:
        raise Refusal(f"{path} has too few rankings: all of them are held out for validation")
    train = RankedGroups(sides[0], template, length, batch=batch, seed=seed)
    for count, what in (
        (train.too_long, "answers that are too long"),
        (train.without_pairs, "rankings without a pair"),
    ):
        if count:
            say(f"{path}: {count} {what} are left out")
    if not any(len(set(ranking.ranks)) > 1 for ranking in sides[1]):
        return train, None  # nothing held out, or ties alone
    return train, RankedGroups(sides[1], template, length, batch=batch, seed=seed)


def _refuse_chance(path: Path, rankings: list[Ranking]) -> None:
    """Raise Refusal where no order is left: ties, or pairs ordered as often one way as the other. Warns of many."""
    found = clear(rankings)
    if found.tied == len(rankings):
        raise Refusal(f"{path}: all {len(rankings)} rankings are ties alone: there is nothing to learn from")
    if not found.prompts:
        raise Refusal(
            f"{path}: its rankings contradict each other on every pair, or order equal answers: there is nothing to learn from"
        )
    if found.contradicted > MUCH * found.pairs:
        say(f"{path}: {found.contradicted} of {found.pairs} pairs were ordered both ways, which teaches little")


@dataclass(frozen=True)
class AnswerRows:
    """The N answers that the groups of a batch really have, and where in (G, K) they belong."""

    tokens_NT: Tensor
    targets_NT: Tensor
    last_N: Tensor
    place_N: Tensor
    shape: tuple[int, int]

    def spread(self, values_N: Tensor) -> Tensor:
        """One value a row as (G, K), 0 where a group has no such answer."""
        flat = values_N.new_zeros(self.shape[0] * self.shape[1]).index_copy(0, self.place_N, values_N)
        return flat.view(self.shape)


def answer_rows(groups: Rows) -> AnswerRows:
    """The answers of a ``RankedGroups`` batch as rows of one forward."""
    last_GK = groups["last"]
    # No prompt is empty, so an answer's last token never stands at position 0.
    place_N = last_GK.flatten().nonzero().squeeze(1)
    last_N = last_GK.flatten()[place_N]
    width = int(last_N.max()) + 1
    tokens_NT = groups["tokens"].flatten(0, 1)[place_N, :width]
    targets_NT = groups["targets"].flatten(0, 1)[place_N, :width]
    return AnswerRows(tokens_NT, targets_NT, last_N, place_N, (last_GK.shape[0], last_GK.shape[1]))


def real_groups(groups: Rows) -> dict[str, Tensor]:
    """A batch without the empty groups that fill up an epoch's last one."""
    real_G = groups["group"] >= 0
    return {name: value[real_G] for name, value in groups.items()}


def micro_batches(rows: Rows, size: int) -> Iterator[dict[str, Tensor]]:
    """The pieces of ``size`` rows (0 = all) in which the trainer computes a batch."""
    count = len(next(iter(rows.values())))
    for start in range(0, count, size or count):
        yield {name: value[start : start + (size or count)] for name, value in rows.items()}


def answer_logprobs(decoder: Decoder, found: AnswerRows) -> Tensor:
    """log π(answer | prompt) of every row in nats: the sum over the answer's tokens, its end included; (N,) fp32."""
    hidden_NTD = decoder(found.tokens_NT)
    return token_logprobs(decoder, hidden_NTD, found.targets_NT).logprobs_BT.sum(1)


def weight_of(groups: Rows) -> float:
    """How many prompts a batch counts for."""
    return float(groups["weights"].sum())


@torch.no_grad()
def pair_accuracy(
    loss: Callable[[Rows], tuple[Tensor, Mapping[str, Tensor]]], held_out: RankedGroups, micro_batch: int
) -> dict[str, float]:
    """``validation_loss`` and ``validation_accuracy``, the share of pairs in the right order, over all prompts."""
    summed = right = total = 0.0
    for step in range(held_out.steps_per_epoch):
        for groups in micro_batches(real_groups(held_out.batch(step)), micro_batch):
            found, metrics = loss(groups)
            summed, right = summed + float(found), right + float(metrics["accuracy"])
            total += weight_of(groups)
    return {"validation_loss": summed / total, "validation_accuracy": right / total}


def answer_lengths(groups: Rows) -> Tensor:
    """Trained tokens of every answer, (G, K) fp32."""
    return (groups["targets"] != NO_LOSS).sum(2).to(torch.float32)
