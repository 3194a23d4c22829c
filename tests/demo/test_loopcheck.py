"""The loop's check fails where one stage of the chain did not learn, whichever it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palmier.demo import loopcheck
from palmier.demo.pipeline import Demo
from palmier.demo.sizes import LOOP

WON = {"mean": 0.6, "low": 0.55, "high": 0.65}
LOST = {"mean": 0.49, "low": 0.44, "high": 0.54}


def learned(folder: Path) -> Demo:
    """A folder that looks as a loop that learned leaves it."""
    demo = Demo(folder, LOOP, 1)
    against = {name: {"win_rate": dict(WON)} for name in ("best of 4", "DPO", "PPO")}
    compare = {
        "sampled": {"SFT": {"ended": 0.97}},
        "base": {"sft_against": {"win_rate": {"mean": 0.9, "low": 0.8, "high": 0.95}}},
        "reward_model": {"curve": [{"right": dict(WON)}]},
        "against_sft": {"sampled": against},
    }
    write(demo, "compare", compare)
    write(demo, "promote", {"best": "DPO", "promoted": True})
    write(demo, "serve", {"label": "DPO", "version": "0002"})
    metrics(demo, "pretrain", [{"step": 1, "validation_loss": 3.0}, {"step": 2, "validation_loss": 1.0}])
    metrics(demo, "sft", [{"step": 1, "validation_loss": 0.5}, {"step": 2, "validation_loss": 0.4}])
    metrics(demo, "ppo", [{"step": step, "score": score} for step, score in enumerate((1.0, 1.1, 1.4, 1.5, 1.6), 1)])
    (demo.runs / "ppo" / "baseline.json").write_text('{"mean": 1.0, "deviation": 0.5}', "utf-8")
    return demo


def write(demo: Demo, stage: str, found: dict[str, Any]) -> None:
    demo.marker(stage).parent.mkdir(parents=True, exist_ok=True)
    demo.marker(stage).write_text(json.dumps({"seconds": 1, "found": found}), "utf-8")


def metrics(demo: Demo, run: str, lines: list[dict[str, Any]]) -> None:
    (demo.runs / run).mkdir(parents=True, exist_ok=True)
    (demo.runs / run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def changed(demo: Demo, change: Callable[[dict[str, Any]], None]) -> None:
    found = demo.found("compare")
    change(found)
    write(demo, "compare", found)


def test_a_loop_that_learned_passes(tmp_path: Path) -> None:
    assert len(loopcheck.check(learned(tmp_path))) == 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["sampled"]["SFT"].update(ended=0.5), "end by themselves"),
        (lambda f: f["base"]["sft_against"].update(win_rate=WON), "SFT against base"),
        (lambda f: f["reward_model"]["curve"][-1].update(right=LOST), "reward model"),
        (lambda f: f["against_sft"]["sampled"]["DPO"].update(win_rate=LOST | {"mean": 0.53}), "DPO"),
        (lambda f: f["against_sft"]["sampled"]["PPO"].update(win_rate=LOST), "PPO against SFT"),
        (lambda f: f["against_sft"]["sampled"]["best of 4"].update(win_rate=LOST), "best of 4"),
    ],
)
def test_what_the_comparison_does_not_show_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    demo = learned(tmp_path)
    changed(demo, change)
    with pytest.raises(loopcheck.NotLearned, match=said):
        loopcheck.check(demo)


def test_a_loss_that_stays_and_a_reward_that_stays_are_named(tmp_path: Path) -> None:
    demo = learned(tmp_path)
    metrics(demo, "ppo", [{"step": step, "score": 1.05} for step in range(1, 6)])
    with pytest.raises(loopcheck.NotLearned, match="PPO's reward"):
        loopcheck.check(demo)
    metrics(demo, "sft", [{"step": 1, "validation_loss": 0.5}, {"step": 2, "validation_loss": 0.5}])
    with pytest.raises(loopcheck.NotLearned, match="sft"):
        loopcheck.check(demo)


def test_a_server_that_answers_with_another_version_is_named(tmp_path: Path) -> None:
    demo = learned(tmp_path)
    write(demo, "serve", {"label": "SFT", "version": "0001"})
    with pytest.raises(loopcheck.NotLearned, match="server answered with SFT"):
        loopcheck.check(demo)
