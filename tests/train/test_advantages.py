"""Credit for tokens against sums written out by hand and in float64 loops."""

from __future__ import annotations

import pytest
import torch

from palmier.train import advantages


def slow_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """A_t = Σ_k (γλ)^k δ_{t+k} of one answer without masked slots, the terminal value 0."""
    ends = [*values, 0.0]
    deltas = [rewards[t] + gamma * ends[t + 1] - ends[t] for t in range(len(rewards))]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (1.0, 1.0), (0.9, 0.5), (1.0, 0.0), (0.0, 0.95)])
def test_gae_is_the_discounted_sum_of_deltas(gamma: float, lam: float) -> None:
    draw = torch.Generator().manual_seed(1)
    rewards, values = torch.randn(3, 6, generator=draw), torch.randn(3, 6, generator=draw)
    mask = torch.ones(3, 6, dtype=torch.bool)
    got, returns = advantages.generalised_advantages(rewards, values, mask, gamma=gamma, lam=lam)
    for b in range(3):
        expected = slow_gae(rewards[b].tolist(), values[b].tolist(), gamma, lam)
        assert got[b].tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(returns, got + values)


def test_gae_of_five_tokens_by_hand() -> None:
    """δ = r_t + V_{t+1} − V_t with λ ½: δ₅ = 2 − 1 = 1, then 1 + ½·1 and so on, backwards."""
    rewards = torch.tensor([[0.0, 0.0, 0.0, 0.0, 2.0]])
    values = torch.tensor([[1.0, 2.0, 0.0, 1.0, 1.0]])
    got, _ = advantages.generalised_advantages(rewards, values, torch.ones(1, 5, dtype=torch.bool), gamma=1.0, lam=0.5)
    # δ: 1, −2, 1, 0, 1
    assert got.tolist() == [[0.3125, -1.375, 1.25, 0.5, 1.0]]


def test_masked_slots_are_stepped_over() -> None:
    mask = torch.tensor([[False, True, True, False, False, True, False]])
    rewards = torch.tensor([[9.0, 0.5, -1.0, 9.0, 9.0, 2.0, 9.0]])
    values = torch.tensor([[9.0, 1.0, 0.5, 9.0, 9.0, -1.0, 9.0]])
    got, returns = advantages.generalised_advantages(rewards, values, mask, gamma=0.9, lam=0.8)
    assert got[mask].tolist() == pytest.approx(slow_gae([0.5, -1.0, 2.0], [1.0, 0.5, -1.0], 0.9, 0.8))
    assert (got[~mask] == 0).all()
    assert (returns[~mask] == 0).all()


def test_the_score_lies_on_the_last_valid_token_and_kl_on_every_one() -> None:
    mask = torch.tensor([[False, True, True, False], [False, True, True, True], [False, False, False, False]])
    kl = torch.tensor([[5.0, 0.1, -0.2, 5.0], [5.0, 0.3, 0.0, 0.4], [5.0, 5.0, 5.0, 5.0]])
    got = advantages.token_rewards(torch.tensor([1.0, -2.0, 3.0]), kl, mask, 0.5)
    expected = [[0, -0.05, 1.1, 0], [0, -0.15, 0, -2.2], [0, 0, 0, 0]]
    assert torch.allclose(got, torch.tensor(expected))


def test_whitening_gives_mean_0_and_deviation_1_over_the_valid_slots() -> None:
    draw = torch.Generator().manual_seed(2)
    values, mask = torch.randn(5, 9, generator=draw) * 3 + 7, torch.rand(5, 9, generator=draw) < 0.5
    got = advantages.whiten(values, mask)
    assert float(got[mask].mean()) == pytest.approx(0, abs=1e-6)
    assert float(got[mask].std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert (got[~mask] == 0).all()


def test_equal_advantages_whiten_to_0_and_nothing_to_nothing() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert (advantages.whiten(torch.full((2, 3), 0.25), mask) == 0).all()
    assert (advantages.whiten(torch.full((2, 3), float("nan")), ~mask) == 0).all()


def test_the_scale_makes_the_starting_policy_the_unit_and_clips() -> None:
    scale = advantages.ScoreScale.of(torch.tensor([1.0, 3.0]))
    assert scale == advantages.ScoreScale(2.0, 1.0)
    assert scale.apply(torch.tensor([2.0, 3.5, 100.0, -100.0]), 5.0).tolist() == [0.0, 1.5, 5.0, -5.0]
    assert advantages.ScoreScale.of(torch.tensor([4.0, 4.0])).deviation == 1.0


def test_explained_variance_of_a_perfect_a_constant_and_a_wrong_critic() -> None:
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[True, True, True, False]])
    assert advantages.explained_variance(returns, returns, mask) == pytest.approx(1)
    assert advantages.explained_variance(torch.full((1, 4), 2.0), returns, mask) == pytest.approx(0)
    assert advantages.explained_variance(-returns, returns, mask) == pytest.approx(-3)
