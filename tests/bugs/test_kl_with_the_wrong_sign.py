"""A KL term that drives the policy away from its reference, or does nothing.

Sources: PaLM-rlhf-pytorch#38, #43; Logic-RL#58, RAGEN#58 (sign); trl#3025, #6503, #6586,
OpenRLHF#1309, SkyRL#1353 (a gradient that is wrong or absent). The one form that Palmier trains
with is k1 in the reward; its expected gradient is compared with that of the enumerated KL.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palmier.train import losses, ppo

Toy = Any


def exact_gradient(toy: Toy, table: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    table = table.clone().requires_grad_()
    toy.kl(table, reference).backward()
    assert table.grad is not None
    return table.grad


def kl_alone(toy: Toy, table: torch.Tensor, reference: torch.Tensor) -> ppo.Episodes:
    """Episodes that earn nothing but their KL, with a perfect critic."""
    kl_NT = losses.kl_k1(toy.logprobs(table), toy.logprobs(reference))
    values_NT = toy.values(table, -kl_NT)
    return toy.episodes(table, reference, torch.zeros(len(toy.answers), dtype=torch.float64), values_NT)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_policy_gradient_of_the_kl_reward_is_the_gradient_of_the_kl(toy: Toy, seed: int) -> None:
    """Whitening scales it and adds a baseline, neither of which turns it."""
    table, reference = toy.policy(seed), toy.policy(seed + 10)
    episodes = kl_alone(toy, table, reference)
    got = toy.expected_gradient(table, episodes, ppo.credit(episodes, kl_weight=1.0)).flatten()
    expected = exact_gradient(toy, table, reference).flatten()
    assert float(expected.norm()) > 0.1
    assert float(got @ expected / got.norm() / expected.norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_step_on_the_kl_alone_lowers_the_exact_kl(toy: Toy, seed: int) -> None:
    table, reference = toy.policy(seed), toy.policy(seed + 10)
    for _ in range(5):
        before = float(toy.kl(table, reference))
        episodes = kl_alone(toy, table, reference)
        table = table - 0.05 * toy.expected_gradient(table, episodes, ppo.credit(episodes, kl_weight=1.0))
        assert float(toy.kl(table, reference)) < before


def test_the_reference_itself_feels_no_pull(toy: Toy) -> None:
    table = toy.policy(1)
    assert float(toy.kl(table, table)) == 0
    episodes = kl_alone(toy, table, table)
    assert ppo.facts(episodes)["kl"] == 0
    assert (toy.expected_gradient(table, episodes, ppo.credit(episodes, kl_weight=1.0)) == 0).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_off_policy_it_is_the_gradient_of_the_reward_of_those_who_drew(toy: Toy, seed: int) -> None:
    """Answers of one token, drawn by another policy, inside the clip: Σ π(v) A(v), enumerated."""
    drew, reference = toy.policy(seed), toy.policy(seed + 10)
    table = (drew + 0.01 * toy.policy(seed + 20)).requires_grad_()
    old, new = (x[0, -1].log_softmax(-1) for x in (drew, table))
    gain = -losses.kl_k1(old, reference[0, -1].log_softmax(-1))
    mask = torch.ones(1, 1, dtype=torch.bool)
    loss = sum(
        old[v].exp() * losses.clipped_policy(new[v].view(1, 1), old[v].view(1, 1), gain[v].view(1, 1), mask, 0.2).loss
        for v in range(len(old))
    )
    got = torch.autograd.grad(loss, table, retain_graph=True)[0]
    expected = torch.autograd.grad(-(new.exp() * gain).sum(), table)[0]
    assert float(expected.norm()) > 1e-2
    assert torch.allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("estimator", [losses.kl_k1, losses.kl_k3])
def test_each_estimators_mean_is_the_exact_kl(toy: Toy, estimator: Any) -> None:
    """Within 3 standard errors over 20,000 drawn answers."""
    table, reference = toy.policy(1), toy.policy(11)
    drawn = toy.draw(table, 20_000, seed=5)
    found_NT = estimator(toy.logprobs(table), toy.logprobs(reference))
    per_answer = torch.where(toy.mask_NT, found_NT, 0.0).sum(1)[drawn]
    error = float(per_answer.std()) / len(drawn) ** 0.5
    assert abs(float(per_answer.mean()) - float(toy.kl(table, reference))) < 3 * error
