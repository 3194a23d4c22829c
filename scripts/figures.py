"""Write the tables in README and docs from the result files; with --check, fail where they differ.

A table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`; NAME is a function below.
Result files are committed as the commands wrote them: results/demo/seed-N.json (`palmier demo`),
results/real_model/*.json (`python -m experiments.real_model`), results/bench/*.json (`make bench`).
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
    machines = {f"{run['machine']['cores']} cores, {run['machine']['processor']}" for run in runs}
    commits = {run["commit"][:10] for run in runs}
    note = f"`palmier demo --seed N`: {'; '.join(sorted(sizes))}; {found[0]['prompts']} test prompts × {found[0]['samples']}"
    note += (
        f" answers at temperature {found[0]['temperature']:g}; 95 % intervals by prompt; {'; '.join(sorted(machines))};"
    )
    return table(head, rows) + f"\n{note} commit {', '.join(sorted(commits))}.\n"


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


def spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} … {max(values):{form}})"


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
