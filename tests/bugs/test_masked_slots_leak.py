"""Whatever stands in a slot that stands for nothing gets into returns, whitening, loss or figures.

Sources: AReaL#1346, #1351; trl#6803, #7024; OpenRLHF#1239, #1240; verl#6361. Random numbers, then
NaN, then infinities in those slots: loss, gradients and figures are the same to the bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from palmier.train import advantages, losses, ppo
from palmier.train.episodes import Episodes, Rollout

Learner = Any

POISONS = [7.5, float("nan"), float("inf"), float("-inf")]


def poisoned(values: torch.Tensor, mask: torch.Tensor, poison: float) -> torch.Tensor:
    return torch.where(mask, values, torch.full_like(values, poison))


@pytest.mark.parametrize("poison", POISONS)
def test_ppos_loss_gradients_and_figures(learner: Learner, poison: float) -> None:
    mask = learner.rows["targets"] >= 0
    loss, metrics = learner.objective(entropy_bonus=0.1)(learner.rows)
    loss.backward()
    expected = learner.gradients()
    for name in ("old", "values", "advantages", "returns"):
        learner.rows[name] = poisoned(learner.rows[name], mask, poison)
    again, figures = learner.objective(entropy_bonus=0.1)(learner.rows)
    again.backward()
    assert torch.equal(loss, again)
    assert all(torch.equal(metrics[name], figures[name]) for name in metrics)
    found = learner.gradients()
    assert any(float(g.abs().max()) > 0 for g in expected)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def episodes_of(learner: Learner) -> Episodes:
    rows = learner.rows
    said = Rollout(rows["tokens"], rows["targets"], rows["old"], torch.ones(6, dtype=torch.bool), tuple(range(6)))
    scores = torch.linspace(-1, 1, 6)
    return Episodes(said, rows["old"], rows["old"] - 0.1, rows["old"].abs(), rows["values"], scores, scores)


@pytest.mark.parametrize("poison", POISONS)
def test_credit_and_figures_of_a_round(learner: Learner, poison: float) -> None:
    episodes = episodes_of(learner)
    mask = episodes.mask_BT
    spoilt = replace(
        episodes,
        rollout=replace(episodes.rollout, drawn_BT=poisoned(episodes.rollout.drawn_BT, mask, poison)),
        old_BT=poisoned(episodes.old_BT, mask, poison),
        reference_BT=poisoned(episodes.reference_BT, mask, -poison),
        entropy_BT=poisoned(episodes.entropy_BT, mask, poison),
        values_BT=poisoned(episodes.values_BT, mask, poison),
    )
    one, other = ppo.credit(episodes, 0.3), ppo.credit(spoilt, 0.3)
    assert torch.equal(one.advantages_BT, other.advantages_BT)
    assert torch.equal(one.returns_BT, other.returns_BT)
    assert (one.advantages_BT[~mask] == 0).all()
    assert ppo.facts(episodes) == ppo.facts(spoilt)
    explained = [
        advantages.explained_variance(e.values_BT, c.returns_BT, mask) for e, c in ((episodes, one), (spoilt, other))
    ]
    assert explained[0] == explained[1]


@pytest.mark.parametrize("poison", POISONS)
def test_what_padding_adds_changes_no_figure(learner: Learner, poison: float) -> None:
    """Wider rows, the new slots poisoned."""
    episodes = episodes_of(learner)
    blank = torch.full((6, 5), poison)
    wider = [torch.cat([x, blank], 1) for x in (episodes.old_BT, episodes.reference_BT, episodes.entropy_BT)]
    values = torch.cat([episodes.values_BT, blank], 1)
    said = Rollout(
        torch.cat([episodes.rollout.tokens_BT, torch.zeros(6, 5, dtype=torch.long)], 1),
        torch.cat([episodes.rollout.targets_BT, torch.full((6, 5), -100)], 1),
        torch.cat([episodes.rollout.drawn_BT, blank], 1),
        episodes.rollout.ended_B,
        episodes.rollout.order,
    )
    wide = Episodes(said, *wider, values, episodes.rewards_B, episodes.scores_B)
    assert torch.equal(ppo.credit(wide, 0.3).advantages_BT[:, :8], ppo.credit(episodes, 0.3).advantages_BT)
    assert ppo.facts(wide) == pytest.approx(ppo.facts(episodes), abs=1e-6)


@pytest.mark.parametrize("poison", POISONS)
def test_missing_answers_of_a_ranking(poison: float) -> None:
    weights = torch.zeros(2, 3, 3)
    weights[0, 0, 1] = weights[1, 2, 0] = 1.0
    scores = torch.tensor([[0.3, -0.2, 9.0], [0.1, 9.0, 0.4]])
    spoilt = poisoned(scores, torch.tensor([[True, True, False], [True, False, True]]), poison)
    found = []
    for given in (scores, spoilt):
        given = given.clone().requires_grad_()
        pairs = losses.pairwise(given, weights)
        pairs.loss.backward()
        found.append((pairs.loss.detach(), pairs.right, pairs.margin, given.grad))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("poison", POISONS)
def test_cross_entropy_and_z_loss(poison: float) -> None:
    mask = torch.tensor([[True, False, True]])
    values = torch.tensor([[-1.0, -2.0, -3.0]])
    for loss in (losses.cross_entropy, losses.z_loss):
        given = [values.clone().requires_grad_(), poisoned(values, mask, poison).requires_grad_()]
        sums = [loss(x, mask) for x in given]
        for total in sums:
            total.backward()
        assert torch.equal(*sums)
        assert torch.equal(given[0].grad, given[1].grad)
