"""An entropy bonus that makes the policy surer, or an entropy that counts padding.

Sources: PaLM-rlhf-pytorch (commit of 2025-09-02), trl#2022, #2281, #6121.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from palmier.train import ppo
from palmier.train.episodes import Episodes, Rollout

Learner = Any


def exact_entropy(learner: Learner) -> float:
    """The mean over the answers' slots, from whole distributions in float64."""
    policy, rows = learner.parts.policy, learner.rows
    with torch.no_grad():
        logprobs = policy.logits(policy(rows["tokens"])).double().log_softmax(-1)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    return float(entropy[rows["targets"] >= 0].mean())


def test_a_step_on_the_bonus_raises_the_exact_entropy(learner: Learner) -> None:
    learner.rows["advantages"].zero_()
    for _ in range(3):
        before = exact_entropy(learner)
        loss, _ = learner.objective(entropy_bonus=1.0)(learner.rows)
        loss.backward()
        with torch.no_grad():
            for parameter in learner.parts.policy.parameters():
                parameter -= 1e-3 * parameter.grad
        learner.gradients()
        assert exact_entropy(learner) > before


def entropy_of(learner: Learner, padding: int) -> float:
    """The figure that PPO logs and stops by, with the rows padded wider."""
    rows, blank = learner.rows, torch.zeros(6, padding)
    tokens = torch.cat([rows["tokens"], blank.long()], 1)
    targets = torch.cat([rows["targets"], blank.long() - 100], 1)
    nothing = torch.zeros(tokens.shape)
    said = Rollout(tokens, targets, nothing, torch.ones(6, dtype=torch.bool), tuple(range(6)))
    parts = learner.parts
    tables = ppo.read(learner.settings, parts, said)
    scores = torch.zeros(6)
    found = Episodes(said, tables["old"], tables["reference"], tables["entropy"], nothing, scores, scores)
    return ppo.facts(found)["entropy"]


def test_the_figure_is_the_exact_entropy_whatever_the_padding(learner: Learner) -> None:
    narrow, wide = entropy_of(learner, 0), entropy_of(learner, 9)
    assert 0 < narrow < math.log(5)
    assert abs(narrow - exact_entropy(learner)) < 1e-5
    assert narrow == wide
