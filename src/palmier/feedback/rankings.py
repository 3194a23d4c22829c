"""What rankings say: comparisons, how often people agree, and what contradicts itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from palmier.records import Comparison, Conversation, Ranking

Pair = tuple[Conversation, str, str]
"""A conversation and two different texts that answer it, in alphabetical order."""


def comparisons(ranking: Ranking) -> list[Comparison]:
    """Every pair of answers of which one stands strictly above the other; ties give none.

    ``all_bad`` takes nothing away: that all answers are bad says nothing against the order
    between them, and a person who saw no order leaves them tied. The mark itself stays in the
    raw ranking.
    """
    answers, ranks = ranking.answers, ranking.ranks
    return [
        Comparison(ranking.conversation, answers[i], answers[j])
        for i in range(len(answers))
        for j in range(len(answers))
        if ranks[i] < ranks[j]
    ]


@dataclass(frozen=True)
class Agreement:
    """``same`` of ``total`` pairs that two people ordered were ordered alike."""

    same: int
    total: int

    @property
    def share(self) -> float:
        return self.same / self.total if self.total else float("nan")


def agreement(rankings: Iterable[Ranking]) -> Agreement:
    """How often two different annotators put the same two answers in the same order.

    One person's several opinions of a pair count as their sum; ties and a sum of 0 are left out.
    """
    votes: dict[Pair, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for ranking in rankings:
        for pair, vote in _votes(ranking):
            votes[pair][ranking.annotator] += vote
    same = total = 0
    for people in votes.values():
        for one, other in combinations([vote for vote in people.values() if vote], 2):
            total += 1
            same += (one > 0) == (other > 0)
    return Agreement(same, total)


@dataclass(frozen=True)
class Clear:
    """Rankings whose prompt has at least one pair with a majority, and why the others have none.

    ``prompts`` counts the different conversations of ``rankings``; ``tied`` are rankings without
    any order, ``undone`` rankings whose pairs are all cancelled by opposite ones, and
    ``contradicted`` of ``pairs`` were ordered both ways.
    """

    rankings: list[Ranking]
    prompts: int
    tied: int
    undone: int
    contradicted: int
    pairs: int


def clear(rankings: Sequence[Ranking]) -> Clear:
    """Sort out what can teach nothing: rankings of ties, and prompts whose rankings cancel each other."""
    sums: dict[Pair, int] = defaultdict(int)
    ways: dict[Pair, set[bool]] = defaultdict(set)
    for ranking in rankings:
        for pair, vote in _votes(ranking):
            sums[pair] += vote
            ways[pair].add(vote > 0)
    decided = {conversation for (conversation, _, _), total in sums.items() if total}
    ordered = [ranking for ranking in rankings if len(set(ranking.ranks)) > 1]
    kept = [ranking for ranking in ordered if ranking.conversation in decided]
    return Clear(
        rankings=kept,
        prompts=len({ranking.conversation for ranking in kept}),
        tied=len(rankings) - len(ordered),
        undone=len(ordered) - len(kept),
        contradicted=sum(len(way) == 2 for way in ways.values()),
        pairs=len(ways),
    )


def _votes(ranking: Ranking) -> list[tuple[Pair, int]]:
    """+1 where the alphabetically first text of a pair is the chosen one, else −1."""
    votes = []
    for comparison in comparisons(ranking):
        chosen, rejected = comparison.chosen.text, comparison.rejected.text
        if chosen != rejected:
            first, second = sorted((chosen, rejected))
            votes.append(((ranking.conversation, first, second), 1 if first == chosen else -1))
    return votes
