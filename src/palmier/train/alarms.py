"""How a stage stops a run that went wrong: with the reason, and with what is kept."""

from __future__ import annotations

from palmier.train.loop import Diverged, Trainer


def stopped(trainer: Trainer, why: str, mend: str) -> Diverged:
    """The error to raise: why the run stopped, which step is the last good one, and what to try."""
    kept = f"{trainer.folder} is kept" if (trainer.run / "latest").is_file() else "nothing was saved yet"
    return Diverged(f"{trainer.stage} stopped in step {trainer.done + 1}: {why}; {kept}. {mend}")
