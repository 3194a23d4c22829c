"""Answers drawn at one temperature, learned from at another.

Sources: trl#3029, #4159; prime-rl#679; NeMo-RL#935.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.generate.engine import Engine
from palmier.train import ppo
from palmier.train.advantages import ScoreScale
from palmier.train.episodes import training_rows

World = Any


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_engine_and_trainer_mean_the_same_distribution(tiny_world: World, tmp_path: Path, temperature: float) -> None:
    """When the answers are read, when they are learned from, and in the reference."""
    (tmp_path / "taste.py").write_text("def odd(c, a):\n    return sum(t % 8 == 3 for t in a.tokens)\n", "utf-8")
    settings = ppo.Settings(tmp_path, str(tiny_world.model), f"{tmp_path}/taste.py:odd", tiny_world.prompts)
    settings = replace(settings, temperature=temperature, episodes=16, minibatch=16, max_tokens=10, precision="fp32")
    found = ppo.parts(settings)
    episodes = ppo.collect(settings, found, Engine(found.policy, slots=16), 0, None)
    mask = episodes.mask_BT
    assert float((episodes.old_BT - episodes.rollout.drawn_BT)[mask].abs().max()) < 1e-4
    assert float((episodes.reference_BT - episodes.old_BT)[mask].abs().max()) < 1e-6
    loss = ppo.Objective(settings, found, ScoreScale(0.0, 1.0), policy_moves=True)
    piece = episodes.rollout.pieces(16)[0]
    _, metrics = loss(training_rows(episodes, ppo.credit(episodes, 0.1), piece))
    assert float(metrics["moved"]) < 1e-9
    # The three differ in this world: at another temperature the same tokens have other log-probs.
    tokens, targets = (piece.cut(x) for x in (episodes.rollout.tokens_BT, episodes.rollout.targets_BT))
    with torch.no_grad():
        plain = ppo.token_logprobs(found.policy, found.policy(tokens), targets, temperature=0.8 * temperature)
    assert float((plain.logprobs_BT - piece.cut(episodes.old_BT)).abs().max()) > 1e-2
