"""Simulated volunteers: they rank answers by the gold judge, and err.

A volunteer's order is drawn from a Mallows model around the true one: its probability falls by a
constant factor with every pair that it turns round. The factor is set so that in expectation
15 % of the pairs that differ in gold are flipped, whatever number of answers and ties there are;
the order is consistent by construction. Answers that are equal in gold are tied and stay together.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence

from palmier.demo.gold import judge
from palmier.demo.tasks import Task
from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Ranking

FLIPPED = 0.15
"""Expected share of pairs of unequal answers that a volunteer orders the wrong way round."""
MOST = 6
"""How many answers a simulated volunteer ranks at most: every order is enumerated."""
NAMES = tuple(f"volunteer-{number}" for number in range(1, 9))


def true_ranks(scores: Sequence[float]) -> tuple[int, ...]:
    """Ranks by score, 1 = highest, equal scores tied: (7, 9, 7) gives (2, 1, 2)."""
    levels = sorted(set(scores), reverse=True)
    return tuple(levels.index(score) + 1 for score in scores)


def noisy_ranks(scores: Sequence[float], draw: random.Random, flipped: float = FLIPPED) -> tuple[int, ...]:
    """One volunteer's ranks. ``flipped`` is the expected share of pairs turned round, 0 … 0.5."""
    if not 2 <= len(scores) <= MOST:
        raise Refusal(f"a simulated volunteer ranks 2 to {MOST} answers, not {len(scores)}")
    truth = true_ranks(scores)
    sizes = tuple(truth.count(level) for level in range(1, max(truth) + 1))
    orders, weights = _mallows(sizes, flipped)
    order = draw.choices(orders, weights)[0]
    return tuple(order.index(rank - 1) + 1 for rank in truth)


def rank(task: Task, answers: Sequence[Answer], draw: random.Random) -> Ranking:
    """What one volunteer hands in: the order shown is random, the time what a person needs."""
    shown = list(range(len(answers)))
    draw.shuffle(shown)
    words = sum(len(answer.text.split()) for answer in answers)
    return Ranking(
        conversation=Conversation.ask(task.prompt),
        answers=tuple(answers),
        ranks=noisy_ranks([judge(task, answer).score for answer in answers], draw),
        shown=tuple(shown),
        annotator=draw.choice(NAMES),
        milliseconds=round(words * draw.uniform(150, 350)),
    )


def flipped_pairs(scores: Sequence[float], ranks: Sequence[int]) -> tuple[int, int]:
    """(pairs of unequal score that the ranks turn round, pairs of unequal score)."""
    pairs = [(i, j) for i in range(len(scores)) for j in range(len(scores)) if scores[i] > scores[j]]
    return sum(ranks[i] > ranks[j] for i, j in pairs), len(pairs)


@functools.cache
def _mallows(sizes: tuple[int, ...], flipped: float) -> tuple[list[tuple[int, ...]], list[float]]:
    """Every order of the groups of equal answers (``sizes`` from best to worst), and its probability."""
    orders = list(itertools.permutations(range(len(sizes))))
    turned = [_turned(order, sizes) for order in orders]
    pairs = turned[-1]  # the last permutation is the whole order reversed
    low, high = 0.0, 1.0
    for _ in range(60):
        factor = (low + high) / 2
        weights = [factor**count for count in turned]
        expected = sum(w * count for w, count in zip(weights, turned, strict=True)) / sum(weights)
        low, high = (factor, high) if expected < flipped * pairs else (low, factor)
    return orders, [low**count for count in turned]


def _turned(order: tuple[int, ...], sizes: tuple[int, ...]) -> int:
    """How many pairs of answers the order turns round."""
    return sum(sizes[a] * sizes[b] for i, a in enumerate(order) for b in order[i + 1 :] if a > b)
