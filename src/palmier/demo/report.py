"""The report: everything that was measured as one HTML file that needs nothing beside it, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from palmier.demo.charts import Series, line_chart, thin
from palmier.demo.comparison import EXAMPLES, METHODS
from palmier.demo.pipeline import Demo
from palmier.demo.tasks import SORTS
from palmier.workspace import write_text

Json = dict[str, Any]

PARTS = {
    "score": ("gold, 0 … 10", 2),
    "facts": ("facts, 0 … 4", 2),
    "format": ("format, 0 … 2", 2),
    "politeness": ("politeness, 0 … 2", 2),
    "length": ("brevity, 0 … 2", 2),
}
NAMES = {"email": "e-mails", "explanation": "explanations", "function": "functions"}
SHARES = {
    "right": "facts right",
    "rude": "rude",
    "warm": "a warm word",
    "heading": "subject line or docstring",
    "ended": "ended by itself",
}


@dataclass(frozen=True)
class Cell:
    """A number in a table, and whether it is better or worse than SFT's."""

    text: str
    style: str = ""


def write(demo: Demo, results: Json) -> Path:
    """Write ``report.html`` from ``results.json``'s content; returns its path."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("palmier.demo").joinpath("report.html").read_text("utf-8"))
    write_text(demo.report, template.render(**context(demo, results)))
    return demo.report


def context(demo: Demo, results: Json) -> Json:
    """What the template is filled with."""
    found = results["comparison"]
    rewards = found["reward_model"]
    best = found["best_of_4"]
    return {
        "command": results["command"],
        "minutes": _minutes(results["total_seconds"]),
        "machine": results["machine"],
        "commit": results["commit"] or "unknown",
        "size": results["size"],
        "seed": results["seed"],
        "own_text": results["text"] or "",
        "parameters": f"{results['model']['parameters'] / 1e6:.1f} million",
        "tokens": f"{results['model']['tokens'] / 1e6:.1f} million",
        "demonstrations": f"{results['requests']['demonstrations']:,}",
        "rankings": results["volunteers"]["rankings"],
        "answers": demo.size.answers,
        "flipped": percent(results["volunteers"]["flipped"]),
        "ppo": results["ppo"],
        "comparison": found,
        "cards": _cards(found),
        "wins": _wins(found),
        "best": {
            "gain": f"{best['reward'] - best['sft']:.2f}",
            "oracle": f"{best['oracle'] - best['sft']:.2f}",
            "share": percent(best["share_of_oracle"]),
        },
        "parts": [_parts(found, "sampled"), _parts(found, "greedy"), _facts(found)],
        "worse_sentence": worse_sentence(found),
        "neighbour_right": percent(found["neighbour"]["right"]),
        "charts": [chart for chart in _charts(demo, results) if chart],
        "reward_rows": [_reward_row(row) for row in rewards["curve"]],
        "spread": f"{rewards['spread']:.1f}",
        "far": f"{rewards['far']:.1f}",
        "examples": found["examples"],
        "first_examples": EXAMPLES,
        "wrong_facts": percent(1 - found["sampled"]["SFT"]["right"]),
        "chat_command": results["chat"]["command"],
        "chat_page": results["chat"]["page"],
        "stages": results["stages"],
    }


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def rate(interval: Json) -> str:
    """An interval of shares in per cent."""
    return f"{100 * interval['mean']:.1f} % ({100 * interval['low']:.1f} … {100 * interval['high']:.1f})"


def worse_sentence(found: Json) -> str:
    """In words: which parts fell against SFT by more than chance, for each version and way of sampling."""
    falls = []
    for way in ("sampled", "greedy"):
        for label, against in found["against_sft"][way].items():
            for part in ("facts", "format", "politeness", "length"):
                change = against[f"{part}_change"]
                if change["high"] < 0:
                    falls.append(f"{label}, {way}: {PARTS[part][0].split(',')[0]} by {-change['mean']:.2f} points")
            for of, right in (("", against["right_change"]), *against["right_change_sorts"].items()):
                if right["high"] < 0:
                    what = f"right facts of {NAMES[of]}" if of else "right facts"
                    falls.append(f"{label}, {way}: {what} by {-100 * right['mean']:.1f} of a hundred")
    if not falls:
        return "No part of the judge got worse than under SFT by more than chance explains."
    return "What got worse: " + "; ".join(falls) + "."


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _cards(found: Json) -> list[Json]:
    sampled = found["against_sft"]["sampled"]
    cards = [
        {
            "value": percent(sampled[label]["win_rate"]["mean"]),
            "words": f"{label} wins against SFT",
            "detail": f"95 %: {percent(sampled[label]['win_rate']['low'])} … {percent(sampled[label]['win_rate']['high'])}",
        }
        for label in ("PPO", "DPO", "best of 4")
    ]
    last = found["reward_model"]["curve"][-1]
    if last["right"] is not None:
        cards.append(
            {
                "value": percent(last["right"]["mean"]),
                "words": "of fresh pairs the reward model puts in order",
                "detail": f"from {last['rankings']} rankings",
            }
        )
    return cards


def _wins(found: Json) -> list[Json]:
    rows = []
    for label in ("best of 4", *METHODS):
        sampled, greedy = (found["against_sft"][way].get(label) for way in ("sampled", "greedy"))
        rows.append(
            {
                "label": label,
                "sampled": rate(sampled["win_rate"]),
                "equal": rate(sampled["equal_length"]),
                "greedy": "–" if greedy is None else rate(greedy["win_rate"]),
                "kl": f"{found['kl'][label]:.2f}",
            }
        )
    base = found["base"]["sft_against"]["win_rate"]
    rows.append({"label": "SFT against base", "sampled": rate(base), "equal": "–", "greedy": "–", "kl": "–"})
    return rows


def _parts(found: Json, way: str) -> Json:
    """The judge's parts and the shares behind them, a column a version."""
    versions = found[way]
    labels = list(versions)
    rows = []
    for part, (name, digits) in PARTS.items():
        cells = [Cell(f"{versions[label][part]:.{digits}f}", _style(found, way, label, part)) for label in labels]
        rows.append({"name": name, "cells": cells})
    for part, name in SHARES.items():
        cells = [
            Cell(percent(versions[label][part]), _style(found, way, label, part) if part == "right" else "")
            for label in labels
        ]
        rows.append({"name": name, "cells": cells})
    rows.append({"name": "words", "cells": [Cell(f"{versions[label]['words']:.1f}") for label in labels]})
    said = f"sampled at temperature {found['temperature']}" if way == "sampled" else "greedy"
    return {"caption": f"Answers {said}: means over the test requests.", "heads": labels, "rows": rows}


