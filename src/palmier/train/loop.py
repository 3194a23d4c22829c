"""The loop that every stage shares: accumulate, clip, move, log, save, stop, resume.

The stage owns the ``for``::

    trainer = Trainer(out, model, optimization, steps=…, stage="sft", settings=…, save=…)
    for step in trainer.remaining():
        trainer.step(loss, batches.batch(step), norm)

``step`` is ``update`` (one optimiser step) and ``advance`` (log, count, save). A stage whose
unit is more than one optimiser step (PPO's iteration) calls the two by itself; what is saved
is always a whole unit, and a resumed run makes the unit in which it died again.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor, nn

from palmier.errors import Refusal
from palmier.scale import runtime
from palmier.scale.compiled import CompiledBlocks
from palmier.train import checkpoint
from palmier.train.log import Metrics, ProgressLine, say
from palmier.train.optimizer import MasterAdamW, Optimization
from palmier.workspace import latest_step, write_json

Rows = Mapping[str, Tensor]
Loss = Callable[[Rows], tuple[Tensor, Mapping[str, Tensor | float]]]
"""Rows of a batch → (summed loss, {metric: sum}); both are divided by the batch's ``norm``."""

MAIN = "model"
"""The name of the module that the run is about, among those that it trains."""

COMPILE_SECONDS = 35.0
"""What torch.compile takes to begin, the first time on a machine (7 s once its cache has the block), and …"""
COMPILE_GAIN = 0.06
"""… the share of a step's time that it then saves: 11.1k → 11.8k tokens/s a core for 3.4 M parameters in bfloat16,
4 % for 19 M. The blocks' own code leaves little to fuse."""
FLOPS = 2e11
"""Floating-point operations a second that one core reaches meanwhile; only this decision rests on it."""


class Stopped(KeyboardInterrupt):
    """A person asked to stop; everything up to now is saved."""


class Diverged(Refusal):
    """The run left the finite numbers (or a stage's bound); the last good step is kept."""


