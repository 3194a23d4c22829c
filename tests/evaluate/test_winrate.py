from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom

from palmier.errors import Refusal
from palmier.evaluate.winrate import Interval, at_equal_length, win_rate


def test_the_mean_by_hand_each_prompt_once() -> None:
    found = win_rate([[1.0, 1.0, 1.0, 0.0], [0.0], [0.5, 0.5]], seed=0)
    assert found.mean == pytest.approx((0.75 + 0 + 0.5) / 3)
    assert found.n == 3


def test_winning_is_high_and_losing_is_low() -> None:
    won, lost = win_rate([[1.0]] * 40, 0), win_rate([[0.0]] * 40, 0)
    assert (won.mean, lost.mean) == (1.0, 0.0)
    assert won.low > 0.85
    assert lost.high < 0.15
    assert won.low <= won.high
    mirrored = win_rate([[1 - x] for x in (1.0, 1.0, 0.5, 0.0, 1.0, 1.0)], 0)
    straight = win_rate([[x] for x in (1.0, 1.0, 0.5, 0.0, 1.0, 1.0)], 0)
    assert mirrored.mean == pytest.approx(1 - straight.mean)
    assert mirrored.low == pytest.approx(1 - straight.high, abs=0.02)


def test_five_wins_of_five_are_not_certainty() -> None:
    assert win_rate([[1.0]] * 5, 0).low < 0.75
    assert win_rate([[1.0]] * 1, 0).low < 0.5


def exact_interval(wins: int, prompts: int) -> tuple[float, float]:
    """What win_rate's bootstrap becomes with endless resamples of outcomes of 0 and 1: binomial quantiles."""
    count, share = prompts + 2, (wins + 1) / (prompts + 2)
    return binom.ppf(0.025, count, share) / count, binom.ppf(0.975, count, share) / count


@pytest.mark.parametrize("prompts", [5, 20, 60])
def test_the_bootstrap_agrees_with_its_exact_limit(prompts: int) -> None:
    for wins in {0, 1, prompts // 2, prompts - 2, prompts}:
        found = win_rate([[1.0]] * wins + [[0.0]] * (prompts - wins), seed=wins)
        # A quantile of a lattice may be one point off.
        assert (found.low, found.high) == pytest.approx(exact_interval(wins, prompts), abs=1.01 / (prompts + 2))


@pytest.mark.parametrize("prompts", [8, 15, 30, 100])
def test_the_interval_covers_the_truth(prompts: int) -> None:
    intervals = [exact_interval(wins, prompts) for wins in range(prompts + 1)]
    coverage = []
    for truth in np.linspace(0.05, 0.95, 91):
        chance = binom.pmf(np.arange(prompts + 1), prompts, truth)
        coverage.append(sum(p for p, (low, high) in zip(chance, intervals, strict=True) if low <= truth <= high))
    assert min(coverage) > 0.9
    assert 0.94 < np.mean(coverage) < 0.975
    # The error that matters: a version that is no better is promoted in at most 1 of 40.
    level = binom.pmf(np.arange(prompts + 1), prompts, 0.5)
    assert sum(p for p, (low, _) in zip(level, intervals, strict=True) if low > 0.5) < 0.025


def test_prompts_are_what_is_drawn_not_answers() -> None:
    rng = np.random.default_rng(0)
    per_prompt = [float(x) for x in rng.random(30) < 0.6]
    once = win_rate([[x] for x in per_prompt], 1)
    often = win_rate([[x] * 16 for x in per_prompt], 1)
    assert often == once  # sixteen copies of one opinion are one opinion
    mixed = win_rate([list((rng.random(16) < 0.6).astype(float)) for _ in range(30)], 1)
    assert mixed.high - mixed.low < 0.7 * (once.high - once.low)


def test_simulated_clusters_are_covered() -> None:
    rng = np.random.default_rng(7)
    inside = 0
    for trial in range(300):
        strengths = rng.beta(3, 2, size=25)
        outcomes = [list((rng.random(4) < strength).astype(float)) for strength in strengths]
        found = win_rate(outcomes, trial)
        inside += found.low <= 0.6 <= found.high
    assert inside / 300 > 0.92


def test_the_seed_is_what_decides() -> None:
    rng = np.random.default_rng(3)
    outcomes = [list(rng.random(3)) for _ in range(23)]
    assert win_rate(outcomes, 4) == win_rate(outcomes, 4)
    assert win_rate(outcomes, 4) != win_rate(outcomes, 5)


def test_nothing_to_count_is_refused() -> None:
    for nothing in ([], [[]], [[1.0], []]):
        with pytest.raises(Refusal):
            win_rate(nothing, 0)
    with pytest.raises(ValueError, match="between 0"):
        win_rate([[2.0]], 0)


def synthetic(quality: float, length: float, shift: float, prompts: int = 400, seed: int = 0):
    """Outcomes by the very model: P(win) = σ(quality + length · tanh(d / rms)), the new answers ``shift`` longer."""
    rng = np.random.default_rng(seed)
    difference = rng.normal(shift, 50.0, size=(prompts, 4))
    bent = np.tanh(difference / np.sqrt(np.mean(difference**2)))
    wins = rng.random((prompts, 4)) < 1 / (1 + np.exp(-(quality + length * bent)))
    return [list(row) for row in wins.astype(float)], [list(row) for row in difference]


def contains(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


@pytest.mark.parametrize("quality", [-0.8, 0.0, 1.2])
@pytest.mark.parametrize("shift", [60.0, 0.0, -60.0])
def test_quality_is_found_under_length(quality: float, shift: float) -> None:
    truth = 1 / (1 + np.exp(-quality))
    covered, means = 0, []
    for seed in range(16):
        outcomes, differences = synthetic(quality, length=2.0, shift=shift, prompts=60, seed=seed)
        controlled = at_equal_length(outcomes, differences, seed)
        covered += contains(controlled, truth)
        means.append(controlled.mean)
    assert covered >= 14
    assert np.mean(means) == pytest.approx(truth, abs=0.04)


def test_length_alone_looks_like_quality_without_the_control() -> None:
    assert win_rate(synthetic(quality=0.0, length=2.0, shift=60.0)[0], 0).low > 0.7
    assert win_rate(synthetic(quality=0.0, length=2.0, shift=-60.0)[0], 0).high < 0.3


def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    outcomes, differences = synthetic(0.5, -1.0, 30.0, prompts=40)
    y, d = np.concatenate(outcomes), np.concatenate(differences)
    x = np.tanh(d / np.sqrt(np.mean(d**2)))

    def loss(ab: np.ndarray) -> float:
        z = ab[0] + ab[1] * x
        return float(np.sum(np.logaddexp(0, z) - y * z))

    best = minimize(loss, [0.0, 0.0]).x
    assert at_equal_length(outcomes, differences, 0).mean == pytest.approx(1 / (1 + np.exp(-best[0])), abs=2e-3)


def test_without_length_differences_it_is_the_win_rate() -> None:
    outcomes = [[1.0]] * 30 + [[0.0]] * 15 + [[0.5]] * 15
    level = [[0.0]] * 60
    plain, controlled = win_rate(outcomes, 0), at_equal_length(outcomes, level, 0)
    assert controlled.mean == pytest.approx(plain.mean, abs=1e-3)
    assert (controlled.low, controlled.high) == pytest.approx((plain.low, plain.high), abs=0.02)


def test_winning_everything_stays_finite() -> None:
    found = at_equal_length([[1.0]] * 20, [[float(i - 5)] for i in range(20)], 0)
    assert found.mean > 0.95
    assert 0.6 < found.low < 1
