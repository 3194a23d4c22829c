"""Palmier's own engine, in the process, as training and the server run it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

from benchmarks.programs.timing import Timing
from benchmarks.workloads import Task
from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.records import Sampling
from palmier.scale.precision import load


class Program:
    """The folder's weights in ``precision`` (fp32, bf16 or int8)."""

    def __init__(self, folder: Path, precision: Literal["fp32", "bf16", "int8"]) -> None:
        self.engine = Engine(load(folder, precision), slots=64, context=2048)
        self.count = 0

    def run(self, task: Task, prompts: list[list[int]]) -> Timing:
        sampling = Sampling(temperature=1.0 if task.sampled else 0.0, max_tokens=task.tokens)
        self.count += 1
        begun = time.perf_counter()
        for index, prompt in enumerate(prompts):
            self.engine.add(Request(f"{self.count}-{index}", tuple(prompt), replace(sampling, seed=index)))
        first, made = None, 0
        while self.engine.busy:
            made += len(self.engine.step())
            if made and first is None:
                first = time.perf_counter() - begun
        seconds = time.perf_counter() - begun
        return Timing(seconds, first if len(prompts) == 1 else None, made)