def _facts(found: Json) -> Json:
    """Right facts by sort of request, sampled and greedy, beside the nearest neighbour."""
    columns = [(way, label) for way in ("sampled", "greedy") for label in ("SFT", *METHODS)]
    heads = [*(f"{label}, {way}" for way, label in columns), "nearest neighbour"]
    rows = []
    for sort in SORTS:
        cells = []
        for way, label in columns:
            against = found["against_sft"][way].get(label)
            style = "" if against is None else _colour(against["right_change_sorts"][sort])
            cells.append(Cell(percent(found[way][label]["sorts"][sort]["right"]), style))
        cells.append(Cell(percent(found["neighbour"]["sorts"][sort]["right"])))
        name = NAMES[sort] + (" that pass every test" if sort == "function" else "")
        rows.append({"name": name, "cells": cells})
    return {"caption": "Facts that are right, by sort of request.", "heads": heads, "rows": rows}


def _style(found: Json, way: str, label: str, part: str) -> str:
    against = found["against_sft"][way].get(label)
    if against is None:
        return ""
    return _colour(against[f"{part}_change"])


def _colour(change: Json) -> str:
    """Only what chance does not explain is coloured."""
    if change["high"] < 0:
        return "worse"
    return "better" if change["low"] > 0 else ""


def _reward_row(row: Json) -> Json:
    def shown(interval: Json | None) -> str:
        return "–" if interval is None else rate(interval)

    sorts = ["–" if row["sorts"][sort] is None else percent(row["sorts"][sort]) for sort in SORTS]
    return {"rankings": row["rankings"], "right": shown(row["right"]), "far": shown(row["far_right"]), "sorts": sorts}


def _charts(demo: Demo, results: Json) -> list[str]:
    pretraining, tuning, ppo = (read_metrics(demo.runs / run) for run in ("pretrain", "sft", "ppo"))
    curve = results["comparison"]["reward_model"]["curve"]
    return [
        _loss_chart("Pre-training: nats a token", pretraining),
        _loss_chart("SFT: nats a token", tuning),
        line_chart(
            "Reward model: fresh pairs in gold's order",
            "rankings",
            "share",
            [
                Series("all pairs", [(r["rankings"], r["right"]["mean"]) for r in curve if r["right"]], dots=True),
                Series(
                    "far pairs", [(r["rankings"], r["far_right"]["mean"]) for r in curve if r["far_right"]], dots=True
                ),
            ],
        ),
        line_chart(
            "PPO: what it is paid (reward, in deviations of SFT's)",
            "round",
            "reward",
            [Series("reward model", points(ppo, "reward"))],
        ),
        line_chart(
            "PPO: what it is worth (gold on validation requests)",
            "round",
            "gold",
            [Series("gold judge", points(ppo, "judge"), dots=True)],
        ),
        line_chart(
            "PPO: distance from SFT (nats an answer)", "round", "KL", [Series("KL", points(ppo, "kl"))], zero=True
        ),
    ]


def _loss_chart(title: str, metrics: Sequence[Mapping[str, Any]]) -> str:
    return line_chart(
        title,
        "step",
        "loss",
        [
            # The first steps fall from ln(vocabulary) and would flatten all that follows.
            Series("training", thin(points(metrics, "loss")[len(metrics) // 25 :])),
            Series("held out", points(metrics, "validation_loss"), dots=True),
        ],
    )


def points(metrics: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) of every line that has ``name``."""
    return [(float(line["step"]), float(line[name])) for line in metrics if name in line]


def read_metrics(run: Path) -> list[Json]:
    """The lines of a run's metrics.jsonl."""
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
