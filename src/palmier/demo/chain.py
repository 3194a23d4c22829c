"""The demo from end to end: its stages in order, their results as JSON, and the report."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from palmier.demo import comparison, learning, making, pipeline, report, serving
from palmier.demo.pipeline import Demo, Say, Stage
from palmier.model.checkpoint import load
from palmier.models.names import resolve_model
from palmier.scale import runtime
from palmier.workspace import read_json, write_json

STAGES = (
    Stage("text", "Writing text, requests and demonstrations", making.write_text_files),
    Stage("tokenizer", "Learning a vocabulary", making.train_tokenizer),
    Stage("pretrain", "Pre-training a PaLM on the text", making.pretrain_model),
    Stage("sft", "Learning to answer from demonstrations (SFT)", making.fine_tune),
    Stage("rankings", "Answering, and ranking by simulated volunteers", making.rank_answers),
    Stage("rewards", "Learning the volunteers' taste (reward models)", learning.train_rewards),
    Stage("dpo", "Improving by DPO", learning.train_dpo),
    Stage("ppo", "Improving by PPO", learning.train_ppo),
    Stage("compare", "Comparing every version on unseen requests", comparison.compare),
    Stage("promote", "Promoting the best version", serving.promote_best),
    Stage("serve", "Asking the real server", serving.ask_server),
)


def run(demo: Demo, command: str, say: Say) -> Path:
    """Do what is left to do; returns the report's path. Raises Refusal."""
    pipeline.run(demo, STAGES, say)
    found = results(demo, command)
    write_json(demo.results, found)
    return report.write(demo, found)


def results(demo: Demo, command: str) -> dict[str, Any]:
    """Everything that was measured, and what is needed to measure it again."""
    seconds = pipeline.seconds(demo, STAGES)
    decoder = load(resolve_model(demo.runs / "sft"))
    return {
        "command": command,
        "commit": read_json(demo.runs / "pretrain" / "run.json")["commit"],
        "seed": demo.seed,
        "size": demo.size.name,
        "settings": read_json(demo.out / "demo.json"),
        "text": None if demo.text is None else str(demo.text),
        "machine": machine(),
        "seconds": seconds,
        "total_seconds": round(sum(seconds.values()), 1),
        "stages": [{"title": stage.title, "seconds": seconds[stage.name]} for stage in STAGES],
        "model": {
            "parameters": sum(weight.numel() for weight in decoder.parameters()),
            "tokens": demo.found("pretrain")["tokens"],
        },
        "requests": demo.found("text"),
        "volunteers": demo.found("rankings"),
        "ppo": demo.found("ppo"),
        "comparison": demo.found("compare"),
        "promoted": demo.found("promote"),
        "server": demo.found("serve"),
        "chat": {"command": serving.chat_command(demo), "page": serving.chat_page(demo)},
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": runtime.threads(),
        "dtype": str(runtime.default_dtype())[6:],
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def closing_words(demo: Demo) -> list[str]:
    """What a person reads at the end."""
    found = demo.found("compare")["against_sft"]["sampled"]
    lines = [f"{label} wins against SFT: {report.rate(found[label]['win_rate'])}" for label in found]
    lines += [f"Chat with base, SFT and the improved version: {serving.chat_command(demo)}"]
    return [*lines, f"and open {serving.chat_page(demo)}"]
