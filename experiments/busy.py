"""What does a decoding step take beside other busy programs, by how long OpenMP's threads spin before they sleep?

    python -m experiments.busy --out results/busy/cpu.json [--rounds 4] [--tokens 24] [--model FOLDER]

A process for each number of spins (GOMP_SPINCOUNT) decodes one sequence, in turns, while the others are stopped: on the
idle machine, then beside one and two processes that only count. Without ``--model`` it is SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import fmean, median
from typing import Any

from palmier.workspace import Workspace

from .recorded import arguments, keep, provenance

OWN = 300_000
"""libgomp's own number where no variable is set and no more threads than processors multiply."""

SPINS = (OWN, 10_000, 5_000, 2_000, 0)
BUSY = (0, 1, 2)


def decode(pipe: Connection, folder: Path) -> None:
    """A process's work: for each number that comes, the milliseconds between so many tokens."""
    from palmier.data.template import Template
    from palmier.generate.engine import Engine
    from palmier.generate.requests import Request
    from palmier.records import Conversation, Sampling
    from palmier.scale import precision

    decoder = precision.load(folder)
    engine = Engine(decoder, slots=1)
    prompt = tuple(Template.load(folder).prompt(Conversation.ask("Write a long story about a lighthouse.")))
    pipe.send(decoder.precision)
    while tokens := pipe.recv():
        engine.add(Request("a", prompt, Sampling(0.0, max_tokens=tokens + 1), frozenset()))
        times = []
        while engine.busy:
            if engine.step():
                times.append(time.perf_counter())
        pipe.send([1000 * (after - before) for before, after in itertools.pairwise(times)])


def count() -> None:
    """What a busy program does."""
    while True:
        pass


def start(target: Any, *arguments: Any) -> BaseProcess:
    made = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    made.start()
    return made


def end(process: BaseProcess) -> None:
    process.kill()
    process.join()


class Decoding:
    """A process with its own number of spins: asleep but for its turn."""

    def __init__(self, folder: Path, spins: int) -> None:
        self._pipe, other = multiprocessing.get_context("spawn").Pipe()
        os.environ["GOMP_SPINCOUNT"] = str(spins)  # it inherits it
        self._process = start(decode, other, folder)
        self.precision = self._pipe.recv()
        self._signal(signal.SIGSTOP)

    def run(self, tokens: int) -> list[float]:
        self._signal(signal.SIGCONT)
        self._pipe.send(tokens)
        found: list[float] = self._pipe.recv()
        self._signal(signal.SIGSTOP)
        return found

    def close(self) -> None:
        end(self._process)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def rounds_beside(programs: dict[int, Decoding], busy: int, rounds: int, tokens: int) -> dict[str, list[float]]:
    """Each program's mean milliseconds a token, round by round, beside ``busy`` others."""
    if busy:
        other = start(count)
        try:
            return rounds_beside(programs, busy - 1, rounds, tokens)
        finally:
            end(other)
    found: dict[str, list[float]] = {str(spins): [] for spins in programs}
    for number in range(rounds + 1):
        for spins, program in programs.items():
            gaps = program.run(tokens)
            if number:  # the first round warms up
                found[str(spins)].append(fmean(gaps))
    return found


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=24, help="of a round")
    given = parser.parse_args()
    from palmier.model.gguf import embedded_model

    folder = given.model or embedded_model(Workspace.default())
    result = provenance(f"python -m experiments.busy --rounds {given.rounds} --tokens {given.tokens}", given.model)
    result["model"] = given.model.name if given.model else "SmolLM2-135M-Instruct"
    os.environ.pop("OMP_WAIT_POLICY", None)
    programs: dict[int, Decoding] = {}
    try:
        for spins in SPINS:
            programs[spins] = Decoding(folder, spins)
        result["precision"] = programs[SPINS[0]].precision
        result["beside"] = {}
        for busy in BUSY:
            found = rounds_beside(programs, busy, given.rounds, given.tokens)
            result["beside"][str(busy)] = found
            print(busy, {spins: round(median(values), 1) for spins, values in found.items()}, flush=True)
    finally:
        for program in programs.values():
            program.close()
    keep(result, given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
