"""Direct preference optimisation: rankings in, an assistant that prefers what people preferred out.

In:  ``model`` (a folder, run, version or name: the start and the reference) and ``data`` (JSONL of rankings).
Out: ``out/step-N``, a Hugging Face folder with the tokenizer; ``out/reference``, the reference's log-probabilities;
     ``metrics.jsonl``.

Objective (Rafailov et al. 2023, equation 7, over all pairs of a prompt as InstructGPT's reward model has them):
    −1/pairs · Σ log σ(h(better) − h(worse)),   h(y) = β · (log π(y|x) − log π_ref(y|x))
It starts at ln 2. One forward an answer serves all its pairs; the reference is read once, before the first step, in
the very pieces of the first epoch, and then forgotten. Departures: none in the loss; a run stops where the chosen
answers themselves become unlikely, which the loss allows (it sees differences alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from palmier.data.pairs import RankedGroups
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.model import checkpoint as weights
from palmier.model.decoder import Decoder
from palmier.models.names import resolve_model
from palmier.scale import runtime
from palmier.train import checkpoint, losses
from palmier.train.alarms import stopped
from palmier.train.answers import (
    answer_lengths,
    answer_logprobs,
    answer_rows,
    micro_batches,
    pair_accuracy,
    ranked_groups,
    real_groups,
    row_length,
    weight_of,
)
from palmier.train.log import say
from palmier.train.loop import Trainer
from palmier.train.optimizer import Optimization
from palmier.workspace import read_json, sha256, write_json, write_whole


@dataclass(frozen=True)
class Settings:
    """How to move a model towards what people preferred."""

    out: Path  # the run's folder; the same command goes on with it
    model: str  # start and reference: a name, folder, run, version, .gguf or repository
    data: Path  # JSONL, a line a ranking, as `palmier feedback export` writes them
    validation: float = 0.05  # share of the prompts whose rankings are held out and only predicted
    length: int | None = None  # tokens of prompt and answer; longer answers are left out; the model's own if not given
    beta: float = 0.1  # 1/nats: the weight of staying near the reference; less moves further
    max_drop: float = 1.0  # nats a token by which chosen answers may become less likely before the run stops
    batch: int = 8  # prompts of a step, each with all its answers
    micro_batch: int = 0  # prompts computed at once, 0 = all: less memory, the same result
    epochs: int = 1  # times that each ranking is seen
    lr: float = 2e-5  # peak learning rate; about 2e-4 for a few million parameters, 3e-5 for a hundred million
    embedding_lr: float = 1.0  # factor on lr for the embeddings
    warmup: float = 0.1  # share of the steps over which the learning rate rises; then it falls as a cosine to 0
    weight_decay: float = 0.0  # pull of kernels to zero, times the learning rate
    clip: float = 1.0  # largest norm of a step's gradient
    save_every: int = 50  # steps between two saves, 0 = only at the end
    seed: int = 0  # of the held-out choice and the order
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the computation; masters are always fp32

    def check(self) -> None:
        """Raise Refusal where these settings cannot work together."""
        for name in ("length", "batch", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refusal(f"{name} {value} must be at least 1")
        for name in ("beta", "max_drop"):
            if not getattr(self, name) > 0.0:
                raise Refusal(f"{name} {getattr(self, name)} must be above 0")
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


def parts(settings: Settings) -> tuple[Decoder, Template, Path]:
    """The decoder to train, in fp32, its chat template, and the folder of both."""
    folder = resolve_model(settings.model)
    return weights.load(folder, torch.float32), Template.load(folder), folder


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


@torch.no_grad()
def read_reference(decoder: Decoder, data: RankedGroups, settings: Settings) -> Tensor:
    """log π_ref of every answer, (groups, K) fp32, 0 where there is none.

    Read in the pieces that the first epoch computes, so that the first losses are ln 2 to the bit.
    """
    table_GK = torch.zeros(len(data), data.width)
    for step in range(data.steps_per_epoch):
        for groups in micro_batches(real_groups(data.batch(step)), settings.micro_batch):
            found = answer_rows(groups)
            table_GK[groups["group"]] = found.spread(answer_logprobs(decoder, found))
    return table_GK


def reference(settings: Settings, folder: Path, sides: Mapping[str, RankedGroups]) -> dict[str, Tensor]:
    """The reference's table of each side, computed once a run and kept in ``out/reference``."""
    kept = settings.out / "reference"
    file, note = kept / "logprobs.safetensors", kept / "logprobs.json"
    dtype = str(runtime.choose_dtype(settings.precision))[6:]
    facts = {"model": str(folder), "data": checkpoint.fingerprint(settings.data), "dtype": dtype}
    facts |= {path.name: checkpoint.fingerprint(path) for path in sorted(folder.glob("*.safetensors"))}
    if file.is_file() and read_json(note) == facts | {"sha256": sha256(file)}:
        return load_file(file)
    runtime.deterministic()
    decoder = weights.load(folder, runtime.choose_dtype(settings.precision))
    say("dpo: reading the reference's log-probabilities once")
    tables = {name: read_reference(decoder, data, settings) for name, data in sides.items()}
    with write_whole(kept) as target:
        try:
            save_file(tables, target / file.name)
        except safetensors.SafetensorError as error:
            raise OSError(None, str(error)) from error
        write_json(target / note.name, facts | {"sha256": sha256(target / file.name)})
    return tables


