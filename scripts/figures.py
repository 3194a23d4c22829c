"""Write the tables in README and docs from the result files; with --check, fail where they differ.

A table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`; NAME is a function below.
Result files are committed as the commands wrote them: results/demo/seed-N.json (`palmier demo`),
results/real_model/*.json (`python -m experiments.real_model`), results/bench/cpu.json (`make bench`) and
profile.json (`python -m benchmarks.profile`), results/soak/*.json (`python -m experiments.soak`),
results/loop/*.json (`palmier demo --loop`: its results.json),
results/page/*.json (`python -m experiments.page`), results/load/*.json (`python -m experiments.load`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)

Json = dict[str, Any]


def read(folder: str) -> list[Json]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "results" / folder).glob("*.json"))]


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def interval(value: Json) -> str:
    return f"{percent(value['mean'])} ({100 * value['low']:.1f} … {100 * value['high']:.1f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def made_by(runs: list[Json]) -> str:
    """The machines and commits of some runs, as the end of a table's note."""
    machines = {f"{run['machine']['cores']} cores, {run['machine']['processor']}" for run in runs}
    commits = {run["commit"][:10] for run in runs}
    return f"{'; '.join(sorted(machines))}; commit {', '.join(sorted(commits))}.\n"


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


LOOP_PARTS = {
    "answers to be ranked": ("rankings",),
    "PPO": ("ppo",),
    "comparison": ("compare",),
    "everything else": ("text", "tokenizer", "pretrain", "sft", "rewards", "dpo", "promote", "serve"),
}
"""The columns of the table of loops, and the stages that each adds up; the engine draws in the first three."""


def spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} … {max(values):{form}})"


def bench_profile() -> str:
    """Where a decoding step's time goes."""
    runs = [run for run in read("bench") if "profile" in run]
    if not runs:
        return "No run of `python -m benchmarks.profile` has been recorded yet.\n"
    run = runs[0]
    parts = list(next(iter(run["profile"].values()))["operators_ms"])
    rows = [
        [load, f"{found['step_ms']:.1f}", *(f"{found['operators_ms'][part]:.1f}" for part in parts)]
        for load, found in run["profile"].items()
    ]
    return table(["ms a step", "whole", *parts], rows) + f"\n`{run['command']}`: {made_by([run])}"


def soak() -> str:
    """Many minutes of mixed load on one model."""
    runs = read("soak")
    if not runs:
        return "No run of `python -m experiments.soak` has been recorded yet.\n"
    rows = []
    for run in runs:
        low, high = (bound / 2**20 for bound in run["memory_slope_interval"])
        used_low, used_high = (bound / 2**20 for bound in run["in_use_slope_interval"])
        rows.append(
            [
                f"`{run['command']}`",
                run["machine"]["dtype"],
                f"{run['done']:,} / {run['given_up']:,} / {run['refused']:,}",
                str(run["stuck"]),
                f"{run['pages_left']} of {run['pages']}, {run['requests_left']}",
                f"{run['tokens']:,}",
                f"{1000 * run['between_p50']:.0f} / {1000 * run['between_p99']:.0f}",
                f"{run['memory_first'] / 2**20:.0f} → {run['memory_last'] / 2**20:.0f}",
                f"{run['memory_slope'] / 2**20:+.2f} ({low:+.2f} … {high:+.2f})",
                f"{run['in_use_slope'] / 2**20:+.2f} ({used_low:+.2f} … {used_high:+.2f})",
            ]
        )
    head = [
        "command",
        "number format of the machine",
        "answered / given up / refused",
        "stuck",
        "pages, requests left",
        "tokens",
    ]
    head += ["ms between tokens, p50 / p99", "memory, MiB", "MiB a minute (95 %)"]
    head += ["of it in use, MiB a minute (95 %)"]
    return table(head, rows) + f"\n{made_by(runs)}"


