"""Pre-training: token shards in, a PaLM that continues texts out.

In:  ``data`` (shards of `palmier data prepare`), ``tokenizer`` (a folder) or ``model`` to go on from.
Out: ``out/step-N``, a Hugging Face folder with the tokenizer; ``metrics.jsonl``.

Objective (Chowdhery et al. 2022, PaLM, section 5), summed over the tokens of a batch and divided by their number:
    −log p(token | tokens before it) + z_loss · (log Z)²
where Z is the softmax's normaliser. Departures: AdamW in place of Adafactor, as two moments of a small model
cost little; warm-up, a stable phase and a linear decay (Hu et al. 2024, MiniCPM) in place of 1/√step, as
a short run gains most from its decay; embeddings, drawn from N(0, 1), learn faster by ``embedding_lr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from palmier.data.batches import TokenBatches
from palmier.data.shards import Manifest
from palmier.data.tokenizer import Tokenizer
from palmier.errors import Refusal
from palmier.model import checkpoint as weights
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder, token_logprobs
from palmier.models.names import resolve_model
from palmier.train import checkpoint, losses
from palmier.train.log import say
from palmier.train.loop import Trainer
from palmier.train.optimizer import Optimization

VALIDATION_BATCHES = 16
"""Held-out batches that one validation loss is the mean of, at most."""


@dataclass(frozen=True)
class Settings:
    """How to pre-train."""

    out: Path  # the run's folder; the same command goes on with it
    data: Path  # shards made by `palmier data prepare`
    tokenizer: Path | None = None  # the folder of the tokenizer that the shards were made with; not with model
    model: str = ""  # a model to go on from (a name, folder, run, version, .gguf, repository); empty: a new PaLM
    layers: int | None = None  # blocks of a new PaLM; 3 where not given
    hidden_size: int | None = None  # width of a new PaLM; 256 where not given
    heads: int | None = None  # query heads of a new PaLM; hidden_size / 64 where not given
    length: int = 128  # tokens of a row, and the longest text that a new PaLM can hold
    batch: int = 16  # rows of a step
    micro_batch: int = 0  # rows computed at once, 0 = all: less memory, the same result
    steps: int = 1500  # optimiser steps
    lr: float = 2.5e-3  # peak learning rate of the kernels; larger models want less
    embedding_lr: float = 4.0  # factor on lr for the embeddings
    warmup: int | None = None  # steps over which the learning rate rises; 60, or a tenth of a shorter run's than 600
    decay: float = 0.4  # last share of the steps, over which it falls to 0; 1 = linear, 0 = never
    weight_decay: float = 0.1  # pull of kernels to zero, times the learning rate
    clip: float = 1.0  # largest norm of a step's gradient
    z_loss: float = 1e-4  # weight of (log Z)², which keeps the logits from drifting
    validate_every: int = 100  # steps between two validation losses, 0 = never
    save_every: int = 500  # steps between two saves, 0 = only at the end
    seed: int = 0  # of the first weights and of the order of the data
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the computation; masters are always fp32
    compile: Literal["auto", "yes", "no"] = "auto"  # auto: where the run is long enough to pay for it

    def check(self) -> None:
        """Raise Refusal where these settings cannot work together."""
        if self.model:
            for name in ("tokenizer", "layers", "hidden_size", "heads"):
                if getattr(self, name) is not None:
                    raise Refusal(f"{name} is the model's own: leave it out, or leave out model for a new PaLM")
        elif self.tokenizer is None:
            raise Refusal("a new PaLM needs --tokenizer, the folder that the shards were made with")
        for name in ("layers", "hidden_size", "heads", "length", "batch", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refusal(f"{name} {value} must be at least 1")
        for name in ("z_loss", "validate_every"):
            if getattr(self, name) < 0:
                raise Refusal(f"{name} {getattr(self, name)} is negative")
        if self.warmup is not None and self.warmup >= self.steps:
            raise Refusal(f"warmup {self.warmup} leaves nothing of {self.steps} steps: give less warmup or more steps")
        self.optimization().check()

    def warmup_steps(self) -> int:
        """``warmup``, or where it was not given what leaves a short run most of its steps at the full rate."""
        return min(60, self.steps // 10) if self.warmup is None else self.warmup

    def optimization(self) -> Optimization:
        """What of this the optimiser and the loop act on."""
        return Optimization(
            lr=self.lr,
            schedule="wsd",
            warmup=self.warmup_steps(),
            decay=self.decay,
            weight_decay=self.weight_decay,
            clip=self.clip,
            embedding_lr=self.embedding_lr,
            micro_batch=self.micro_batch,
            save_every=self.save_every,
            precision=self.precision,
            compile=self.compile,
        )


def parts(settings: Settings) -> tuple[Decoder, Path]:
    """The decoder to train, in fp32, and the folder of its tokenizer."""
    if settings.model:
        folder = resolve_model(settings.model)
        decoder = weights.load(folder, torch.float32)
        if settings.length > decoder.config.max_positions:
            raise Refusal(f"length {settings.length} is more than {folder} can hold: {decoder.config.max_positions}")
        return decoder, folder
    assert settings.tokenizer is not None  # held by check()
    tokenizer = Tokenizer.load(settings.tokenizer)
    hidden = settings.hidden_size or 256
    config = ModelConfig.palm(
        vocab_size=tokenizer.size,
        hidden_size=hidden,
        num_layers=settings.layers or 3,
        num_heads=settings.heads or max(1, hidden // 64),
        max_positions=settings.length,
        eos_id=tokenizer.id("<|endoftext|>"),
    )
    return Decoder.create(config, settings.seed), settings.tokenizer


def batches(settings: Settings, tokenizer: Tokenizer) -> tuple[TokenBatches, TokenBatches | None]:
    """Rows to learn from, and held-out rows where they are asked for and there are any."""

    def rows(split: str) -> TokenBatches:
        return TokenBatches(settings.data, split, settings.batch, settings.length, settings.seed, tokenizer)

    train = rows("train")
    if not settings.validate_every:
        return train, None
    split = Manifest.read(settings.data).splits.get("validation")
    if split is None or split.tokens <= settings.length:
        say(
            f"pretrain: no validation loss, since {settings.data} holds out less than a row of {settings.length} tokens"
        )
        return train, None
    return train, rows("validation")


class Objective:
    """The loss of a batch's rows; see the top of this file."""

    def __init__(self, decoder: Decoder, z_loss: float) -> None:
        self.decoder, self.z_loss = decoder, z_loss

    def __call__(self, rows: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sums over the tokens: what is minimised, and cross-entropy (nats) and (log Z)²."""
        hidden_BTD = self.decoder(rows["tokens"])
        found = token_logprobs(self.decoder, hidden_BTD, rows["targets"])
        mask_BT = rows["targets"] >= 0
        nll = losses.cross_entropy(found.logprobs_BT, mask_BT)
        z = losses.z_loss(found.logsumexp_BT, mask_BT)
        return nll + self.z_loss * z, {"cross_entropy": nll.detach(), "log_z_squared": z.detach()}


def tokens_of(rows: Mapping[str, Tensor]) -> int:
    """How many tokens of a batch are learned from."""
    return int((rows["targets"] >= 0).sum())


def validation_loss(decoder: Decoder, batches: TokenBatches) -> float:
    """Mean cross-entropy in nats a token over the first held-out batches, always the same ones."""
    total, count = 0.0, 0
    with torch.no_grad():
        for index in range(min(VALIDATION_BATCHES, batches.steps_per_epoch)):
            rows = batches.batch(index)
            found = token_logprobs(decoder, decoder(rows["tokens"]), rows["targets"])
            total -= float(found.logprobs_BT.sum())
            count += tokens_of(rows)
    return total / count


def run(settings: Settings) -> Path:
    """Pre-train, or go on with it; returns the finished model's folder. Raises Refusal."""
    settings.check()
    settings = replace(settings, warmup=settings.warmup_steps())  # so that run.json tells the number
    if (done := checkpoint.finished(settings.out, "pretrain", settings)) is not None:
        return done
    decoder, tokenizer = parts(settings)
    train, held_out = batches(settings, Tokenizer.load(tokenizer))

    def save(folder: Path) -> None:
        weights.save(decoder, folder)
        checkpoint.copy_tokenizer(tokenizer, folder)

    trainer = Trainer(
        settings.out,
        decoder,
        settings.optimization(),
        steps=settings.steps,
        stage="pretrain",
        settings=settings,
        save=save,
        inputs={"data": settings.data} | ({"model": tokenizer} if settings.model else {}),
        tokens_per_step=settings.batch * settings.length,
    )
    loss = Objective(decoder, settings.z_loss)
    for step in trainer.remaining():
        rows = train.batch(step)
        metrics = trainer.update(loss, rows, tokens_of(rows))
        if held_out is not None and ((step + 1) % settings.validate_every == 0 or step + 1 == settings.steps):
            metrics["validation_loss"] = validation_loss(decoder, held_out)
        trainer.advance(metrics)
    return trainer.folder
