"""The loss formulas against slow, obvious float64 ones written with loops."""

from __future__ import annotations

import math

import pytest
import torch

from palmier.train import losses


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_cross_entropy_and_z_loss_sum_over_the_valid_tokens(draw: torch.Generator) -> None:
    logits = torch.randn(3, 4, 7, generator=draw)
    targets = torch.randint(7, (3, 4), generator=draw)
    mask = torch.rand(3, 4, generator=draw) < 0.6
    logprobs = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    expected, expected_z = 0.0, 0.0
    for b in range(3):
        for t in range(4):
            if mask[b, t]:
                weights = [math.exp(float(x)) for x in logits[b, t]]
                expected -= math.log(weights[int(targets[b, t])] / sum(weights))
                expected_z += math.log(sum(weights)) ** 2
    assert float(losses.cross_entropy(logprobs, mask)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.z_loss(logits.logsumexp(-1), mask)) == pytest.approx(expected_z, rel=1e-5)


def pair_weights(ranks: list[list[int]]) -> torch.Tensor:
    """1/pairs for every pair of a row of ranks; 0 = no such answer."""
    weights = torch.zeros(len(ranks), len(ranks[0]), len(ranks[0]))
    for g, row in enumerate(ranks):
        pairs = [(i, j) for i, a in enumerate(row) for j, b in enumerate(row) if 0 < a < b]
        for i, j in pairs:
            weights[g, i, j] = 1 / len(pairs)
    return weights


def test_pairwise_weighs_every_prompt_once_whatever_its_k(draw: torch.Generator) -> None:
    scores = torch.randn(3, 4, generator=draw)
    ranks = [[1, 2, 3, 4], [1, 1, 2, 0], [1, 1, 1, 1]]  # the last prompt is all ties
    loss, right, margin = 0.0, 0.0, 0.0
    for g, row in enumerate(ranks):
        pairs = [(i, j) for i in range(4) for j in range(4) if row[i] and row[j] and row[i] < row[j]]
        margins = [float(scores[g, i] - scores[g, j]) for i, j in pairs]
        loss -= sum(math.log(sigmoid(m)) for m in margins) / max(len(pairs), 1)
        right += sum(m > 0 for m in margins) / max(len(pairs), 1)
        margin += sum(margins) / max(len(pairs), 1)
    got = losses.pairwise(scores, pair_weights(ranks))
    assert float(got.loss) == pytest.approx(loss, abs=1e-6)
    assert float(got.right) == pytest.approx(right, abs=1e-6)
    assert float(got.margin) == pytest.approx(margin, abs=1e-6)


def test_pairwise_of_equal_scores_is_ln_2_and_half_right() -> None:
    got = losses.pairwise(torch.zeros(1, 2), pair_weights([[1, 2]]))
    assert float(got.loss) == pytest.approx(math.log(2), abs=1e-7)
    assert float(got.right) == 0.5


def test_pairwise_raises_the_better_score_and_ignores_missing_answers() -> None:
    scores = torch.tensor([[0.3, -0.2, float("nan")]], requires_grad=True)
    got = losses.pairwise(scores, pair_weights([[2, 1, 0]]))  # answer 1 stands above answer 0
    got.loss.backward()
    assert torch.isfinite(got.loss)
    assert scores.grad is not None
    assert scores.grad[0, 1] < 0 < scores.grad[0, 0]
    assert scores.grad[0, 2] == 0


def test_pairwise_shows_a_score_that_is_nan() -> None:
    assert torch.isnan(losses.pairwise(torch.tensor([[0.3, float("nan")]]), pair_weights([[2, 1]])).loss)


def test_pairwise_survives_huge_margins() -> None:
    got = losses.pairwise(torch.tensor([[-1e4, 1e4]]), pair_weights([[1, 2]]))
    assert float(got.loss) == pytest.approx(2e4)


def test_dpo_is_the_pairwise_loss_of_implicit_rewards() -> None:
    policy, reference, beta = [-3.0, -4.5], [-3.5, -4.0], 0.3
    h = (policy[0] - reference[0]) - (policy[1] - reference[1])
    rewards = losses.implicit_reward(torch.tensor([policy]), torch.tensor([reference]), beta)
    got = losses.pairwise(rewards, pair_weights([[1, 2]]))
    assert float(got.loss) == pytest.approx(-math.log(sigmoid(beta * h)), rel=1e-6)


def test_clipped_policy_is_the_paper_formula(draw: torch.Generator) -> None:
    new, old = torch.randn(2, 5, generator=draw) * 0.3 - 2, torch.randn(2, 5, generator=draw) * 0.3 - 2
    advantages, mask = torch.randn(2, 5, generator=draw), torch.rand(2, 5, generator=draw) < 0.7
    expected, clipped = 0.0, 0
    for b in range(2):
        for t in range(5):
            if mask[b, t]:
                ratio, a = math.exp(float(new[b, t] - old[b, t])), float(advantages[b, t])
                held = min(max(ratio, 0.8), 1.2)
                expected -= min(ratio * a, held * a)
                clipped += held * a < ratio * a
    got = losses.clipped_policy(new, old, advantages, mask, 0.2)
    assert float(got.loss) == pytest.approx(expected, rel=1e-5)
    assert float(got.clipped) == clipped > 0
    assert float(got.moved) > 0


def test_the_clip_stops_the_gradient_of_tokens_that_moved_too_far_already() -> None:
    new = torch.tensor([[0.5, -0.5, 0.5]], requires_grad=True)
    advantages = torch.tensor([[1.0, -1.0, -1.0]])  # the first two moved as asked, the third the wrong way
    losses.clipped_policy(new, torch.zeros(1, 3), advantages, torch.ones(1, 3, dtype=torch.bool), 0.2).loss.backward()
    assert new.grad is not None
    assert new.grad[0, :2].tolist() == [0, 0]
    assert new.grad[0, 2] == pytest.approx(math.exp(0.5))


def test_clipped_value_takes_the_worse_of_both(draw: torch.Generator) -> None:
    values, old, returns = (torch.randn(2, 5, generator=draw) for _ in range(3))
    mask = torch.rand(2, 5, generator=draw) < 0.7
    expected = 0.0
    for b in range(2):
        for t in range(5):
            if mask[b, t]:
                v, o, r = (float(x[b, t]) for x in (values, old, returns))
                expected += 0.5 * max((v - r) ** 2, (o + min(max(v - o, -0.2), 0.2) - r) ** 2)
    assert float(losses.clipped_value(values, old, returns, mask, 0.2)) == pytest.approx(expected, rel=1e-5)


def test_k3_never_overflows_and_is_never_negative() -> None:
    got = losses.kl_k3(torch.tensor([-1e4, 0.0, -3.0]), torch.tensor([0.0, -1e4, -3.0]))
    assert torch.isfinite(got).all()
    assert (got >= 0).all()
    assert got[2] == 0