def loop() -> str:
    """The smallest loop before this engine and with it, a row a commit."""
    runs = read("loop")
    if not runs:
        return "No runs of `palmier demo --loop` have been recorded yet.\n"
    rows = []
    for commit in dict.fromkeys(run["commit"] for run in runs):
        every = [run for run in runs if run["commit"] == commit]
        seconds = [run["seconds"] for run in every]
        parts = [[sum(one[stage] for stage in stages) for one in seconds] for stages in LOOP_PARTS.values()]
        whole = [run["total_seconds"] for run in every]
        rows.append([commit[:10], str(len(every)), *(spread(one, ".0f") for one in (whole, *parts))])
    head = ["commit", "runs", "whole loop, seconds", *LOOP_PARTS]
    return table(head, rows) + f"\n`palmier demo --loop`, seconds: {made_by(runs)}"


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


def bench_runs() -> list[Json]:
    return [run for run in read("bench") if "peers" in run]


def bench() -> str:
    """Palmier, llama.cpp and transformers on the same tasks."""
    runs = bench_runs()
    if not runs:
        return "No run of `make bench` has been recorded yet.\n"
    run = runs[0]
    figures = run["peers"]["figures"]
    programs = list(next(iter(figures.values())))
    rows = []
    for task, found in figures.items():
        form, unit = (".3f", "seconds") if task.startswith("first token") else (".0f", "tokens/s")
        rows.append([f"{task}, {unit}", *(spread(found[program], form) for program in programs)])
    for name, what in (("loaded_bytes", "memory when loaded, MiB"), ("peak_bytes", "highest memory, MiB")):
        rows.append([what, *(f"{run['peers'][name][program] / 2**20:.0f}" for program in programs)])
    return table(["", *programs], rows) + "\n" + bench_note(run)


def bench_note(run: Json) -> str:
    where = run["machine"]
    return (
        f"`{run['command']}`: {run['model']}; median (lowest … highest) of {run['rounds']} interleaved rounds; "
        f"{where['cores']} cores, {where['processor']}, {run['threads']} threads, torch {where['torch']}; "
        f"llama.cpp: {run['llama_cpp']}; memory above `import torch`, llama.cpp's whole process; commit {run['commit'][:10]}.\n"
    )


AIMS = (
    ("decode, batch 1", "llama.cpp Q4_1", 1.0),
    ("16 concurrent requests", "llama.cpp BF16", 1.2),
    ("16 concurrent requests", "transformers bf16", 2.5),
    ("first token, prompt 512", "llama.cpp BF16", 1.0),
    ("first token, prompt 512", "transformers bf16", 1.0),
    ("rollouts, 64 prompts of 64 tokens", "transformers bf16", 3.0),
)


def bench_aims() -> str:
    """Ratios, round by round, against the aims."""
    runs = bench_runs()
    if not runs:
        return "No run of `make bench` has been recorded yet.\n"
    figures = runs[0]["peers"]["figures"]
    rows = []
    for task, rival, aim in AIMS:
        ours = [program for program in figures[task] if program.startswith("Palmier")]
        cells = []
        for program in ours:
            pairs = zip(figures[task][program], figures[task][rival], strict=True)
            seconds = task.startswith("first token")
            cells.append(spread([theirs / own if seconds else own / theirs for own, theirs in pairs], ".2f"))
        rows.append([task, rival, f"≥ {aim:g}", *cells])
    names = [program for program in next(iter(figures.values())) if program.startswith("Palmier")]
    serve = runs[0]["serve"]
    waits = f"`palmier serve`: ready after {spread(serve['ready'], '.1f')} s, first token after {spread(serve['first_token'], '.1f')} s.\n"
    return table(["task", "against", "aim", *(f"{name}, times as fast" for name in names)], rows) + "\n" + waits


def growth() -> str:
    """How tokens a second change with batch, context and size."""
    runs = bench_runs()
    if not runs:
        return "No run of `make bench` has been recorded yet.\n"
    found = runs[0]["growth"]
    rows = [[name, spread(value["int8"], ".0f")] for name, value in found["loads"].items()]
    rows += [
        [f"batch 1, {name}, {value['parameters'] / 1e6:.0f} M parameters", spread(value["figures"], ".0f")]
        for name, value in found["sizes"].items()
    ]
    return table(["load", "tokens/s, int8"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "demo": demo,
    "real_model": real_model,
    "bench": bench,
    "bench_aims": bench_aims,
    "growth": growth,
    "bench_profile": bench_profile,
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
