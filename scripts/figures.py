"""Write the tables in README and docs from the result files; with --check, fail where they differ.

A table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`; NAME is a function below.
Result files are committed as the commands wrote them: results/demo/seed-N.json (`palmier demo`),
results/real_model/*.json (`python -m experiments.real_model`), results/bench/cpu.json (`make bench`) and
profile.json (`python -m benchmarks.profile`), results/soak/*.json (`python -m experiments.soak`),
results/loop/*.json (`palmier demo --loop`: its results.json),
results/company/*.json (`python -m experiments.company`), results/page/*.json (`python -m experiments.page`), results/load/*.json (`python -m experiments.load`),
results/busy/*.json (`python -m experiments.busy`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from statistics import median

from engine_tables import bench, bench_aims, bench_profile, busy, company, growth, loop, soak
from tables import ROOT, Json, interval, made_by, percent, read, spread, table

BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)


def demo() -> str:
    """The demo's comparison, a column a seed."""
    runs = sorted(read("demo"), key=lambda run: int(run["seed"]))
    if not runs:
        return "No run of `palmier demo` on an idle machine has been recorded yet.\n"
    rows: list[list[str]] = []

    def row(name: str, cell: Callable[[Json], str]) -> None:
        rows.append([name, *(cell(run) for run in runs)])

    found = [run["comparison"] for run in runs]
    for label in found[0]["against_sft"]["sampled"]:
        row(f"{label} wins against SFT", lambda run, k=label: interval(side(run, "sampled", k)["win_rate"]))
        row("… at equal length", lambda run, k=label: interval(side(run, "sampled", k)["equal_length"]))
        row("… change in right facts", lambda run, k=label: points(side(run, "sampled", k)["right_change"]["mean"]))
    for label in found[0]["against_sft"].get("greedy", {}):
        row(f"{label} wins, greedy answers", lambda run, k=label: interval(side(run, "greedy", k)["win_rate"]))
        row("… change in right facts", lambda run, k=label: points(side(run, "greedy", k)["right_change"]["mean"]))
    row("KL of PPO from SFT, nats an answer", lambda run: f"{run['comparison']['kl']['PPO']:.2f}")
    row("right facts: SFT", lambda run: percent(run["comparison"]["sampled"]["SFT"]["right"]))
    row(
        "right facts: the closest training prompt's answer",
        lambda run: percent(run["comparison"]["neighbour"]["right"]),
    )
    row("reward model: held-out pairs right", lambda run: interval(last(run)["right"]))
    row("… where gold differs by a quarter of its spread", lambda run: interval(last(run)["far_right"]))
    row("best of 4: share of an oracle's gain", lambda run: percent(run["comparison"]["best_of_4"]["share_of_oracle"]))
    row("minutes, whole chain", lambda run: f"{run['total_seconds'] / 60:.1f}")
    head = ["judged by gold, ties half", *(f"seed {run['seed']}" for run in runs)]
    sizes = {
        f"{run['model']['parameters'] / 1e6:.1f} M parameters, {run['model']['tokens'] / 1e6:.1f} M tokens"
        for run in runs
    }
    note = f"`palmier demo --seed N`: {'; '.join(sorted(sizes))}; {found[0]['prompts']} test prompts × {found[0]['samples']}"
    note += f" answers at temperature {found[0]['temperature']:g}; 95 % intervals by prompt; "
    return table(head, rows) + f"\n{note}{made_by(runs)}"


def side(run: Json, how: str, label: str) -> Json:
    value: Json = run["comparison"]["against_sft"][how][label]
    return value


def last(run: Json) -> Json:
    value: Json = run["comparison"]["reward_model"]["curve"][-1]
    return value


def points(change: float) -> str:
    return f"{100 * change:+.1f} points"


