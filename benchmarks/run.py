"""`make bench`: generation by Palmier, transformers and llama.cpp, interleaved in one run.

    python -m benchmarks.run --out results/bench/cpu.json [--llama-server PATH] [--rounds 5]

Each program lies loaded in a process of its own and is stopped while another is measured. A round
asks every program for every task once, in turn; the first round warms up and does not count. The
result holds every figure of every round, so that a ratio can be made round by round.
Run it alone: a second busy program makes every figure meaningless.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.models import Model, random_models, smollm2
from benchmarks.serving import environment, first_answer
from benchmarks.workloads import GROWTH, TASKS, Task
from palmier.demo.chain import machine
from palmier.train.checkpoint import commit
from palmier.workspace import write_json

THREADS = 2


class Worker:
    """A program in its process: asleep but for its own turn."""

    def __init__(self, label: str, name: str, precision: str, model: Path, tokenizer: Path, binary: str = "") -> None:
        self.label = label
        command = [sys.executable, "-m", "benchmarks.worker", name, precision, str(model), str(tokenizer)]
        settings = {"OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [*command, str(THREADS), binary],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment() | settings,
            text=True,
            start_new_session=True,
        )
        self.loaded = self._answer()["loaded"]
        self._signal(signal.SIGSTOP)

    def run(self, task: Task, round_: int) -> dict[str, float]:
        """One task: its figure and the highest memory meanwhile."""
        self._signal(signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"task": task.name, "round": round_}) + "\n")
        self.process.stdin.flush()
        found: dict[str, float] = self._answer()
        self._signal(signal.SIGSTOP)
        return found

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.label} ended by itself (run its worker by hand to see why)")
        return json.loads(line)


@contextmanager
def together(workers: list[Worker]) -> Iterator[list[Worker]]:
    try:
        yield workers
    finally:
        for worker in workers:
            worker.close()


def measure(workers: list[Worker], tasks: tuple[Task, ...], rounds: int) -> dict[str, Any]:
    """Every figure: task → program → one number a round; and the peak of memory."""
    figures: dict[str, dict[str, list[float]]] = {task.name: {worker.label: [] for worker in workers} for task in tasks}
    peaks = {worker.label: 0.0 for worker in workers}
    for round_ in range(rounds + 1):
        for task in tasks:
            for worker in workers:
                found = worker.run(task, round_)
                peaks[worker.label] = max(peaks[worker.label], found["peak"])
                if round_:
                    figures[task.name][worker.label].append(found["figure"])
        print(f"round {round_} of {rounds}{' (warm-up)' if not round_ else ''}", file=sys.stderr, flush=True)
    return {
        "figures": figures,
        "loaded_bytes": {worker.label: worker.loaded for worker in workers},
        "peak_bytes": peaks,
    }


def against_peers(model: Model, binary: str, rounds: int) -> dict[str, Any]:
    """SmolLM2 by every program."""
    tokenizer = model.folder / "tokenizer.json"
    palmier = [Worker(f"Palmier {p}", "palmier", p, model.folder, tokenizer) for p in ("int8", "bf16")]
    hugging = [Worker("transformers bf16", "transformers", "bf16", model.folder, tokenizer)]
    llama = [
        Worker(f"llama.cpp {kind}", "llamacpp", kind, path, tokenizer, binary) for kind, path in model.ggufs.items()
    ]
    with together([*palmier, *llama, *hugging]) as workers:
        return measure(workers, TASKS, rounds)


def growth(model: Model, rounds: int) -> dict[str, Any]:
    """How Palmier's tokens a second change with batch, context and the model's size."""
    tokenizer = model.folder / "tokenizer.json"
    with together([Worker("int8", "palmier", "int8", model.folder, tokenizer)]) as workers:
        found = measure(workers, GROWTH, rounds)["figures"]
    sizes = {}
    for other in random_models(model):
        with together([Worker("int8", "palmier", "int8", other.folder, tokenizer)]) as workers:
            figures = measure(workers, (GROWTH[0],), rounds)["figures"][GROWTH[0].name]["int8"]
        sizes[other.name] = {"parameters": other.parameters, "figures": figures}
    return {"loads": found, "sizes": sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama-server", default="", help="llama.cpp's server, built for this processor")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder of converted models")
    wish = parser.parse_args()
    begun = time.time()
    model = smollm2(wish.work)
    result: dict[str, Any] = {
        "command": "python -m benchmarks.run" + (" --llama-server PATH" if wish.llama_server else ""),
        "commit": commit(),
        "machine": machine(),
        "threads": THREADS,
        "rounds": wish.rounds,
        "model": model.name,
        "tasks": [asdict(task) for task in (*TASKS, *GROWTH)],
        "llama_cpp": "own build" if wish.llama_server else "xllamacpp package",
        "serve": first_answer(wish.rounds),
    }
    result["peers"] = against_peers(model, wish.llama_server, wish.rounds)
    result["growth"] = growth(model, wish.rounds)
    result["seconds"] = round(time.time() - begun)
    wish.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(wish.out, result)
    print(f"{wish.out} is written; `python scripts/figures.py` puts it into the docs")


if __name__ == "__main__":
    main()
