"""What every program is asked to do, as token ids; nothing here knows a program.

The text is Palmier's own documentation, so that a benchmark needs no other file. Each round begins
at another place of it: no program may answer from what it cached a round before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Task:
    """``prompts`` prompts of ``prompt`` tokens (``uneven``: half to all of it), ``tokens`` new ones each."""

    name: str
    prompts: int
    prompt: int
    tokens: int
    uneven: bool = False
    sampled: bool = False
    """Drawn at temperature 1 and with the log-prob of each token, as a rollout is; else greedy."""


FIRST = tuple(Task(f"first token, prompt {size}", 1, size, 1) for size in (32, 512, 1500))
DECODE = Task("decode, batch 1", 1, 32, 128)
CONCURRENT = Task("16 concurrent requests", 16, 64, 128, uneven=True)
ROLLOUT = Task("rollouts, 64 prompts of 64 tokens", 64, 64, 64, uneven=True, sampled=True)
TASKS = (*FIRST, DECODE, CONCURRENT, ROLLOUT)

BATCHES = tuple(Task(f"batch {size}", size, 32, 64) for size in (1, 2, 4, 8, 16, 32))
CONTEXTS = tuple(Task(f"context {size}", 1, size, 64) for size in (32, 256, 512, 1024, 1900))
GROWTH = (*BATCHES, *CONTEXTS)

TASK_OF = {task.name: task for task in (*TASKS, *GROWTH)}


def text_ids(tokenizer: Path) -> list[int]:
    """The documentation's tokens, one after another."""
    text = "\n\n".join(path.read_text("utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
    encoded = Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False)
    return list(encoded.ids)


def prompts(ids: list[int], task: Task, round_: int) -> list[list[int]]:
    """The prompts of a round: pieces of the text, none of them the beginning of another."""
    found = []
    for index in range(task.prompts):
        size = task.prompt // 2 + (task.prompt // 2 * index) // max(1, task.prompts - 1) if task.uneven else task.prompt
        start = (round_ * 977 + index * 131 + len(task.name) * 17) % (len(ids) - size)
        found.append(ids[start : start + size])
    return found
