"""Judges: any reward, asked which of two answers it prefers, and whether it may be believed."""

from __future__ import annotations

from collections.abc import Sequence

from palmier.errors import Refusal
from palmier.evaluate.winrate import Interval, win_rate
from palmier.feedback.rankings import comparisons
from palmier.feedback.reward import Reward
from palmier.records import Answer, Conversation, Ranking

Answers = Sequence[Sequence[Answer]]
"""For each conversation its answers."""


def outcomes(judge: Reward, conversations: Sequence[Conversation], new: Answers, old: Answers) -> list[list[float]]:
    """For each conversation: every new answer against every old one, 1 better, ½ level, 0 worse."""
    scores_new, scores_old = _scores(judge, conversations, new), _scores(judge, conversations, old)
    return [
        [0.5 + 0.5 * ((mine > theirs) - (mine < theirs)) for mine in ours for theirs in others]
        for ours, others in zip(scores_new, scores_old, strict=True)
    ]


def length_differences(new: Answers, old: Answers) -> list[list[float]]:
    """Characters of the new answer less those of the old one, in the order of ``outcomes``."""
    return [
        [float(len(mine.text) - len(theirs.text)) for mine in ours for theirs in others]
        for ours, others in zip(new, old, strict=True)
    ]


def accuracy(judge: Reward, rankings: Sequence[Ranking], seed: int) -> Interval:
    """The share of people's comparisons that the judge orders as they did, equal scores half.

    Each ranking's pairs are a group and rankings of one prompt are one: 0.5 is chance, and a
    judge whose interval reaches down to 0.5 has shown nothing. Raises Refusal where all are ties.
    """
    groups: dict[Conversation, list[float]] = {}
    for ranking in rankings:
        scores = dict(zip(ranking.answers, _scores(judge, [ranking.conversation], [ranking.answers])[0], strict=True))
        for comparison in comparisons(ranking):
            margin = scores[comparison.chosen] - scores[comparison.rejected]
            groups.setdefault(ranking.conversation, []).append(0.5 + 0.5 * ((margin > 0) - (margin < 0)))
    if not groups:
        raise Refusal("a judge is tried on comparisons, and these rankings are all ties")
    return win_rate(list(groups.values()), seed)


def _scores(judge: Reward, conversations: Sequence[Conversation], answers: Answers) -> list[list[float]]:
    asked = [conversation for conversation, some in zip(conversations, answers, strict=True) for _ in some]
    flat = iter(judge.score(asked, [answer for some in answers for answer in some]))
    return [[next(flat) for _ in some] for some in answers]
