"""The policy that learns is not the one that was read: dropout, other shapes, other numerics.

Sources: trl#454, #744 (dropout); NeMo-Aligner#227; verl#6280. The same for DPO: its loss starts
at ln 2, or policy and reference were not read alike.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.generate.engine import Engine
from palmier.train import dpo, ppo
from palmier.train.advantages import ScoreScale
from palmier.train.episodes import training_rows

World = Any


def settings_of(world: World, tmp_path: Path) -> ppo.Settings:
    (tmp_path / "taste.py").write_text("def odd(c, a):\n    return sum(t % 8 == 3 for t in a.tokens)\n", "utf-8")
    reward = f"{tmp_path}/taste.py:odd"
    small = {"episodes": 24, "minibatch": 24, "max_tokens": 10, "iterations": 1, "warmup": 0}
    return ppo.Settings(tmp_path / "run", str(world.model), reward, world.prompts, **small)


@pytest.mark.parametrize("micro_batch", [1, 3, 8, 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_ratio_is_1_before_the_first_step(
    tiny_world: World, tmp_path: Path, micro_batch: int, dtype: torch.dtype
) -> None:
    """max |ρ − 1| ≤ 1e-6, in bfloat16 too: what was read is computed again in the same pieces."""
    settings = replace(settings_of(tiny_world, tmp_path), micro_batch=micro_batch, precision="fp32")
    found = ppo.parts(settings)
    found.policy.to(dtype)
    episodes = ppo.collect(settings, found, Engine(found.policy, slots=24), 0, None)
    credited = ppo.credit(episodes, settings.kl_weight)
    loss = ppo.Objective(settings, found, ScoreScale(0.0, 1.0), policy_moves=True)
    for piece in episodes.rollout.pieces(micro_batch):
        rows = training_rows(episodes, credited, piece)
        found.policy.zero_grad()
        _, metrics = loss(rows)
        assert float(metrics["moved"]) <= 1e-12
        own = ppo.token_logprobs(found.policy, found.policy(rows["tokens"]), rows["targets"]).logprobs_BT
        assert float(((own.detach() - rows["old"]).exp() - 1).abs().max()) <= 1e-6


def test_nothing_drops_out(tiny_world: World, tmp_path: Path) -> None:
    found = ppo.parts(settings_of(tiny_world, tmp_path))
    for module in (found.policy, found.reference, found.value):
        assert not [layer for layer in module.modules() if "Dropout" in type(layer).__name__]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_dpo_starts_at_ln_2(tiny_world: World, tmp_path: Path, precision: Any) -> None:
    import json

    run = tmp_path / "dpo"
    dpo.run(dpo.Settings(run, str(tiny_world.model), tiny_world.rankings, batch=5, micro_batch=2, precision=precision))
    first = json.loads((run / "metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert first["loss"] == pytest.approx(math.log(2), abs=2e-7)
    assert first["kl"] == 0
