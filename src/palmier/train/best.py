"""The step that a judge liked best: ``out/best``, a whole model's folder with ``best.json``.

Which one it is does not depend on where a run was interrupted: a resumed run judges the same
weights again, and of equal scores the earliest step wins.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from palmier.data.template import Template
from palmier.feedback.reward import Reward
from palmier.generate.engine import Engine
from palmier.generate.rollout import rollout
from palmier.records import Conversation, Sampling
from palmier.workspace import read_json, write_json, write_whole

NOTE = "best.json"


def judged(
    judge: Reward, engine: Engine, template: Template, conversations: Sequence[Conversation], sampling: Sampling
) -> float:
    """The judge's mean score of one answer to each conversation; the draws are the same each time."""
    answers = [group[0] for group in rollout(engine, template, conversations, sampling, 1, "")]
    return sum(judge.score(conversations, answers)) / len(answers)


def consider(run: Path, step: int, score: float, write_model: Callable[[Path], None]) -> bool:
    """Keep the model of ``step`` where it is the best so far; says whether it is."""
    folder = run / "best"
    if folder.is_dir():
        kept = read_json(folder / NOTE)
        if (kept["score"], -kept["step"]) >= (score, -step):
            return bool(kept["step"] == step)
    with write_whole(folder) as target:
        write_model(target)
        write_json(target / NOTE, {"step": step, "score": score})
    return True


def copy_best(run: Path, target: Path) -> None:
    """Let ``target`` hold the files of the best model."""
    for path in sorted((run / "best").iterdir()):
        shutil.copyfile(path, target / path.name)
