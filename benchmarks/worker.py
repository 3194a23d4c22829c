"""One program in a process of its own: reads a task a line, runs it, writes its figures as JSON.

    python -m benchmarks.worker palmier bf16 FOLDER

The parent stops this process (SIGSTOP) while another one is measured: some of these programs spin
while they wait. A process of a program has the number of threads that the parent chose.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.memory import reset_peak, resident
from benchmarks.workloads import TASK_OF, prompts, text_ids


def serve(name: str, precision: str, model: Path, tokenizer: Path, threads: int, binary: str) -> None:
    """Load, then answer task after task until standard input ends."""
    base = 0
    if name != "llamacpp":
        import torch

        torch.set_num_threads(threads)
        base = resident()
    module: Any = importlib.import_module(f"benchmarks.programs.{name}")
    program: Any
    program = module.Program(model, threads, binary or None) if name == "llamacpp" else module.Program(model, precision)
    ids = text_ids(tokenizer)
    pid = program.memory_pid() if name == "llamacpp" and program.memory_pid() else "self"
    print(json.dumps({"ready": True, "loaded": resident(pid) - base}), flush=True)
    try:
        for line in sys.stdin:
            wish = json.loads(line)
            task = TASK_OF[wish["task"]]
            reset_peak(pid)
            timing = program.run(task, prompts(ids, task, wish["round"]))
            found = {"figure": timing.figure(task.tokens), "peak": resident(pid, "VmHWM") - base}
            print(json.dumps(found), flush=True)
    finally:
        if name == "llamacpp":
            program.close()


if __name__ == "__main__":
    _, name, precision, model, tokenizer, threads, binary = sys.argv
    serve(name, precision, Path(model), Path(tokenizer), int(threads), binary)
