"""transformers: `generate` with its dynamic cache, a static batch padded to the left."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.programs.timing import Timing
from benchmarks.workloads import Task


class Clock(BaseStreamer):
    """Notes when the prompt and each new token were handed over."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class Program:
    """The folder's weights in ``precision`` (fp32 or bf16)."""

    def __init__(self, folder: Path, precision: str) -> None:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    @torch.inference_mode()
    def run(self, task: Task, prompts: list[list[int]]) -> Timing:
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        clock = Clock() if len(prompts) == 1 else None
        begun = time.perf_counter()
        found = self.model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=task.tokens,
            min_new_tokens=task.tokens,
            do_sample=task.sampled,
            temperature=1.0,
            top_k=0 if task.sampled else None,
            top_p=1.0,
            pad_token_id=0,
            streamer=clock,
            return_dict_in_generate=task.sampled,
            output_logits=task.sampled,
        )
        if task.sampled:
            # What TRL does with them: the log-prob of each token that was drawn.
            new = found.sequences[:, longest:]
            logprobs = [torch.log_softmax(step.float(), -1) for step in found.logits]
            torch.stack([step.gather(1, new[:, i : i + 1])[:, 0] for i, step in enumerate(logprobs)], 1)
        ended = time.perf_counter()
        # The streamer hears the prompt first.
        first = clock.times[1] - begun if clock else None
        return Timing(seconds=ended - begun, first=first, tokens=task.tokens * len(prompts))
