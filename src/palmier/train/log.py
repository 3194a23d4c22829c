"""What a run says: metrics.jsonl for programs, one moving line for people."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from palmier.errors import Refusal
from palmier.workspace import write_text

PLAIN_SECONDS = 30.0
"""Seconds between two lines where the output is no terminal."""

_console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One plain line to the person who watches."""
    _console.print(text, markup=False, soft_wrap=True)


class Metrics:
    """``metrics.jsonl``: one line a step; what depends on the clock is under the key ``timing``."""

    def __init__(self, path: Path, step: int) -> None:
        """Keep the lines up to ``step`` (0 = none) and append after them."""
        kept = []
        if step and path.is_file():
            for line in path.read_text("utf-8").splitlines():
                # A line that a dying process tore has no end; it is of a later step in any case.
                if not line.endswith("}") or json.loads(line)["step"] > step:
                    break
                kept.append(line + "\n")
        write_text(path, "".join(kept))
        self._path = path
        # No buffer: a line that could not be written must not be tried again when the file is closed.
        self._file = path.open("ab", buffering=0)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line; raises Refusal where the disk is full."""
        line = (json.dumps(record) + "\n").encode()
        with self._named():
            while line:  # a disk that fills up takes a part first
                line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Return when all lines are on the disk."""
        with self._named():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Refusal(
                f"could not write {self._path}: {error.strerror}; the last saved step is untouched"
            ) from error


class ProgressLine:
    """Step, loss, tokens/s and time left: a moving bar on a terminal, else a line now and then."""

    def __init__(self, stage: str, step: int, steps: int) -> None:
        self._stage, self._first, self._steps = stage, step, steps
        self._started = self._spoken = time.monotonic()
        self._bar: Progress | None = None
        if _console.is_terminal:
            columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), _Facts()]
            self._bar = Progress(*columns, console=_console, transient=True)
            self._task = self._bar.add_task(stage, total=steps, completed=step, facts="")
            self._bar.start()

    def show(self, step: int, metrics: Mapping[str, float], tokens_per_second: float) -> None:
        now = time.monotonic()
        left = (now - self._started) / max(1, step - self._first) * (self._steps - step)
        loss = f"loss {metrics['loss']:.4f} · " if "loss" in metrics else ""
        facts = f"step {step}/{self._steps} · {loss}{tokens_per_second:,.0f} tokens/s · {_duration(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, facts=facts)
        elif now - self._spoken >= PLAIN_SECONDS:
            self._spoken = now
            say(f"{self._stage}: {facts}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class _Facts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields["facts"]))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
