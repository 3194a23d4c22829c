"""Numbers about answers: the judge's parts, intervals clustered by prompt, and distances between models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from palmier.data.template import Template
from palmier.demo.gold import Gold, judge
from palmier.demo.tasks import SORTS, Task
from palmier.evaluate.winrate import Interval, at_equal_length, win_rate
from palmier.model import checkpoint
from palmier.model.decoder import token_logprobs
from palmier.models.names import resolve_model
from palmier.records import Answer, Conversation

RESAMPLES = 2000
ROWS = 64
"""Answers that are read in one forward."""

Golds = Sequence[Sequence[Gold]]
"""For each prompt the judgements of its answers."""


def judge_all(tasks: Sequence[Task], answers: Sequence[Sequence[Answer]]) -> list[list[Gold]]:
    return [[judge(task, answer) for answer in some] for task, some in zip(tasks, answers, strict=True)]


def summary(tasks: Sequence[Task], answers: Sequence[Sequence[Answer]], golds: Golds) -> dict[str, Any]:
    """Means over all answers, in all and for each sort of request; shares are 0 … 1, points as the judge's."""
    whole = _means(answers, golds)
    whole["sorts"] = {}
    for sort in SORTS:
        chosen = [i for i, task in enumerate(tasks) if task.kind == sort]
        if chosen:
            whole["sorts"][sort] = _means([answers[i] for i in chosen], [golds[i] for i in chosen])
    return whole


def _means(answers: Sequence[Sequence[Answer]], golds: Golds) -> dict[str, Any]:
    said = [answer for some in answers for answer in some]
    flat = [gold for some in golds for gold in some]
    names = ("score", "facts", "format", "politeness", "length", "right", "rude", "warm", "heading")
    means: dict[str, Any] = {name: round(fmean(float(getattr(gold, name)) for gold in flat), 4) for name in names}
    means["words"] = round(fmean(len(answer.text.split()) for answer in said), 2)
    means["ended"] = round(fmean(answer.finish == "stop" for answer in said), 4)
    return means


def outcomes(new: Golds, old: Golds) -> list[list[float]]:
    """For each prompt: every new answer against every old one, 1 better by gold, ½ level, 0 worse."""
    return [
        [0.5 + 0.5 * ((mine.score > theirs.score) - (mine.score < theirs.score)) for mine in ours for theirs in others]
        for ours, others in zip(new, old, strict=True)
    ]


def against(
    tasks: Sequence[Task],
    new: Golds,
    old: Golds,
    new_answers: Sequence[Sequence[Answer]],
    old_answers: Sequence[Sequence[Answer]],
    seed: int,
) -> dict[str, Any]:
    """Win rate of new over old with its interval, at equal length too, and what became of each part."""
    results = outcomes(new, old)
    longer = [
        [float(len(mine.text.split()) - len(theirs.text.split())) for mine in ours for theirs in others]
        for ours, others in zip(new_answers, old_answers, strict=True)
    ]
    found: dict[str, Any] = {
        "win_rate": asdict(win_rate(results, seed)),
        "equal_length": asdict(at_equal_length(results, longer, seed)),
    }
    for part in ("score", "facts", "format", "politeness", "length", "right"):
        found[f"{part}_change"] = asdict(change(new, old, part, seed))
    found["right_change_sorts"] = {}
    for sort in SORTS:
        chosen = [i for i, task in enumerate(tasks) if task.kind == sort]
        if chosen:
            fall = change([new[i] for i in chosen], [old[i] for i in chosen], "right", seed)
            found["right_change_sorts"][sort] = asdict(fall)
    return found


def change(new: Golds, old: Golds, part: str, seed: int) -> Interval:
    """New mean minus old mean of one part, prompts drawn with replacement (bootstrap, 95 %)."""

    def means(golds: Golds) -> list[float]:
        return [fmean(float(getattr(gold, part)) for gold in some) for some in golds]

    differences = np.array(means(new)) - np.array(means(old))
    generator = np.random.default_rng([seed, len(part)])
    rows = generator.integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[rows].mean(1), (0.025, 0.975))
    return Interval(float(differences.mean()), float(low), float(high), len(differences))


def pair_accuracy(golds: Golds, scores: Sequence[Sequence[float]], least_gap: float, seed: int) -> Interval | None:
    """The share of pairs whose order by ``scores`` is gold's, among pairs at least ``least_gap`` apart in gold.

    Pairs equal in gold are no pairs; equal scores are half right. None where no pair is left.
    """
    groups = []
    for some, given in zip(golds, scores, strict=True):
        pairs = [
            0.5 + 0.5 * ((given[i] > given[j]) - (given[i] < given[j]))
            for i in range(len(some))
            for j in range(len(some))
            if some[i].score > some[j].score and some[i].score - some[j].score >= least_gap
        ]
        if pairs:
            groups.append(pairs)
    return win_rate(groups, seed) if groups else None


def spread(golds: Golds) -> float:
    """The judge's spread on these answers: the highest score less the lowest."""
    scores = [gold.score for some in golds for gold in some]
    return max(scores) - min(scores)


def kl_from_samples(policy: Path, reference: Path, tasks: Sequence[Task], answers: Sequence[Sequence[Answer]]) -> float:
    """KL(policy ‖ reference) in nats an answer: the mean of log π − log π_ref over the policy's own samples.

    The estimator k1 of Schulman's note, unbiased at the temperature 1 that the answers were drawn at.
    """
    mine, theirs = (_answer_logprobs(model, tasks, answers) for model in (policy, reference))
    return float((mine - theirs).mean())


@torch.no_grad()
def _answer_logprobs(model: Path, tasks: Sequence[Task], answers: Sequence[Sequence[Answer]]) -> torch.Tensor:
    """log π(answer | prompt) of every answer, in float32."""
    folder = resolve_model(model)
    template, decoder = Template.load(folder), checkpoint.load(folder, torch.float32)
    rows = []
    for task, some in zip(tasks, answers, strict=True):
        prompt = list(template.prompt(Conversation.ask(task.prompt)))
        rows += [(len(prompt), prompt + list(answer.tokens)) for answer in some]
    found = []
    for start in range(0, len(rows), ROWS):
        piece = rows[start : start + ROWS]
        width = max(len(ids) for _, ids in piece)
        tokens_BT = torch.zeros(len(piece), width, dtype=torch.long)
        targets_BT = torch.full((len(piece), width), -100)
        for row, (first, ids) in enumerate(piece):
            tokens_BT[row, : len(ids)] = torch.tensor(ids)
            targets_BT[row, first - 1 : len(ids) - 1] = torch.tensor(ids[first:])
        found.append(token_logprobs(decoder, decoder(tokens_BT), targets_BT).logprobs_BT.sum(1))
    return torch.cat(found)
