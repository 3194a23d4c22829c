"""Two versions answer the same prompts and a judge compares them: what a decision rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from palmier.data.template import Template
from palmier.evaluate.card import Evidence, ended
from palmier.evaluate.judges import Answers, accuracy, length_differences, outcomes
from palmier.evaluate.perplexity import answer_loss
from palmier.evaluate.winrate import at_equal_length, win_rate
from palmier.feedback.reward import Reward
from palmier.generate.engine import Engine
from palmier.generate.rollout import rollout
from palmier.model.checkpoint import load
from palmier.records import Answer, Conversation, Ranking, Sampling

SLOTS = 16
"""Answers drawn at once."""

Heard = Callable[[int, int], None]
"""Called with (answers done, answers in all)."""


@dataclass(frozen=True)
class Side:
    """One version's answers to the prompts of a comparison, and its folder."""

    folder: Path
    answers: Answers


def collected_sampling(rankings: Sequence[Ranking], seed: int) -> Sampling:
    """How most of the ranked answers were drawn, with the longest limit among them and this seed.

    A comparison at another temperature would measure something that nobody ranked. Plain
    sampling at temperature 1 where people wrote all answers themselves.
    """
    everyone = [answer for ranking in rankings for answer in ranking.answers]
    # What another server wrote brings no tokens; what a person wrote was drawn in no way at all.
    drawn = [answer.sampling for answer in everyone if answer.tokens or answer.sampling != Sampling()]
    if not drawn:
        return Sampling(seed=seed)
    most, _ = Counter(replace(one, max_tokens=1, seed=0) for one in drawn).most_common(1)[0]
    return replace(most, max_tokens=max(one.max_tokens for one in drawn), seed=seed)


def answer(
    folder: Path,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    n: int,
    version: str,
    dtype: torch.dtype,
    progress: Heard | None = None,
) -> list[list[Answer]]:
    """``n`` answers of the model in ``folder`` to each conversation; the same seeds give the same answers."""
    template = Template.load(folder)
    decoder = load(folder, dtype)
    longest = max(len(template.prompt(conversation)) for conversation in conversations)
    context = min(decoder.config.max_positions, longest + sampling.max_tokens)
    engine = Engine(decoder, slots=SLOTS, context=context)
    return rollout(engine, template, conversations, sampling, n, version, progress)


def compare(
    judge: Reward,
    unseen: Sequence[Ranking],
    conversations: Sequence[Conversation],
    new: Side,
    old: Side,
    *,
    seed: int,
    dtype: torch.dtype,
) -> Evidence:
    """Try the judge on ``unseen`` rankings, let it judge new against old, and look at the language of both."""
    results = outcomes(judge, conversations, new.answers, old.answers)
    differences = length_differences(new.answers, old.answers)
    template = Template.load(old.folder)
    prompts = [
        template.prompt(conversation)
        for conversation, some in zip(conversations, old.answers, strict=True)
        for _ in some
    ]
    said = [template.answer_ids(answer) for some in old.answers for answer in some]
    losses = {side.folder: answer_loss(load(side.folder, dtype), prompts, said) for side in (old, new)}
    return Evidence(
        judge=accuracy(judge, unseen, seed),
        win_rate=win_rate(results, seed),
        equal_length=at_equal_length(results, differences, seed),
        ended_old=ended(old.answers),
        ended_new=ended(new.answers),
        loss_old=losses[old.folder],
        loss_new=losses[new.folder],
    )
