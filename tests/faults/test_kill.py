"""``kill -9`` at random moments of every stage: what goes on afterwards ends in the very same bits.

The stages run as the commands that a person gives, in real processes that are really killed. They
are forked from a server that has imported torch, since an import takes longer than the runs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from palmier.cli import app as command_line
from palmier.cli.train import STAGES
from palmier.scale.runtime import has_compiler
from palmier.workspace import sha256

TIMEOUT = 280.0
"""Seconds after which a run of a second is taken to hang: a compiled one takes two minutes on two slow cores."""

RUNS = {
    "pretrain": "pretrain --out {out} --data {shards} --tokenizer {tokenizer} --hidden-size 32 --heads 2 --layers 2 "
    "--length 32 --batch 4 --steps 14 --warmup 2 --save-every 2 --validate-every 5",
    "sft": "sft --out {out} --model {model} --data {conversations} --batch 2 --length 40 --epochs 2 --save-every 2 "
    "--lr 1e-3 --validation 0.2",
    "reward": "reward train --out {out} --model {model} --data {rankings} --batch 2 --epochs 2 --save-every 2 --lr 1e-3",
    "dpo": "dpo --out {out} --model {model} --data {rankings} --batch 2 --epochs 2 --save-every 2 --lr 1e-3",
    "ppo": "ppo --out {out} --model {model} --reward {reward} --prompts {prompts} --validation {prompts} "
    "--judge {judge}:taste --warmup 1 --iterations 4 --episodes 16 --minibatch 8 --micro-batch 4 --max-tokens 12 "
    "--lr 1e-4 --value-lr 1e-3 --save-every 1",
}


@dataclass(frozen=True)
class Stage:
    """One stage on the tiny world: its command, and what an undisturbed run of it gives."""

    name: str
    command: str
    seconds: float
    steps: int
    weights: bytes
    metrics: list[dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Any:
    """A process that has imported torch and the stages, and forks one for each run."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["palmier.cli.train", *STAGES.values()])
    return context


@pytest.fixture(scope="module", params=RUNS)
def stage(request: pytest.FixtureRequest, server: Any, tiny_world: Any, tmp_path_factory: Any) -> Stage:
    """A stage and its undisturbed run."""
    places = {key: str(value) for key, value in vars(tiny_world).items()}
    command = RUNS[request.param].format(out="{out}", **places)
    return undisturbed(request.param, command, server, tmp_path_factory.mktemp("undisturbed") / "run")


def undisturbed(name: str, command: str, server: Any, out: Path) -> Stage:
    began = time.monotonic()
    finish(start(server, command, out))
    steps = int((out / "latest").read_text()[5:])
    return Stage(name, command, time.monotonic() - began, steps, weights(out), metrics(out))


def start(server: Any, command: str, out: Path) -> BaseProcess:
    process: BaseProcess = server.Process(target=command_line.run, args=(command.format(out=out).split(),))
    process.start()
    return process


def finish(process: BaseProcess) -> None:
    process.join(TIMEOUT)
    assert process.exitcode == 0, "the run hangs" if process.exitcode is None else "the run failed"


def weights(out: Path) -> str:
    return sha256(out / (out / "latest").read_text().strip() / "model.safetensors")


def metrics(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def wait_for_moment(stage: Stage, out: Path, how: str, draw: random.Random, process: BaseProcess) -> None:
    """Return at a random moment of the run: at any time, after a random step, or in the middle of a save."""
    if how == "any time":
        process.join(draw.uniform(0.0, stage.seconds))
        return
    step, pause = draw.randrange(stage.steps), draw.uniform(0.0, 1.0) ** 2
    while process.is_alive():
        if how == "after a step" and lines_of(out / "metrics.jsonl") >= step:
            process.join(pause * stage.seconds / stage.steps)
            return
        if how == "in a save" and latest(out) >= step - 2 and any(out.glob(".partial-*-step-*")):
            process.join(pause * 0.01)
            return
        process.join(0.0005)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def latest(out: Path) -> int:
    return int((out / "latest").read_text()[5:]) if (out / "latest").is_file() else 0


def kill_and_compare(stage: Stage, server: Any, out: Path, seed: int) -> None:
    draw = random.Random(f"{stage.name} {seed}")
    how = ("in a save", "after a step", "any time")[seed % 3]
    for _ in range(1 + seed % 2):
        process = start(server, stage.command, out)
        wait_for_moment(stage, out, how, draw, process)
        process.kill()
        process.join(TIMEOUT)
    finish(start(server, stage.command, out))
    assert weights(out) == stage.weights, f"{stage.name}, killed {how} (seed {seed}): other weights"
    assert metrics(out) == stage.metrics, f"{stage.name}, killed {how} (seed {seed}): other metrics"
    assert not list(out.rglob(".partial-*")), "what the dead process left was not cleared"


KILLS = [seed if seed < 1 else pytest.param(seed, marks=pytest.mark.long) for seed in range(10)]


@pytest.mark.parametrize("seed", KILLS)
def test_a_killed_stage_goes_on_bit_for_bit(stage: Stage, server: Any, tmp_path: Path, seed: int) -> None:
    kill_and_compare(stage, server, tmp_path / "run", seed)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler here")
def test_a_killed_compiled_run_goes_on_bit_for_bit(server: Any, tiny_world: Any, tmp_path: Path) -> None:
    places = {key: str(value) for key, value in vars(tiny_world).items()}
    command = RUNS["pretrain"].format(out="{out}", **places) + " --compile yes"
    stage = undisturbed("compiled", command, server, tmp_path / "undisturbed")
    for seed in range(3):
        kill_and_compare(stage, server, tmp_path / f"{seed}", seed)