class Objective:
    """The loss of a batch's groups; see the top of this file."""

    def __init__(self, decoder: Decoder, reference_GK: Tensor, beta: float) -> None:
        self.decoder, self.reference_GK, self.beta = decoder, reference_GK, beta

    def __call__(self, groups: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum over the pairs, and these sums beside it (all but kl weighted as the pairs are):

        ``accuracy``: pairs whose better answer gained more; ``margin`` of the implicit rewards;
        ``chosen_logprob`` and ``rejected_logprob`` in nats an answer; ``chosen_shift``: by how much
        a chosen answer became likelier, in nats a token; ``kl``: log π_ref − log π, in nats an
        answer, which estimates KL(π_ref‖π) where the ranked answers are the reference's own.
        """
        found = answer_rows(groups)
        policy_GK = found.spread(answer_logprobs(self.decoder, found))
        reference_GK = self.reference_GK[groups["group"]]
        rewards_GK = losses.implicit_reward(policy_GK, reference_GK, self.beta)
        pairs = losses.pairwise(rewards_GK, groups["weights"])
        seen_GK, shift_GK = policy_GK.detach(), (policy_GK - reference_GK).detach()
        weight_G = groups["weights"].sum((1, 2))
        better_GK, worse_GK = groups["weights"].sum(2), groups["weights"].sum(1)
        answers_G = (groups["last"] > 0).sum(1)
        return pairs.loss, {
            "accuracy": pairs.right,
            "margin": pairs.margin,
            "chosen_logprob": (better_GK * seen_GK).sum(),
            "rejected_logprob": (worse_GK * seen_GK).sum(),
            "chosen_shift": (better_GK * shift_GK / answer_lengths(groups).clamp(min=1)).sum(),
            "kl": -(weight_G * shift_GK.sum(1) / answers_G).sum(),
        }


def alarm(trainer: Trainer, metrics: Mapping[str, float], max_drop: float) -> None:
    """Raise Diverged where the answers that people preferred are being forgotten with the others."""
    if metrics["chosen_shift"] < -max_drop:
        raise stopped(
            trainer,
            f"the chosen answers became less likely by {-metrics['chosen_shift']:.2f} nats a token, more than "
            f"max_drop {max_drop}: the model is forgetting how to speak",
            "Try a lower lr, a larger beta or fewer epochs.",
        )


def run(settings: Settings) -> Path:
    """Train, or go on with it; returns the finished model's folder. Raises Refusal."""
    settings.check()
    if (done := checkpoint.finished(settings.out, "dpo", settings)) is not None:
        return done
    decoder, template, folder = parts(settings)
    train, held_out = batches(settings, template, decoder.config.max_positions)
    sides = {"train": train} | ({"validation": held_out} if held_out is not None else {})
    tables = reference(settings, folder, sides)

    def save(target: Path) -> None:
        weights.save(decoder, target)
        checkpoint.copy_tokenizer(folder, target)

    steps = settings.epochs * train.steps_per_epoch
    trainer = Trainer(
        settings.out,
        decoder,
        settings.optimization(steps),
        steps=steps,
        stage="dpo",
        settings=settings,
        save=save,
        inputs={"data": settings.data},
    )
    loss = Objective(decoder, tables["train"], settings.beta)
    for step in trainer.remaining():
        groups = real_groups(train.batch(step))
        metrics = trainer.update(loss, groups, weight_of(groups))
        alarm(trainer, metrics, settings.max_drop)
        if held_out is not None and (step + 1) % train.steps_per_epoch == 0:
            metrics |= pair_accuracy(
                Objective(decoder, tables["validation"], settings.beta), held_out, settings.micro_batch
            )
        trainer.advance(metrics)
    return trainer.folder
