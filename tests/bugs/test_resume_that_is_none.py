"""A resumed run that does nothing, does something else, or an option that nobody reads.

Sources: verl#3457, #4156, #5725 (no steps, clean exit); open-instruct#910, #932, #1823 (unread
options). Runs die here inside one process, at chosen moments; ``tests/faults`` kills processes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmier.errors import Refusal
from palmier.model import checkpoint as weights
from palmier.train import dpo, ppo, pretrain, reward_model, sft
from palmier.train.loop import Trainer
from palmier.workspace import sha256

World = Any


class Died(Exception):
    """Stands for a kill."""


def settings_of(stage: Any, world: World, tmp_path: Path) -> Any:
    (tmp_path / "taste.py").write_text("def odd(c, a):\n    return sum(t % 8 == 3 for t in a.tokens)\n", "utf-8")
    if stage is ppo:
        reward = f"{tmp_path}/taste.py:odd"
        small = {"episodes": 12, "minibatch": 12, "micro_batch": 6, "max_tokens": 8, "iterations": 3, "warmup": 1}
        return ppo.Settings(tmp_path / "run", str(world.model), reward, world.prompts, lr=1e-3, save_every=1, **small)
    settings = stage.Settings(tmp_path / "run", str(world.model), world.rankings, lr=1e-3, batch=4, save_every=2)
    return replace(settings, epochs=2, validation=0.2)


def outcome(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    lines = [json.loads(line) for line in (folder.parent / "metrics.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        del line["timing"]
    return sha256(folder / "model.safetensors"), lines


def dying(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, after: bool = False) -> None:
    """Let the ``call``-th call of owner.name die, before or after it has done its work."""
    found, calls = getattr(owner, name), []

    def instead(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call and not after:
            raise Died
        result = found(*given, **named)
        if len(calls) == call:
            raise Died
        return result

    monkeypatch.setattr(owner, name, instead)


MOMENTS = [
    (Trainer, "update", 3, False),
    (Trainer, "update", 3, True),
    (Trainer, "advance", 2, True),
    (Trainer, "save", 1, True),
    (weights, "save", 1, True),
    (weights, "save", 2, False),
]


@pytest.mark.parametrize("stage", [reward_model, dpo, ppo], ids=["reward", "dpo", "ppo"])
@pytest.mark.parametrize(("owner", "name", "call", "after"), MOMENTS)
def test_what_died_ends_in_the_same_bits(
    tiny_world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: Any,
    owner: Any,
    name: str,
    call: int,
    after: bool,
) -> None:
    """In an update, between two steps, in the middle of a save, at an epoch's edge."""
    settings = settings_of(stage, tiny_world, tmp_path)
    expected = outcome(stage.run(settings))
    again = replace(settings, out=tmp_path / "again")
    with monkeypatch.context() as patch:
        dying(patch, owner, name, call, after)
        with pytest.raises(Died):
            stage.run(again)
    assert outcome(stage.run(again)) == expected
    assert len(expected[1]) > 3


def test_a_rollout_that_died_is_made_again(tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(ppo, tiny_world, tmp_path)
    expected = outcome(ppo.run(settings))
    again = replace(settings, out=tmp_path / "again")
    for call in (2, 1, 2):
        with monkeypatch.context() as patch:
            dying(patch, ppo, "rollout", call)
            with pytest.raises(Died):
                ppo.run(again)
    assert outcome(ppo.run(again)) == expected


@pytest.mark.parametrize("stage", [pretrain, sft, reward_model, dpo, ppo])
def test_every_setting_is_read_outside_of_its_check(stage: Any) -> None:
    """An option that nobody reads is worse than none."""
    tree = ast.parse(inspect.getsource(stage))
    owner = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    owner.body = [node for node in owner.body if not (isinstance(node, ast.FunctionDef) and node.name == "check")]
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for field in dataclasses.fields(stage.Settings):
        assert field.name in read, f"{stage.__name__}: nobody reads {field.name}"


def test_an_unknown_option_is_an_error(tiny_world: World, tmp_path: Path) -> None:
    from palmier.cli.train import stage_command

    path = tmp_path / "settings.toml"
    path.write_text(
        f'out = "{tmp_path}/run"\nmodel = "{tiny_world.model}"\ndata = "{tiny_world.rankings}"\nbeta_kl = 0.1\n',
        "utf-8",
    )
    with pytest.raises(Refusal, match="beta_kl"):
        stage_command("dpo")(["--config", str(path)])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", [reward_model, dpo, ppo], ids=["reward", "dpo", "ppo"])
def test_a_changed_option_is_named(tiny_world: World, tmp_path: Path, stage: Any) -> None:
    settings = settings_of(stage, tiny_world, tmp_path)
    stage.run(settings)
    with pytest.raises(Refusal, match=r"lr = 0\.001, not 0\.002"):
        stage.run(replace(settings, lr=0.002))
