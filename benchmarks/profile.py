"""Where a decoding step's time goes: `python -m benchmarks.profile --out results/bench/profile.json`.

SmolLM2 in int8 and bf16, at several batches: milliseconds a step by operator, out of torch's profiler, beside
the step's own time without it. Run it alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from benchmarks.models import smollm2
from benchmarks.workloads import DECODE, prompts, text_ids
from palmier.demo.chain import machine
from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.records import Sampling
from palmier.scale.precision import load
from palmier.train.checkpoint import commit
from palmier.workspace import write_json

STEPS = 30
LOADS: tuple[tuple[Literal["int8", "bf16"], int], ...] = (("int8", 1), ("bf16", 1), ("bf16", 16), ("bf16", 64))
PARTS = {
    "products with weights": ("_weight_int8pack_mm", "_linear_pointwise", "aten::mm", "aten::addmm"),
    "attention": ("scaled_dot_product", "aten::bmm", "aten::_softmax"),
    "keys and values, written and gathered": ("index_copy_", "index_select"),
    "norms": ("layer_norm", "rms_norm", "aten::pow", "aten::rsqrt"),
    "drawing and log-probs": ("aten::topk", "aten::exp", "aten::max", "aten::log", "scatter", "gather", "aten::sum"),
}
"""Parts of a step by the names of their operators; the first that fits counts."""


def profile(engine: Engine, asked: list[list[int]]) -> dict[str, Any]:
    """Milliseconds of one step: in all, and by part while the profiler looks on."""
    for index, prompt in enumerate(asked):
        engine.add(Request(str(index), tuple(prompt), Sampling(0.0, max_tokens=4 * STEPS)))
    for _ in range(STEPS):
        engine.step()
    took = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        engine.step()
        took.append(time.perf_counter() - begun)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        for _ in range(STEPS):
            engine.step()
    for index in range(len(asked)):
        engine.cancel(str(index))
    engine.step()
    parts = dict.fromkeys([*PARTS, "everything else"], 0.0)
    for row in seen.key_averages():
        part = next((part for part, names in PARTS.items() if any(name in row.key for name in names)), None)
        parts[part or "everything else"] += row.self_cpu_time_total / STEPS / 1000
    return {"step_ms": 1000 * median(took), "operators_ms": parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder of converted models")
    wish = parser.parse_args()
    model = smollm2(wish.work)
    ids = text_ids(model.folder / "tokenizer.json")
    (prompt,) = prompts(ids, DECODE, 0)
    loads = {}
    for precision, batch in LOADS:
        engine = Engine(load(model.folder, precision), slots=batch, context=512)
        asked = [ids[index : index + len(prompt)] for index in range(0, 7 * batch, 7)]
        loads[f"{precision}, batch {batch}"] = profile(engine, asked)
    result = {"command": "python -m benchmarks.profile", "commit": commit(), "machine": machine(), "profile": loads}
    wish.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(wish.out, result)
    print(f"{wish.out} is written; `python scripts/figures.py` puts it into the docs")


if __name__ == "__main__":
    main()