def real_model() -> str:
    """The loop on SmolLM2-135M: rankings by a plain taste, and by chance."""
    runs = read("real_model")
    if not runs:
        return "No run of `python -m experiments.real_model` has been recorded yet.\n"
    rows = []
    for run in runs:
        held = run.get("held_out")
        perplexity = list(run.get("perplexity", {}).values())
        rows.append(
            [
                f"`{run['command']}`",
                "yes" if run["promoted"] else "no",
                interval(held["win_rate"]) if held else "–",
                f"{held['old']['words']:.0f} → {held['new']['words']:.0f}" if held else "–",
                f"{held['old']['placeholder']:.2f} → {held['new']['placeholder']:.2f}" if held else "–",
                f"{held['old']['points']:.2f} → {held['new']['points']:.2f}" if held else "–",
                " → ".join(f"{value:.2f}" for value in perplexity) or "–",
                f"{run['improve_seconds'] / 60:.1f}",
            ]
        )
    head = ["command", "promoted", "wins by the taste", "words", "placeholders", "points made", "perplexity", "minutes"]
    return table(head, rows)


def page() -> str:
    """The chat page in a browser."""
    runs = read("page")
    if not runs:
        return "No run of `python -m experiments.page` has been recorded yet.\n"
    rows = []
    for run in runs:
        rows += [
            ["first contentful paint, ms", spread(run["paint_ms"], ".0f")],
            ["bytes of an empty page", f"{median(run['bytes']):,.0f}"],
            [
                f"bytes with {run['messages']:,} messages, their own text and the parts for code and formulas included",
                f"{median(run['long_bytes']):,.0f}",
            ],
            [f"{run['messages']:,} messages: shown after, ms", spread(run["long_shown"], ".0f")],
            ["their longest task while opening, ms", spread(run["long_opening_task"], ".0f")],
            ["scrolled to the beginning: longest task, ms", spread(run["long_task"], ".0f")],
            ["frames over 50 ms, of all", f"{median(run['long_slow']):.0f} of {median(run['long_frames']):.0f}"],
        ]
    first = runs[0]
    note = (
        f"`{first['command']}`: median (lowest … highest) of {first['rounds']} rounds, Chromium {first['chromium']}; "
    )
    return table(["", "figure"], rows) + f"\n{note}{made_by(runs)}"


def load() -> str:
    """Many streams at once: what became of them, what /health and the first tokens took, what HTTP costs a token."""
    runs = read("load")
    if not runs:
        return "No run of `python -m experiments.load` has been recorded yet.\n"
    run = runs[0]
    rows = []
    for name in ("burst", "patient"):
        found = run[name]
        rows.append(
            [
                f"{run['streams']} streams, {name}",
                f"{found['done']} / {found['refused']} / {sum(found['lost'].values())}",
                f"{found['seconds']:.0f}",
                *(f"{found[what]['p50']:,.0f} / {found[what]['p99']:,.0f}" for what in ("first_token_ms", "health_ms")),
                f"{found['health_ms']['max']:,.0f}",
            ]
        )
    head = [
        "load",
        "ended / 429 / lost",
        "seconds",
        "first token, ms, p50 / p99",
        "/health, ms, p50 / p99",
        "/health, ms, max",
    ]
    costs = [
        [name, *(spread(found[what], ".2f") for what in ("engine_ms", "http_ms")), spread(found["ratio"], ".3f")]
        for name, found in run["overhead"].items()
        if name.startswith("batch")
    ]
    second = table(["", "engine alone, ms a token", "through HTTP, ms a token", "ratio, round by round"], costs)
    note = f"`{run['command']}`: {run['model']}; room for {run['room']['slots']} + {run['room']['queue']} at a time; "
    return table(head, rows) + "\n" + second + "\n" + note + made_by([run])


TABLES: dict[str, Callable[[], str]] = {
    "demo": demo,
    "real_model": real_model,
    "bench": bench,
    "bench_aims": bench_aims,
    "growth": growth,
    "bench_profile": bench_profile,
    "company": company,
    "busy": busy,
    "soak": soak,
    "loop": loop,
    "page": page,
    "load": load,
}


def written(text: str) -> str:
    return BLOCK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> int:
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        before = path.read_text("utf-8")
        after = written(before)
        if before != after:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(after, "utf-8")
    if "--check" in sys.argv and stale:
        print(f"figures differ from the result files in {', '.join(stale)}: run `python scripts/figures.py`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
