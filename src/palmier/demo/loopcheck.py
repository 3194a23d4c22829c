"""What the loop must show in its smallest form: that every stage learned. A failure is a bug in Palmier.

The bounds are wide, so that chance seldom breaks them and a stage that does nothing does.
"""

from __future__ import annotations

from typing import Any

from palmier.demo.pipeline import Demo
from palmier.demo.report import points, read_metrics
from palmier.workspace import read_json


class NotLearned(AssertionError):
    """A stage ran and did not learn."""


def check(demo: Demo) -> list[str]:
    """One line for each thing that was shown; raises NotLearned naming what was not."""
    found = demo.found("compare")
    shown = [
        _falls(demo, "pretrain", least=0.3),
        _falls(demo, "sft", least=0.02),
        _above("SFT answers that end by themselves", found["sampled"]["SFT"]["ended"], 0.9),
        _beats("SFT against base", found["base"]["sft_against"]["win_rate"], 0.6),
    ]
    reward = found["reward_model"]["curve"][-1]["right"]
    shown.append(_beats("fresh pairs that the reward model puts in order", reward, 0.5))
    sampled = found["against_sft"]["sampled"]
    shown.append(_beats("DPO against SFT", sampled["DPO"]["win_rate"], 0.5))
    # So few rankings move these two little, so that an interval may touch one half: the mean, and PPO's reward, show it.
    shown.append(_above("best of 4 against SFT", sampled["best of 4"]["win_rate"]["mean"], 0.5))
    shown.append(_above("PPO against SFT", sampled["PPO"]["win_rate"]["mean"], 0.5))
    shown.append(_above("PPO's reward above SFT's, in deviations of SFT's", _gained(demo), 0.2))
    server, promoted = demo.found("serve"), demo.found("promote")
    if server["label"] != promoted["best"] or not promoted["promoted"]:
        raise NotLearned(f"the server answered with {server['label']}, not with a promoted version")
    return [*shown, f"the server answers with {server['label']} (version {server['version']})"]


def _gained(demo: Demo) -> float:
    """By how much the answers of the last three rounds earn more than SFT's."""
    start = read_json(demo.runs / "ppo" / "baseline.json")
    last = [score for _, score in points(read_metrics(demo.runs / "ppo"), "score")][-3:]
    return float((sum(last) / len(last) - start["mean"]) / start["deviation"])


def _falls(demo: Demo, run: str, least: float) -> str:
    losses = [loss for _, loss in points(read_metrics(demo.runs / run), "validation_loss")]
    if len(losses) < 2 or losses[0] - losses[-1] < least:
        raise NotLearned(f"{run}: the held-out loss did not fall by {least} nats: {losses}")
    return f"{run}: held-out loss {losses[0]:.2f} → {losses[-1]:.2f}"


def _above(what: str, value: float, bound: float) -> str:
    if value < bound:
        raise NotLearned(f"{what}: {value:.3f} is below {bound}")
    return f"{what}: {value:.3f}"


def _beats(what: str, interval: dict[str, Any] | None, bound: float) -> str:
    """The whole interval lies above ``bound``."""
    if interval is None or interval["low"] <= bound:
        raise NotLearned(f"{what}: {interval} does not lie above {bound}")
    return f"{what}: {interval['mean']:.3f} ({interval['low']:.3f} … {interval['high']:.3f})"
