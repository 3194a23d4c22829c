"""The reward model: rankings in, a model that scores answers as the people who ranked would out.

In:  ``model`` (a folder, run, version or name: the SFT model) and ``data`` (JSONL of rankings).
Out: ``out/step-N``, a Hugging Face sequence-classification folder with the tokenizer, and in it ``reward.json``: the
     mean and the deviation of its scores on the answers it learned from; ``metrics.jsonl``.

Objective (Ouyang et al. 2022, InstructGPT, equation 1), for each prompt's K answers, ties left out:
    −1/pairs · Σ log σ(r(x, better) − r(x, worse))
All pairs of a prompt are one batch element: one forward an answer, and no answer is seen more often than another.
The score is read at the answer's last token. Departures: two epochs by default, since a laptop has hundreds of
rankings and not tens of thousands; the shift that gives the mean score 0 stands in ``reward.json`` (the published
layout has no bias), and is taken from the ranked answers, since there need not be demonstrations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from palmier.data.pairs import RankedGroups
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.feedback.reward import FACTS as FACTS
from palmier.model import checkpoint as weights
from palmier.model.heads import RewardModel
from palmier.models.names import resolve_model
from palmier.train import checkpoint, losses
from palmier.train.advantages import ScoreScale
from palmier.train.answers import (
    answer_rows,
    micro_batches,
    pair_accuracy,
    ranked_groups,
    real_groups,
    row_length,
    weight_of,
)
from palmier.train.loop import Trainer
from palmier.train.optimizer import Optimization
from palmier.workspace import write_json

SCALE_GROUPS = 256
"""How many groups of answers the mean and the deviation are taken from: their error is then below 5 %."""


@dataclass(frozen=True)
class Settings:
    """How to learn people's taste from their rankings."""

    out: Path  # the run's folder; the same command goes on with it
    model: str  # what to start from: a name, folder, run, version, .gguf or repository
    data: Path  # JSONL, a line a ranking, as `palmier feedback export` writes them
    validation: float = 0.1  # share of the prompts whose rankings are held out and only predicted
    length: int | None = None  # tokens of prompt and answer; longer answers are left out; the model's own if not given
    batch: int = 8  # prompts of a step, each with all its answers
    micro_batch: int = 0  # prompts computed at once, 0 = all: less memory, the same result
    epochs: int = 2  # times that each ranking is seen; more than two soon learns the noise by heart
    lr: float = 1e-4  # peak learning rate; about 1e-3 for a few million parameters, 2e-5 for a hundred million
    embedding_lr: float = 1.0  # factor on lr for the embeddings
    warmup: float = 0.05  # share of the steps over which the learning rate rises; then it falls as a cosine to 0
    weight_decay: float = 0.0  # pull of kernels to zero, times the learning rate
    clip: float = 1.0  # largest norm of a step's gradient
    save_every: int = 100  # steps between two saves, 0 = only at the end
    seed: int = 0  # of the held-out choice, the order and the fresh head
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the computation; masters are always fp32

    def check(self) -> None:
        """Raise Refusal where these settings cannot work together."""
        for name in ("length", "batch", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refusal(f"{name} {value} must be at least 1")
        if not 0.0 <= self.validation < 1.0:
            raise Refusal(f"validation {self.validation} is outside 0 … 1: it is a share of the prompts")
        if not 0.0 <= self.warmup < 1.0:
            raise Refusal(f"warmup {self.warmup} is outside 0 … 1: it is a share of the steps")
        self.optimization(1).check()

    def optimization(self, steps: int) -> Optimization:
        """What of this the optimiser and the loop act on. Eager: rows are cut to length, so shapes differ."""
        return Optimization(
            lr=self.lr,
            schedule="cosine",
            warmup=round(self.warmup * steps),
            weight_decay=self.weight_decay,
            clip=self.clip,
            embedding_lr=self.embedding_lr,
            micro_batch=self.micro_batch,
            save_every=self.save_every,
            precision=self.precision,
            compile="no",
        )


def parts(settings: Settings) -> tuple[RewardModel, Template, Path]:
    """The reward model to train, in fp32, with a fresh head; its chat template; the folder of both."""
    folder = resolve_model(settings.model)
    decoder = weights.load(folder, torch.float32)
    return RewardModel.from_decoder(decoder, settings.seed), Template.load(folder), folder


def batches(settings: Settings, template: Template, longest: int) -> tuple[RankedGroups, RankedGroups | None]:
    """Groups of ranked answers to learn from, and held-out ones (other prompts) where there are any."""
    return ranked_groups(
        settings.data,
        template,
        row_length(settings.length, longest),
        validation=settings.validation,
        batch=settings.batch,
        seed=settings.seed,
    )


class Objective:
    """The loss of a batch's groups; see the top of this file."""

    def __init__(self, model: RewardModel) -> None:
        self.model = model

    def scores(self, groups: Mapping[str, Tensor]) -> Tensor:
        """The raw score of every answer, (G, K), 0 where there is none."""
        found = answer_rows(groups)
        return found.spread(self.model.scores(found.tokens_NT, found.last_N))

    def __call__(self, groups: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum over the pairs; beside it how many are in the right order, and by how much."""
        pairs = losses.pairwise(self.scores(groups), groups["weights"])
        return pairs.loss, {"accuracy": pairs.right, "margin": pairs.margin}


@torch.no_grad()
def scale(loss: Objective, train: RankedGroups, settings: Settings) -> ScoreScale:
    """Mean and deviation of the scores of the answers that were learned from."""
    every = train.at(range(min(len(train), SCALE_GROUPS)))
    pieces = micro_batches(every, settings.micro_batch or settings.batch)
    return ScoreScale.of(torch.cat([loss.scores(groups)[groups["last"] > 0] for groups in pieces]))


def run(settings: Settings) -> Path:
    """Train, or go on with it; returns the finished reward model's folder. Raises Refusal."""
    settings.check()
    if (done := checkpoint.finished(settings.out, "reward", settings)) is not None:
        return done
    model, template, folder = parts(settings)
    train, held_out = batches(settings, template, model.config.max_positions)
    facts: dict[str, Any] = {}

    def save(target: Path) -> None:
        weights.save(model, target)
        checkpoint.copy_tokenizer(folder, target)
        if facts:
            write_json(target / FACTS, facts)

    steps = settings.epochs * train.steps_per_epoch
    trainer = Trainer(
        settings.out,
        model,
        settings.optimization(steps),
        steps=steps,
        stage="reward",
        settings=settings,
        save=save,
        inputs={"data": settings.data},
    )
    loss = Objective(model)
    for step in trainer.remaining():
        groups = real_groups(train.batch(step))
        metrics = trainer.update(loss, groups, weight_of(groups))
        if held_out is not None and (step + 1) % train.steps_per_epoch == 0:
            metrics |= pair_accuracy(loss, held_out, settings.micro_batch)
        if step + 1 == steps:
            unit = scale(loss, train, settings)
            facts |= {"mean": unit.mean, "deviation": unit.deviation, "prompts": len(train)}
            facts |= {name: metrics[name] for name in metrics if name.startswith("validation_")}
        trainer.advance(metrics)
    return trainer.folder
