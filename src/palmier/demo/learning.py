"""The demo's stages from rankings to better models: reward models, DPO and PPO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palmier.data.jsonl import read_lines
from palmier.demo import judging
from palmier.demo.pipeline import Demo
from palmier.demo.tasks import load_tasks
from palmier.train import dpo, ppo, reward_model
from palmier.workspace import read_json


def train_rewards(demo: Demo) -> dict[str, Any]:
    """A reward model on each number of rankings of the curve; the last is the one that is used."""
    found = {}
    for count in demo.size.curve:
        settings = reward_model.Settings(
            out=reward_run(demo, count),
            model=str(demo.runs / "sft"),
            data=demo.rankings / f"{count}.jsonl",
            validation=0.0,
            length=demo.size.length,
            epochs=demo.size.reward_epochs,
            lr=demo.size.reward_lr,
            seed=demo.seed,
        )
        folder = reward_model.run(settings)
        found[str(count)] = read_json(folder / reward_model.FACTS)
    return found


def reward_run(demo: Demo, count: int | None = None) -> Path:
    """The run of the reward model on ``count`` rankings, by default on all."""
    return demo.runs / f"reward-{count or demo.size.curve[-1]}"


def train_dpo(demo: Demo) -> dict[str, Any]:
    """DPO from the same rankings."""
    settings = dpo.Settings(
        out=demo.runs / "dpo",
        model=str(demo.runs / "sft"),
        data=demo.rankings / f"{demo.size.curve[-1]}.jsonl",
        validation=0.0,
        length=demo.size.length,
        beta=demo.size.dpo_beta,
        epochs=demo.size.dpo_epochs,
        lr=demo.size.dpo_lr,
        seed=demo.seed,
    )
    dpo.run(settings)
    return {"beta": settings.beta, "lr": settings.lr}


def train_ppo(demo: Demo) -> dict[str, Any]:
    """PPO against the reward model; the judge looks at validation answers and its favourite round is kept."""
    size = demo.size
    judging.learn(load_tasks(demo.requests / "validation.json"))
    settings = ppo.Settings(
        out=demo.runs / "ppo",
        model=str(demo.runs / "sft"),
        reward=str(reward_run(demo)),
        prompts=demo.requests / "ppo.jsonl",
        validation=demo.requests / "validation.jsonl",
        judge=judging.SPEC,
        iterations=size.ppo_iterations,
        warmup=size.ppo_warmup,
        episodes=size.ppo_episodes,
        minibatch=32,
        max_tokens=size.answer_tokens,
        temperature=size.temperature,
        lr=size.ppo_lr,
        value_lr=size.ppo_value_lr,
        kl_weight=size.ppo_kl,
        seed=demo.seed,
    )
    ppo.run(settings)
    best = read_json(settings.out / "best" / "best.json")
    *_, (_, last) = read_lines(settings.out / "metrics.jsonl")
    return {
        "kept_round": best["step"],
        "rounds": settings.warmup + settings.iterations,
        "validation_gold": best["score"],
        "validation_gold_of_last_round": last["judge"],
    }
