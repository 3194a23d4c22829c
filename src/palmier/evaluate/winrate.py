"""Win rates: how often the new answer is better than the old one, and how sure that is.

An outcome is 1 (the new answer is better), ½ (level) or 0. Outcomes come grouped by prompt:
several answers to one prompt are not independent, so a prompt is what counts and what the
bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palmier.errors import Refusal

Floats = NDArray[np.float64]

RESAMPLES = 10_000
LENGTH_RESAMPLES = 2_000
"""Fewer where each resample is a fit."""

NEWTON_STEPS = 30
RIDGE = 1e-3
"""Keeps a fit finite where one side wins every comparison; far too small to move any other."""


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` prompts and its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} … {self.high:.3f}, {self.n} prompts)"


def win_rate(outcomes_per_prompt: Sequence[Sequence[float]], seed: int) -> Interval:
    """The mean over prompts of each prompt's mean outcome, with a bootstrap interval.

    Prompts are drawn with replacement (clustered percentile bootstrap). One prompt won and one
    lost are added to those that are drawn from, not to the mean: without them five wins of five
    would give the interval 1 … 1. For outcomes of 0 and 1 that makes the interval cover the
    truth in 95 % of cases on average, and in 91 % at the worst, from 8 prompts on, where the plain
    bootstrap falls to 33 % (the "plus two" of Agresti and Caffo 2000, for a bootstrap).
    """
    means = np.array([np.mean(outcomes) for outcomes in _checked(outcomes_per_prompt)])
    drawn_from = np.append(means, (1.0, 0.0))
    generator = np.random.default_rng([seed, 1])
    rows = max(1, 4_000_000 // len(drawn_from))
    resampled = [
        drawn_from[generator.integers(len(drawn_from), size=(min(rows, RESAMPLES - start), len(drawn_from)))].mean(1)
        for start in range(0, RESAMPLES, rows)
    ]
    return _interval(float(means.mean()), np.concatenate(resampled), len(means))


def at_equal_length(
    outcomes_per_prompt: Sequence[Sequence[float]], differences_per_prompt: Sequence[Sequence[float]], seed: int
) -> Interval:
    """The win rate that answers of equal length would have, after Dubois et al. 2024.

    Fits P(new wins) = σ(a + b · tanh(d / s)) to the outcomes by maximum likelihood, where d is
    the new answer's length less the old one's and s the root mean square of d, every prompt
    weighing the same, and gives σ(a), the value at d = 0. Ties are half a win and half a loss.
    (Dubois et al. have a further term for each prompt's difficulty, which one comparison of
    two versions cannot tell apart.) The interval draws prompts as ``win_rate`` does, the
    added two being a win and a loss at equal length.

    A caution: what makes answers both longer and better is taken for length.
    """
    groups = _checked(outcomes_per_prompt)
    if [len(group) for group in groups] != [len(group) for group in differences_per_prompt]:
        raise ValueError("outcomes and length differences are not of one shape")
    sizes = np.array([len(group) for group in groups])
    prompt = np.repeat(np.arange(len(groups)), sizes)
    outcome = np.concatenate([np.asarray(group, dtype=float) for group in groups])
    difference = np.concatenate([np.asarray(group, dtype=float) for group in differences_per_prompt])
    spread = float(np.sqrt(np.mean(difference**2))) or 1.0
    bent = np.tanh(difference / spread)
    each = 1.0 / sizes[prompt]
    mean = _at_zero(bent, outcome, each[None, :])[0]
    prompt = np.append(prompt, (len(groups), len(groups) + 1))
    bent, outcome, each = np.append(bent, (0.0, 0.0)), np.append(outcome, (1.0, 0.0)), np.append(each, (1.0, 1.0))
    generator = np.random.default_rng([seed, 2])
    count = len(groups) + 2
    rows = max(1, 4_000_000 // len(outcome))
    resampled = []
    for start in range(0, LENGTH_RESAMPLES, rows):
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=min(rows, LENGTH_RESAMPLES - start))
        resampled.append(_at_zero(bent, outcome, drawn[:, prompt] * each))
    return _interval(float(mean), np.concatenate(resampled), len(groups))


def _at_zero(x_N: Floats, outcome_N: Floats, weights_RN: Floats) -> Floats:
    """σ(a) of R weighted logistic fits a + b·x, by Newton's method with bounded steps."""
    a_R, b_R = np.zeros(len(weights_RN)), np.zeros(len(weights_RN))
    for _ in range(NEWTON_STEPS):
        p_RN = 1 / (1 + np.exp(-(a_R[:, None] + b_R[:, None] * x_N)))
        error_RN = weights_RN * (outcome_N - p_RN)
        bend_RN = weights_RN * p_RN * (1 - p_RN)
        slope_a, slope_b = error_RN.sum(1) - RIDGE * a_R, error_RN @ x_N - RIDGE * b_R
        aa, ab, bb = bend_RN.sum(1) + RIDGE, bend_RN @ x_N, bend_RN @ x_N**2 + RIDGE
        scale = 1 / (aa * bb - ab**2)
        step_a = np.clip((bb * slope_a - ab * slope_b) * scale, -1, 1)
        step_b = np.clip((aa * slope_b - ab * slope_a) * scale, -1, 1)
        a_R, b_R = a_R + step_a, b_R + step_b
        if max(np.abs(step_a).max(), np.abs(step_b).max()) < 1e-8:
            break
    return np.asarray(1 / (1 + np.exp(-a_R)))


def _interval(mean: float, resampled: Floats, count: int) -> Interval:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(mean, float(low), float(high), count)


def _checked(outcomes_per_prompt: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    if not outcomes_per_prompt or any(not len(outcomes) for outcomes in outcomes_per_prompt):
        raise Refusal("a win rate needs at least one prompt, and at least one outcome for each")
    for outcomes in outcomes_per_prompt:
        for outcome in outcomes:
            if not 0 <= outcome <= 1:
                raise ValueError(f"an outcome is between 0 (lost) and 1 (won), not {outcome}")
    return outcomes_per_prompt
