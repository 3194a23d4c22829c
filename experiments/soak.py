"""Many minutes of mixed load on one model: does anything grow, stick or get lost?

    python -m experiments.soak --minutes 20 --out results/soak/NAME.json [--model FOLDER] [--users N]

Users ask the engine's thread as the server does: short and long prompts, conversations that go on, several answers
at once, stop strings, requests given up in their prompt or in their answer, and slow readers. In the first third of
the time there are twice as many users, and the tokenizer's own cache of words is full from the beginning: whatever is
kept up to a bound has reached it when the measured two thirds begin. Reported are the requests done, the time between two tokens of a stream (p50, p99), the
slopes, with their 95 % intervals, of the process's memory and of what of it is in use by the C library's books, and
the pages that are still held when everybody has gone. Without ``--model`` it is SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import asyncio
import json
import random
import string
import tempfile
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from benchmarks.memory import in_use, resident

from palmier.data.tokenizer import Tokenizer
from palmier.errors import Refusal
from palmier.generate.requests import QueueFull
from palmier.model.gguf import embedded_model
from palmier.records import Conversation, Message, Sampling
from palmier.serve.chat import Turn, begin
from palmier.serve.live import Busy, Live
from palmier.versions import Versions
from palmier.workspace import Workspace

from .recorded import arguments, keep, provenance

WORDS = ("the", "heater", "broke", "on", "Monday", "and", "my", "landlord", "wants", "a", "letter", "about", "rain")
PATIENCE = 120.0
"""Seconds without a piece after which a request counts as stuck."""


@dataclass
class Result:
    """What a soak saw. Times in seconds, memory in bytes (a minute, for the slope)."""

    minutes: float = 0.0
    users: int = 0
    done: int = 0
    given_up: int = 0
    refused: int = 0
    stuck: int = 0
    tokens: int = 0
    between_p50: float = 0.0
    between_p99: float = 0.0
    memory_first: int = 0
    memory_last: int = 0
    memory_twentieths: tuple[int, ...] = ()
    """The mean over each twentieth of the time."""
    in_use_twentieths: tuple[int, ...] = ()
    memory_slope: float = 0.0
    memory_slope_interval: tuple[float, float] = (0.0, 0.0)
    in_use_slope: float = 0.0
    in_use_slope_interval: tuple[float, float] = (0.0, 0.0)
    pages_left: int = 0
    pages: int = 0
    requests_left: int = 0


class Notes:
    """Rows of numbers in memory that is there from the beginning: whoever watches memory must not take some."""

    def __init__(self, rows: int, columns: int) -> None:
        self._rows = np.full((rows, columns), np.nan)
        self._count = 0

    def add(self, *row: float) -> None:
        self._rows[self._count] = row
        self._count += 1

    @property
    def rows(self) -> np.ndarray:
        """float64[noted, columns]."""
        return self._rows[: self._count]


@dataclass
class Watch:
    """What is noted while it runs: seconds between tokens; minute, bytes resident, bytes in use."""

    result: Result
    measured_from: float = 0.0
    gaps: Notes = field(default_factory=lambda: Notes(1_000_000, 1))
    memory: Notes = field(default_factory=lambda: Notes(100_000, 3))


def slope(minutes: np.ndarray, memory: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Bytes a minute by least squares, and its 95 % interval; the first third, while everything warms up, is left out.

    Neighbouring measurements depend on one another, so the points are averaged in ten blocks first.
    """
    kept = np.stack([minutes, memory], axis=1)[len(memory) // 3 :]
    blocks = [block.mean(axis=0) for block in np.array_split(kept, 10) if len(block)]
    if len(blocks) < 4:
        return 0.0, (-np.inf, np.inf)
    minutes, memory = np.array(blocks).T
    minutes = minutes - minutes.mean()
    by = float((minutes * memory).sum() / (minutes**2).sum())
    rest = memory - memory.mean() - by * minutes
    deviation = float(np.sqrt((rest**2).sum() / (len(memory) - 2) / (minutes**2).sum()))
    quantile = 2.306  # Student's t, 97.5 %, 8 degrees of freedom
    return by, (by - quantile * deviation, by + quantile * deviation)


async def read(turn: Turn, watch: Watch, chance: random.Random) -> str:
    """Read a turn as some user would; returns the first answer's text."""
    habit = chance.random()
    leaves_after = chance.randint(0, 12) if habit < 0.25 else None
    pause = 0.2 if 0.25 <= habit < 0.4 else 0.0
    heard, last = 0, 0.0
    async with aclosing(turn.pieces()) as pieces:
        while True:
            try:
                piece = await asyncio.wait_for(anext(pieces), PATIENCE)
            except StopAsyncIteration:
                break
            now = time.monotonic()
            if heard and not pause and turn.samples == 1 and last >= watch.measured_from:
                watch.gaps.add(now - last)
            last, heard = now, heard + 1
            watch.result.tokens += piece.told is not None
            if leaves_after is not None and heard > leaves_after:
                watch.result.given_up += 1
                return ""
            if pause:
                await asyncio.sleep(pause)
    watch.result.done += 1
    return turn.answers()[0].text


async def user(live: Live, watch: Watch, number: int, until: float) -> None:
    """Ask again and again until the time is over."""
    chance = random.Random(number)
    talk: tuple[Message, ...] = ()
    while time.monotonic() < until:
        if len(talk) > 4 or chance.random() < 0.5:
            talk = ()
        size = chance.choice((3, 8, 20, 60, 150))
        talk = (*talk, Message("user", " ".join(chance.choices(WORDS, k=size))))
        sampling = Sampling(
            chance.choice((0.0, 0.7, 1.0)),
            max_tokens=chance.choice((1, 8, 30, 80)),
            seed=chance.randrange(1000),
            top_p=chance.choice((1.0, 0.9)),
            repetition_penalty=chance.choice((1.0, 1.2)),
        )
        stops = chance.choice(((), (), (".",), ("the ", "\n\n")))
        try:
            if chance.random() < 0.05:  # gone before the engine has taken it
                asking = asyncio.create_task(begin(live, Conversation(talk), sampling))
                await asyncio.sleep(0)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                watch.result.given_up += 1
                continue
            n = chance.choice((1, 1, 1, 4))
            turn = await begin(live, Conversation(talk), sampling, n=n, stops=stops)
            said = await read(turn, watch, chance)
        except (QueueFull, Busy):
            watch.result.refused += 1
            await asyncio.sleep(0.5)
            continue
        except Refusal:  # a conversation that fills the context
            watch.result.refused += 1
            talk = ()
            continue
        except TimeoutError:
            watch.result.stuck += 1
            continue
        talk = (*talk, Message("assistant", said)) if said else ()


async def measure(watch: Watch, began: float, until: float) -> None:
    while time.monotonic() < until:
        watch.memory.add((time.monotonic() - began) / 60, resident(), in_use())
        await asyncio.sleep(0.25)


async def load(live: Live, watch: Watch, users: int, seconds: float) -> None:
    began = time.monotonic()
    until = began + seconds
    watch.measured_from = began + seconds / 3
    everybody = [user(live, watch, number, until) for number in range(users)]
    everybody += [user(live, watch, number, watch.measured_from) for number in range(users, 2 * users)]
    await asyncio.gather(measure(watch, began, until), *everybody)
    for _ in range(100):
        if not live.state.under_way:
            break
        await asyncio.sleep(0.1)


def fill(tokenizer: Tokenizer) -> None:
    """Let a tokenizer meet more words than it remembers (the library keeps 10,000, which takes 4 MiB)."""
    chance = random.Random(0)
    for _ in range(12_000):
        tokenizer.encode(" " + "".join(chance.choices(string.ascii_lowercase, k=8)))


def soak(workspace: Workspace, minutes: float, users: int) -> Result:
    """Put a home's current version under load."""
    result = Result(minutes=minutes, users=users)
    watch = Watch(result)
    live = Live(Versions(workspace))
    fill(live.answering.template.tokenizer)
    try:
        asyncio.run(load(live, watch, users, 60 * minutes))
        result.requests_left = live.state.under_way
    finally:
        live.close()
    result.pages_left, result.pages = live.answering.engine.pages
    if len(watch.gaps.rows):
        result.between_p50, result.between_p99 = (float(np.quantile(watch.gaps.rows, q)) for q in (0.5, 0.99))
    minute, memory, used = watch.memory.rows.T
    result.memory_first, result.memory_last = int(memory[0]), int(memory[-1])
    result.memory_twentieths = tuple(int(part.mean()) for part in np.array_split(memory, 20) if len(part))
    result.in_use_twentieths = tuple(int(part.mean()) for part in np.array_split(used, 20) if len(part))
    result.memory_slope, result.memory_slope_interval = slope(minute, memory)
    result.in_use_slope, result.in_use_slope_interval = slope(minute, used)
    return result


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--users", type=int, default=24)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        versions = Versions(workspace)
        versions.add(given.model or embedded_model(workspace), label="soak")
        versions.promote("0001")
        found = soak(workspace, given.minutes, given.users)
    command = f"python -m experiments.soak --minutes {given.minutes:g} --users {given.users}"
    result = provenance(command, given.model) | asdict(found)
    print(json.dumps(result, indent=2))
    keep(result, given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
