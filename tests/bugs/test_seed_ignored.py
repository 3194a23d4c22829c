"""A seed that changes nothing, or equal answers wherever the same prompt is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.data.template import Template
from palmier.generate.engine import Engine
from palmier.generate.rollout import rollout
from palmier.model.checkpoint import load
from palmier.records import Conversation, Sampling
from palmier.scale.runtime import generator
from palmier.train import dpo, ppo, reward_model
from palmier.workspace import sha256

World = Any


@pytest.mark.parametrize("stage", [reward_model, dpo])
def test_another_seed_gives_another_model(tiny_world: World, tmp_path: Path, stage: Any) -> None:
    settings = stage.Settings(tmp_path / "0", str(tiny_world.model), tiny_world.rankings, lr=1e-3, batch=4)
    settings = replace(settings, validation=0.0)
    found = [stage.run(replace(settings, out=tmp_path / str(i), seed=seed)) for i, seed in enumerate((0, 0, 1))]
    one, same, other = (sha256(folder / "model.safetensors") for folder in found)
    assert one == same
    assert one != other


def test_each_round_of_ppo_and_each_seed_asks_and_draws_otherwise(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taste.py").write_text("def odd(c, a):\n    return sum(t % 8 == 3 for t in a.tokens)\n", "utf-8")
    settings = ppo.Settings(tmp_path, str(tiny_world.model), f"{tmp_path}/taste.py:odd", tiny_world.prompts)
    settings = replace(settings, episodes=12, minibatch=12, micro_batch=6, max_tokens=8, precision="fp32")
    found = ppo.parts(settings)

    def drawn(seed: int, iteration: int) -> torch.Tensor:
        said, _ = ppo.answer(replace(settings, seed=seed), found, Engine(found.policy, slots=12), iteration)
        return said.targets_BT

    def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
        return one.shape != other.shape or not torch.equal(one, other)

    first = drawn(0, 0)
    assert torch.equal(first, drawn(0, 0))
    assert differ(first, drawn(0, 1))
    assert differ(first, drawn(1, 0))
    # The order of the prompts alone would do that: asked the same ones, it still draws otherwise.
    monkeypatch.setattr(ppo, "drawn_order", lambda count, episodes, *_: [place % count for place in range(episodes)])
    first = drawn(0, 0)
    assert torch.equal(first, drawn(0, 0))
    assert differ(first, drawn(0, 1))
    assert differ(first, drawn(1, 0))


def test_the_same_prompt_twice_gets_two_answers_and_the_same_seed_the_same(tiny_world: World) -> None:
    engine, template = Engine(load(tiny_world.model), slots=8), Template.load(tiny_world.model)
    asked = [Conversation.ask("Who met Bo?")] * 3

    def tokens(seed: int) -> list[tuple[int, ...]]:
        groups = rollout(engine, template, asked, Sampling(max_tokens=8, seed=seed), 2, "")
        return [answer.tokens for group in groups for answer in group]

    assert len(set(tokens(0))) == 6
    assert tokens(0) == tokens(0)
    assert not set(tokens(0)) & set(tokens(1))


def test_every_part_of_a_generators_name_counts() -> None:
    def first(*parts: int | str) -> float:
        return float(torch.rand((), generator=generator(*parts)))

    assert first(0, "ppo", 1, "answers") == first(0, "ppo", 1, "answers")
    names = [(0, "ppo", 1, "answers"), (1, "ppo", 1, "answers"), (0, "ppo", 2, "answers"), (0, "ppo", 1, "batches")]
    assert len({first(*name) for name in names}) == 4