class Trainer:
    """One run of one stage in one folder."""

    def __init__(
        self,
        run: Path,
        module: nn.Module,
        optimization: Optimization,
        *,
        steps: int,
        stage: str,
        settings: Any,
        save: Callable[[Path], None],
        extra: Mapping[str, tuple[nn.Module, float]] | None = None,
        inputs: Mapping[str, Path] | None = None,
        tokens_per_step: int = 0,
    ) -> None:
        """Begin the run, or go on with what ``run`` holds; restores weights and optimizer bit for bit.

        ``module`` (and every ``extra`` name: (module, peak learning rate)) is given in float32 and
        becomes the run's number format. ``settings`` is the stage's dataclass, kept in run.json;
        ``save(folder)`` writes the model's folder; ``inputs`` are the files that must not change
        under the run; ``tokens_per_step`` only helps to decide whether compiling pays.
        Raises Refusal where the folder belongs to another run or to a living process.
        """
        optimization.check()
        if steps < 1:
            raise Refusal(f"{stage}: {steps} steps are no run: there is too little data, or steps is not positive")
        runtime.deterministic()
        runtime.keep_memory()
        runtime.keep_programs(runtime.MANY)
        self.run, self.stage, self.steps, self.how = run, stage, steps, optimization
        self.dtype = runtime.choose_dtype(optimization.precision)
        self._save_model = save
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(checkpoint.locked(run))
        self.optimizer = MasterAdamW({MAIN: (module, optimization.lr), **(extra or {})}, optimization, self.dtype)
        self.done = 0  # whole steps behind us
        compiled = self._open(checkpoint.settings_json(settings), inputs or {}, tokens_per_step)
        self._compiled = [CompiledBlocks(part.module) for part in self.optimizer.parts.values()] if compiled else []
        self._metrics = Metrics(run / "metrics.jsonl", self.done)
        self._line: ProgressLine | None = None
        self._stop = False
        self._moved = False  # whether the weights are in the middle of a step of the run
        self._tokens = 0
        self._clock = time.monotonic()

    def remaining(self) -> Iterator[int]:
        """The steps that are still to be done, from 0. Ctrl-C and SIGTERM save and raise Stopped."""
        self._line = ProgressLine(self.stage, self.done, self.steps)
        self._clock = time.monotonic()
        with self._lock, self._signals():
            try:
                while self.done < self.steps:
                    before = self.done
                    yield before
                    if self.done == before:
                        raise RuntimeError(f"the stage ended step {before} without advance()")
            finally:
                self._line.close()
                self._metrics.close()

    def step(self, loss: Loss, batch: Rows | Sequence[Rows], norm: float) -> dict[str, float]:
        """One optimiser step that is one step of the run: ``update`` and ``advance``."""
        metrics = self.update(loss, batch, norm)
        self.advance(metrics)
        return metrics

    def update(self, loss: Loss, batch: Rows | Sequence[Rows], norm: float) -> dict[str, float]:
        """One optimiser step: gradients of sum(loss) / norm over the batch's micro-batches.

        ``batch`` is split by rows (the first axis of each of its tensors) into micro-batches of
        ``micro_batch`` rows, or is a sequence of micro-batches. As ``loss`` gives sums and ``norm``
        belongs to the whole batch, the split does not show in the result. Modules that the loss does not reach
        are not moved. Returns loss, gradient norm before clipping, learning rate and the loss'
        own metrics. Raises Diverged, before anything has moved, where one of them is not finite.
        """
        totals: dict[str, float] = {"loss": 0.0}
        with contextlib.ExitStack() as stack:
            for blocks in self._compiled:
                stack.enter_context(blocks.active())
            for rows in self._micro_batches(batch):
                summed, metrics = loss(rows)
                (summed / norm).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                self.optimizer.collect()
                totals["loss"] += float(summed.detach()) / norm
                for name, value in metrics.items():
                    totals[name] = totals.get(name, 0.0) + float(value) / norm
                if "tokens" in rows:
                    self._tokens += rows["tokens"].numel()
        norms = self.optimizer.norms()
        for name, value in norms.items():
            totals["gradient_norm" if name == MAIN else f"gradient_norm_{name}"] = value
        self._check_finite(totals)
        rate = self.optimizer.step(self.done, self.steps, norms)
        self._moved = True
        totals["lr"] = self.how.lr * rate
        return totals

    def advance(self, metrics: Mapping[str, float]) -> None:
        """End a step of the run: log ``metrics``, count it, save where it is time to."""
        self._check_finite(metrics)
        self.done += 1
        self._moved = False
        now = time.monotonic()
        seconds, self._clock = now - self._clock, now
        rate = self._tokens / seconds if seconds > 0 else 0.0
        self._tokens = 0
        timing = {"seconds": round(seconds, 4), "tokens_per_second": round(rate, 1)}
        self._metrics.write({"step": self.done, **metrics, "timing": timing})
        if self._line is not None:
            self._line.show(self.done, metrics, rate)
        due = self.how.save_every > 0 and self.done % self.how.save_every == 0
        if due or self.done == self.steps or self._stop:
            self.save()
        if self._stop and self.done < self.steps:
            say(
                f"Stopped after step {self.done} of {self.steps}, which is saved. Give the same command again to go on."
            )
            raise Stopped

    def save(self) -> Path:
        """Write the current step whole; raises Refusal, the step before untouched, where the disk is full."""
        self._metrics.sync()
        with self.optimizer.masters_in_place():
            state = self.optimizer.state()
            return checkpoint.save_step(self.run, self.done, self._save_model, state, self.done == self.steps)

    @property
    def folder(self) -> Path:
        """The model's folder of the last saved step."""
        return latest_step(self.run)

    def _open(self, settings: dict[str, Any], inputs: Mapping[str, Path], tokens_per_step: int) -> bool:
        """Begin or resume the folder; returns whether to compile."""
        digests = {name: checkpoint.fingerprint(path) for name, path in inputs.items()}
        if not (self.run / "run.json").is_file():
            compiled, why = self._compile_pays(tokens_per_step)
            say(f"{self.stage}: {self.steps} steps, {str(self.dtype)[6:]}, {why}")
            facts = {"compiled": compiled, "dtype": str(self.dtype)[6:]}
            write_json(self.run / "run.json", checkpoint.describe(self.stage, settings, digests, **facts))
            return compiled
        before = checkpoint.compare(self.run, self.stage, settings, digests)
        for name, now in (("threads", runtime.threads()), ("dtype", str(self.dtype)[6:])):
            if before[name] != now:
                say(
                    f"Warning: {self.run} was begun with {before[name]} {name}, now it is {now}: "
                    "the run goes on, but not bit for bit as it would have."
                )
        if (self.run / "latest").is_file():
            self.done, tensors = checkpoint.load_step(latest_step(self.run))
            self.optimizer.load_state(tensors)
            say(f"{self.stage}: going on from step {self.done} of {self.steps}")
        if before["compiled"] and not runtime.has_compiler():
            say(f"Warning: {self.run} was begun compiled, and there is no C++ compiler now: not bit for bit the same.")
            return False
        return bool(before["compiled"])

    def _compile_pays(self, tokens_per_step: int) -> tuple[bool, str]:
        if self.how.compile == "no":
            return False, "not compiled"
        if not runtime.has_compiler():
            return False, "not compiled: there is no C++ compiler here"
        if self.how.compile == "yes":
            return True, "compiled as asked, which takes half a minute to begin"
        parameters = sum(w.numel() for part in self.optimizer.parts.values() for w in part.weights.values())
        saved = COMPILE_GAIN * 6 * parameters * tokens_per_step * self.steps / (FLOPS * runtime.threads())
        if saved > 2 * COMPILE_SECONDS:
            return True, f"compiled, which saves about {saved / 60:.0f} minutes"
        return False, "not compiled: the run is too short for it to pay"

    def _micro_batches(self, batch: Rows | Sequence[Rows]) -> Iterator[Rows]:
        if not isinstance(batch, Mapping):
            yield from batch
            return
        rows = {len(value) for value in batch.values()}
        if len(rows) != 1:
            raise ValueError(f"the tensors of a batch differ in rows: {sorted(rows)}")
        count = rows.pop()
        size = self.how.micro_batch or count
        for start in range(0, count, size):
            yield {name: value[start : start + size] for name, value in batch.items()}

    def _check_finite(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if not math.isfinite(value):
                self.optimizer.drop_gradients()
                if self.done and not self._moved and not (self.run / f"step-{self.done}").exists():
                    self.save()
                kept = f"{self.folder} is kept" if (self.run / "latest").is_file() else "nothing was saved yet"
                raise Diverged(
                    f"{self.stage}: {name} is {value} in step {self.done + 1}; {kept}. "
                    "Try a lower lr or a longer warmup."
                )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True
            say(f"Stopping: step {self.done + 1} is finished and saved first. Again to stop at once.")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
