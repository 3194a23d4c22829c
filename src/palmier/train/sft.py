"""Supervised fine-tuning: conversations in, an assistant that answers as they do out.

In:  ``model`` (a folder, run, version or name) and ``data`` (JSONL of {"messages": [{"role", "content"}, …]}).
Out: ``out/step-N``, a Hugging Face folder with the tokenizer; ``metrics.jsonl``.

Objective (Ouyang et al. 2022, InstructGPT, section 3.5: the language-modelling loss on demonstrations), summed
over the tokens that the assistant says, its end token included, and divided by their number in the batch:
    −log p(token | conversation before it)
What people say is read, never learned. Departures: several conversations share a row (``packed``), kept apart by a
block mask, so that no step is spent on padding; every token weighs the same, so a long answer weighs more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from palmier.data.batches import SFTBatches
from palmier.data.prompts import read_conversations
from palmier.data.shards import share
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.model import checkpoint as weights
from palmier.model.decoder import Decoder, token_logprobs
from palmier.models.names import resolve_model
from palmier.records import Conversation
from palmier.train import checkpoint, losses
from palmier.train.answers import row_length
from palmier.train.log import say
from palmier.train.loop import Trainer
from palmier.train.optimizer import Optimization


@dataclass(frozen=True)
class Settings:
    """How to fine-tune on conversations."""

    out: Path  # the run's folder; the same command goes on with it
    model: str  # what to start from: a name, folder, run, version, .gguf or repository
    data: Path  # JSONL, a line a conversation: {"messages": [{"role", "content"}, …]}
    validation: float = 0.05  # share of the conversations held out, chosen by their prompt
    length: int | None = None  # tokens of a row; longer conversations are left out; the model's own where not given
    packed: bool = True  # several conversations share a row; else each has its own
    batch: int = 16  # rows of a step
    micro_batch: int = 0  # rows computed at once, 0 = all: less memory, the same result
    epochs: int = 2  # times that each conversation is seen
    lr: float = 1e-4  # peak learning rate; about 1e-3 for a few million parameters, 2e-5 for a hundred million
    embedding_lr: float = 1.0  # factor on lr for the embeddings
    warmup: float = 0.05  # share of the steps over which the learning rate rises; then it falls as a cosine to 0
    weight_decay: float = 0.0  # pull of kernels to zero, times the learning rate
    clip: float = 1.0  # largest norm of a step's gradient
    validate_every: int = 0  # steps between two validation losses; 0 = at the end of each epoch
    save_every: int = 200  # steps between two saves, 0 = only at the end
    seed: int = 0  # of the held-out choice, the packing and the order
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the computation; masters are always fp32
    compile: Literal["auto", "yes", "no"] = "auto"  # auto: where the run is long enough to pay for it

    def check(self) -> None:
        """Raise Refusal where these settings cannot work together."""
        for name in ("length", "batch", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refusal(f"{name} {value} must be at least 1")
        if not 0.0 <= self.validation < 1.0:
            raise Refusal(f"validation {self.validation} is outside 0 … 1: it is a share of the conversations")
        if not 0.0 <= self.warmup < 1.0:
            raise Refusal(f"warmup {self.warmup} is outside 0 … 1: it is a share of the steps")
        if self.validate_every < 0:
            raise Refusal(f"validate_every {self.validate_every} is negative")
        if self.validate_every and not self.validation:
            raise Refusal("validate_every needs a validation share above 0")
        self.optimization(1).check()

    def optimization(self, steps: int) -> Optimization:
        """What of this the optimiser and the loop act on."""
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
            compile=self.compile,
        )


def parts(settings: Settings) -> tuple[Decoder, Template, Path]:
    """The decoder to train, in fp32, its chat template, and the folder of both."""
    folder = resolve_model(settings.model)
    return weights.load(folder, torch.float32), Template.load(folder), folder


def batches(settings: Settings, template: Template, longest: int) -> tuple[SFTBatches, SFTBatches | None]:
    """Rows to learn from, and held-out rows where there are any."""
    length = row_length(settings.length, longest)
    sides: tuple[list[Conversation], list[Conversation]] = ([], [])
    for number, conversation in enumerate(read_conversations(settings.data), start=1):
        if not any(message.role == "assistant" for message in conversation.messages):
            raise Refusal(f"{settings.data}: conversation {number} has no assistant's message to learn from")
        sides[share(_prompt(conversation), settings.seed) < settings.validation].append(conversation)
    if not sides[0]:
        raise Refusal(f"{settings.data} has too few conversations: all of them are held out for validation")

    def rows(side: list[Conversation]) -> SFTBatches:
        return SFTBatches(side, template, settings.batch, length, settings.seed, packed=settings.packed)

    train, held_out = rows(sides[0]), None
    try:
        held_out = rows(sides[1]) if settings.validation else None
    except Refusal as refusal:
        say(f"sft: no validation loss, since {settings.data} holds out too little: {refusal}")
    if too_long := train.too_long + (held_out.too_long if held_out is not None else 0):
        say(f"sft: {too_long} conversations are longer than {length} tokens and are left out")
    return train, held_out


class Objective:
    """The loss of a batch's rows; see the top of this file."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def __call__(self, rows: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over the assistant's tokens; no further metrics."""
        hidden_BTD = self.decoder(rows["tokens"], rows["positions"], segments_BT=rows["segments"])
        found = token_logprobs(self.decoder, hidden_BTD, rows["targets"])
        return losses.cross_entropy(found.logprobs_BT, rows["targets"] >= 0), {}


def tokens_of(rows: Mapping[str, Tensor]) -> int:
    """How many tokens of a batch are learned from."""
    return int((rows["targets"] >= 0).sum())


def validation_loss(loss: Objective, held_out: SFTBatches) -> float:
    """Mean loss in nats a token over all held-out conversations."""
    total, count = 0.0, 0
    with torch.no_grad():
        for index in range(held_out.steps_per_epoch):
            rows = held_out.batch(index)
            total += float(loss(rows)[0])
            count += tokens_of(rows)
    return total / count


def run(settings: Settings) -> Path:
    """Fine-tune, or go on with it; returns the finished model's folder. Raises Refusal."""
    settings.check()
    if (done := checkpoint.finished(settings.out, "sft", settings)) is not None:
        return done
    decoder, template, folder = parts(settings)
    train, held_out = batches(settings, template, decoder.config.max_positions)

    def save(target: Path) -> None:
        weights.save(decoder, target)
        checkpoint.copy_tokenizer(folder, target)

    steps = settings.epochs * train.steps_per_epoch
    every = settings.validate_every or train.steps_per_epoch
    trainer = Trainer(
        settings.out,
        decoder,
        settings.optimization(steps),
        steps=steps,
        stage="sft",
        settings=settings,
        save=save,
        inputs={"data": settings.data, "model": folder},
        tokens_per_step=math.prod(train.batch(0)["tokens"].shape),
    )
    loss = Objective(decoder)
    for step in trainer.remaining():
        rows = train.batch(step)
        metrics = trainer.update(loss, rows, tokens_of(rows))
        if held_out is not None and ((step + 1) % every == 0 or step + 1 == steps):
            metrics["validation_loss"] = validation_loss(loss, held_out)
        trainer.advance(metrics)
    return trainer.folder


def _prompt(conversation: Conversation) -> str:
    """All but the last turn, so that two answers to one prompt fall on the same side."""
    return json.dumps(Conversation(conversation.messages[:-1] or conversation.messages).to_json())
