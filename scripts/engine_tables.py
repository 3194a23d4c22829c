"""The engine's tables: the benchmark and its aims, a step's profile, the soak, the loop before and after, company."""

from __future__ import annotations

from tables import Json, interval, made_by, read, spread, table

LOOP_PARTS = {
    "answers to be ranked": ("rankings",),
    "PPO": ("ppo",),
    "comparison": ("compare",),
    "pre-training": ("pretrain",),
    "everything else": ("text", "tokenizer", "sft", "rewards", "dpo", "promote", "serve"),
}
"""The columns of the table of loops, and the stages that each adds up; the engine draws in the first three, and
pre-training, the same in all of them, shows how fast the machine was."""


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
    learned = []
    for run in runs:
        compared = run["comparison"]
        won = {name: one["win_rate"] for name, one in compared["against_sft"]["sampled"].items()}
        answers = f"{compared['prompts']} × {compared['samples']}"
        wins = [interval(won[name]) for name in ("DPO", "PPO", "best of 4")]
        learned.append([run["commit"][:10], str(run["seed"]), answers, *wins, run["promoted"]["best"]])
    compared_head = [
        "commit",
        "seed",
        "test prompts × answers",
        "DPO against SFT",
        "PPO",
        "best of 4",
        "answers in the chat",
    ]
    return table(head, rows) + "\n" + table(compared_head, learned) + f"\n`palmier demo --loop`: {made_by(runs)}"


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


CACHE = 1024
"""MiB of keys and values that an engine of the benchmark takes."""

WEIGHTS = {"Palmier int8": 134_515_008, "Palmier bf16": 2 * 134_515_008}
"""Bytes of SmolLM2-135M's numbers."""


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
    loaded = runs[0]["peers"]["loaded_bytes"]
    times = [f"{name} {(loaded[name] - CACHE * 2**20) / WEIGHTS[name]:.2f} times" for name in names]
    memory = f"Memory when loaded, without the cache of {CACHE} MiB: {', '.join(times)} the weights (aim ≤ 1.2).\n"
    head = ["task", "against", "aim", *(f"{name}, times as fast" for name in names)]
    return table(head, rows) + "\n" + waits + "\n" + memory


def company() -> str:
    """How many answers changed with their company, by number format and temperature."""
    runs = read("company")
    if not runs:
        return "No run of `python -m experiments.company` has been recorded yet.\n"

    def cell(value: Json) -> str:
        changed = value["answers"] - value["same"]
        return f"{changed} of {value['answers']} (a token in {value['tokens'] / changed:.0f})" if changed else "none"

    rows = [
        [run["commit"][:10], one["precision"], f"{one['temperature']:g}", cell(one["again"]), cell(one["beside"])]
        for run in runs
        for one in run["found"]
    ]
    head = ["commit", "weights", "temperature", "answers changed: prompt in the cache", "beside all the others"]
    return table(head, rows) + f"\n`{runs[0]['command']}`: {runs[0]['model']}; " + made_by(runs)


def busy() -> str:
    """What a token takes beside busy programs, a row a number of spins."""
    runs = read("busy")
    if not runs:
        return "No run of `python -m experiments.busy` has been recorded yet.\n"
    run = runs[0]
    found = run["beside"]
    rows = [
        [f"{int(spins):,}", *(spread(found[others][spins], ".0f") for others in found)]
        for spins in next(iter(found.values()))
    ]
    beside = {"0": "alone", "1": "beside a busy program", "2": "beside two"}
    head = ["spins", *(f"ms a token {beside[others]}" for others in found)]
    return table(head, rows) + f"\n`{run['command']}`: {run['model']}, {run['precision']}; " + made_by(runs)


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
