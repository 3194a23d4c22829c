"""llama.cpp's server over loopback: a binary of one's own build, or the xllamacpp package's.

`llama-server` is taken where its path is given (the package is built for AVX2 alone, so on a
processor with more, one's own build is the fair rival).
"""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks.programs.timing import Timing
from benchmarks.serving import free_port
from benchmarks.workloads import Task

SLOTS, CONTEXT = 16, 2048


class Program:
    """A GGUF behind the server's /completion, ``threads`` threads, ``SLOTS`` sequences at once."""

    def __init__(self, gguf: Path, threads: int, binary: str | None) -> None:
        port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        if binary:
            command = [binary, "-m", gguf, "--port", port, "-t", threads, "-tb", threads]
            command += ["-np", SLOTS, "-c", SLOTS * CONTEXT, "--no-webui", "-kvu"]
            self.process = subprocess.Popen(
                [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            url = f"http://127.0.0.1:{port}"
        else:
            import xllamacpp

            wish = xllamacpp.CommonParams()
            wish.model.path, wish.port, wish.hostname = str(gguf), port, "127.0.0.1"
            wish.n_parallel, wish.n_ctx = SLOTS, SLOTS * CONTEXT
            wish.cpuparams.n_threads = wish.cpuparams_batch.n_threads = threads
            self.server = xllamacpp.Server(wish)
            url = self.server.listening_address
        self.client = httpx.Client(base_url=url, timeout=600)
        self.pool = ThreadPoolExecutor(64)
        self._wait()

    def _wait(self) -> None:
        for _ in range(600):
            try:
                if self.client.get("/health").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise SystemExit("llama.cpp's server does not answer")

    def run(self, task: Task, prompts: list[list[int]]) -> Timing:
        begun = time.perf_counter()
        answers = list(self.pool.map(lambda prompt: self._ask(task, prompt), prompts))
        seconds = time.perf_counter() - begun
        made = sum(answer["timings"]["predicted_n"] for answer in answers)
        if made != task.tokens * len(prompts):
            raise SystemExit(f"llama.cpp gave {made} tokens for {task.name}")
        first = None
        if len(prompts) == 1 and task.tokens > 1:
            # Its own clock, without HTTP: the time of the tokens after the first.
            first = seconds - answers[0]["timings"]["predicted_ms"] / 1000 * (made - 1) / made
        return Timing(seconds, first, made)

    def _ask(self, task: Task, prompt: list[int]) -> dict[str, Any]:
        wish: dict[str, Any] = {"prompt": prompt, "n_predict": task.tokens, "ignore_eos": True, "cache_prompt": False}
        wish |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} if task.sampled else {"temperature": 0.0}
        if task.sampled:
            wish |= {"n_probs": 1, "samplers": ["temperature"]}
        answer = self.client.post("/completion", content=json.dumps(wish))
        answer.raise_for_status()
        value: dict[str, Any] = answer.json()
        return value

    def memory_pid(self) -> int | None:
        return self.process.pid if self.process else None

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
