"""A critic that is one token ahead or behind, or that learns where the policy does not.

Sources: PaLM-rlhf-pytorch#14; verl#1758; ColossalAI#3623.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.generate.engine import Engine
from palmier.train import advantages, ppo

Learner = Any
World = Any


def test_a_value_does_not_see_the_token_it_is_the_base_for(tiny_world: World, tmp_path: Path) -> None:
    """V_t is what the text before token t promises: changing token t or a later one leaves it as it is."""
    (tmp_path / "taste.py").write_text("def odd(c, a):\n    return sum(t % 8 == 3 for t in a.tokens)\n", "utf-8")
    settings = ppo.Settings(
        tmp_path,
        str(tiny_world.model),
        f"{tmp_path}/taste.py:odd",
        tiny_world.prompts,
        episodes=8,
        minibatch=8,
        max_tokens=10,
        precision="fp32",
    )
    found = ppo.parts(settings)
    episodes = ppo.collect(settings, found, Engine(found.policy, slots=8), 0, None)
    said, row = episodes.rollout, 3
    slots = said.mask_BT[row].nonzero().squeeze(1).tolist()
    for slot in slots[1:]:
        tokens = said.tokens_BT[row].clone()
        tokens[slot + 1 :] = 5  # the token that this slot stands for, and all after it
        with torch.no_grad():
            changed = found.value.values(tokens[None])[0]
            other = found.value.values(
                torch.cat([tokens[:slot], tokens[slot : slot + 1] - 1, tokens[slot + 1 :]])[None]
            )
        assert float(changed[slot]) == pytest.approx(float(episodes.values_BT[row, slot]), abs=1e-5)
        # It does see the token before: else it would be one behind.
        assert abs(float(other[0, slot]) - float(changed[slot])) > 1e-4


def test_gae_of_five_tokens_by_hand() -> None:
    """Rewards 0 0 0 0 2, V 1 2 0 1 1, γ 1, λ ½. δ = 1, −2, 1, 0, 1, the terminal value being 0.

    A₅ = 1; A₄ = 0 + ½·1; A₃ = 1 + ½·½; A₂ = −2 + ½·1.25; A₁ = 1 − ½·1.375.
    """
    rewards = torch.tensor([[0.0, 0.0, 0.0, 0.0, 2.0, 99.0]])
    values = torch.tensor([[1.0, 2.0, 0.0, 1.0, 1.0, 99.0]])
    mask = torch.tensor([[True] * 5 + [False]])
    got, returns = advantages.generalised_advantages(rewards, values, mask, gamma=1.0, lam=0.5)
    assert got.tolist() == [[0.3125, -1.375, 1.25, 0.5, 1.0, 0.0]]
    assert returns.tolist() == [[1.3125, 0.625, 1.25, 1.5, 2.0, 0.0]]


def test_a_perfect_critic_leaves_no_advantage_on_average(toy: Any) -> None:
    """Enumerated: Σ π(y) A_t(y) over the answers that reach slot t is 0; a shifted critic gives something else."""
    table, reference = toy.policy(1), toy.policy(2)
    scores = torch.arange(len(toy.answers), dtype=torch.float64) / 10
    kl_NT = toy.logprobs(table) - toy.logprobs(reference)
    rewards_NT = advantages.token_rewards(scores, kl_NT, toy.mask_NT, 0.5)
    values_NT = toy.values(table, rewards_NT)
    got, _ = advantages.generalised_advantages(rewards_NT, values_NT, toy.mask_NT, gamma=1.0, lam=0.95)
    weight_N = toy.probabilities(table)
    assert ((weight_N[:, None] * got).sum(0).abs() < 1e-9).all()
    assert float(got.abs().max()) > 0.1


def test_the_critic_learns_where_the_policy_does_and_nowhere_else(learner: Learner) -> None:
    """The gradient of the value loss by the returns lies on the answer's slots alone, on all of them."""
    returns = (learner.rows["returns"] + 1.0).requires_grad_()
    learner.rows["returns"] = returns
    loss, _ = learner.objective()(learner.rows)
    loss.backward()
    assert returns.grad is not None
    assert torch.equal(returns.grad != 0, learner.rows["targets"] >= 0)


def test_the_critic_is_taught_in_the_unit_that_it_speaks(learner: Learner, toy: Any) -> None:
    """Old values, returns and new values are the same critic's: before a step V = V_old."""
    parts, rows = learner.parts, learner.rows
    with torch.no_grad():
        rows["values"] = parts.value.values(rows["tokens"])
    rows["returns"] = rows["values"].clone()
    _, metrics = learner.objective()(rows)
    assert float(metrics["value_loss"]) == 0
