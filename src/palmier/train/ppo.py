"""PPO: prompts and a reward in, an assistant that earns more of it without leaving its reference far behind out.

In:  ``model`` (a folder, run, version or name: the start, and the frozen reference), ``reward`` (a reward model or a
     program) and ``prompts`` (JSONL of {"messages": …}).
Out: ``out/step-N``, a Hugging Face folder with the tokenizer; ``out/baseline.json``, what the start earned;
     ``metrics.jsonl``, whose line N tells of the model of step N; with a judge, ``out/best``.

Objective (Schulman et al. 2017, equation 7, with the reward of Stiennon et al. 2020 and Ouyang et al. 2022):
    max E[min(ρA, clip(ρ, 1 ± ε)A)],  ρ = π/π_old,  A by GAE (γ 1, λ .95), whitened over the batch's tokens,
    from −β (log π − log π_ref) at every token, plus the answer's reward at its last one.
The reward is the score in deviations of what the start earns (its mean is 0), clipped; an answer without an end earns
a fixed one. The critic is a model of its own, copied from the reward model and taught for some iterations before the
policy moves. Departures from InstructGPT: no pre-training mix (γ_ptx 0) and no moving average of weights; two epochs.
One iteration: collect (the engine answers, everybody reads) → credit → update. A step that raises an alarm is not saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.feedback.reward import ModelReward, Reward, load_reward_spec
from palmier.generate.engine import Engine
from palmier.generate.fingerprint import fingerprint
from palmier.generate.rollout import rollout
from palmier.model import checkpoint as weights
from palmier.model.decoder import Decoder, token_logprobs
from palmier.model.heads import RewardModel
from palmier.models.names import resolve_model
from palmier.records import Conversation, Sampling
from palmier.scale import runtime
from palmier.train import advantages, checkpoint, losses
from palmier.train.advantages import ScoreScale
from palmier.train.alarms import stopped
from palmier.train.asking import draw_seed, drawn_order, engine_for, fitting, try_out
from palmier.train.best import consider, copy_best, judged
from palmier.train.episodes import Credit, Episodes, Rollout, shuffled, training_rows
from palmier.train.log import say
from palmier.train.loop import Trainer
from palmier.train.optimizer import Optimization
from palmier.workspace import read_json, write_json

GAMMA, LAMBDA = 1.0, 0.95
"""No discount: an answer is short. λ as in InstructGPT."""
CLIP = 0.2
"""How far a step may move a token's probability ratio, and a value, before its gradient stops."""
REWARD_CLIP = 5.0
"""Rewards are held within this many deviations."""
JUDGE_EVERY = 2
"""Iterations between two looks of the judge."""


@dataclass(frozen=True)
class Settings:
    """How to move a model towards more reward."""

    out: Path  # the run's folder; the same command goes on with it
    model: str  # start and reference: a name, folder, run, version, .gguf or repository
    reward: str  # a reward model's folder, run or name, or a program: module:function or file.py:function
    prompts: Path  # JSONL, a line a prompt: {"messages": [{"role", "content"}, …]}, the last one the user's
    validation: Path | None = None  # JSONL of prompts that the judge looks at
    judge: str | None = None  # another reward than the one trained on; the step that it likes best is the result
    iterations: int = 16  # rounds of answering and learning
    warmup: int = 4  # rounds before them in which only the critic learns
    episodes: int = 128  # answers a round
    epochs: int = 2  # times that a round's answers are learned from
    minibatch: int = 32  # answers an optimiser step
    micro_batch: int = 8  # answers computed at once: memory against speed, never the result
    max_tokens: int = 64  # longest answer
    temperature: float = 1.0  # of the answers that are learned from; best the one at which the model is used
    lr: float = 2e-6  # learning rate; about 2e-4 for a few million parameters
    value_lr: float = 1e-5  # the critic's; about 3e-4 for a few million parameters
    kl_weight: float = 0.1  # deviations of reward a nat: what leaving the reference costs
    max_kl: float = 10.0  # nats an answer from the reference, past which the run stops: over-optimisation shows there
    min_entropy: float = 0.3  # share of the start's entropy below which the run stops
    entropy_bonus: float = 0.0  # weight of the entropy in the objective; 0 = none, as published for language models
    unfinished: float = -2.0  # reward, in deviations, of an answer that does not end within max_tokens
    max_difference: float = 0.1  # nats a token between engine and trainer, past which the run stops
    save_every: int = 4  # rounds between two saves, 0 = only at the end
    seed: int = 0  # of the prompts' order, the answers and the mini-batches
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the computation; masters are always fp32

    def check(self) -> None:
        """Raise Refusal where these settings cannot work together."""
        for name in ("iterations", "episodes", "epochs", "minibatch", "micro_batch", "max_tokens"):
            if getattr(self, name) < 1:
                raise Refusal(f"{name} {getattr(self, name)} must be at least 1")
        for name in ("warmup", "kl_weight", "min_entropy", "entropy_bonus"):
            if getattr(self, name) < 0:
                raise Refusal(f"{name} {getattr(self, name)} is negative")
        for name in ("temperature", "value_lr", "max_kl", "max_difference"):
            if not getattr(self, name) > 0.0:
                raise Refusal(f"{name} {getattr(self, name)} must be above 0")
        for small, large in (("micro_batch", "minibatch"), ("minibatch", "episodes")):
            if getattr(self, large) % getattr(self, small):
                raise Refusal(f"{large} {getattr(self, large)} is no multiple of {small} {getattr(self, small)}")
        if (self.judge is None) != (self.validation is None):
            raise Refusal("judge and validation go together: a judge needs prompts, and prompts a judge")
        if self.judge is not None and self.judge == self.reward:
            raise Refusal("the judge is the reward that is trained on, which always likes the last step best")
        self.optimization().check()

    def optimization(self) -> Optimization:
        """What of this the optimiser and the loop act on. Eager: pieces are cut to length, so shapes differ."""
        return Optimization(
            lr=self.lr,
            schedule="constant",
            eps=1e-5,  # Huang et al. 2023, detail 3: early gradients are small
            save_every=self.save_every,
            precision=self.precision,
            compile="no",
        )

    def sampling(self, *purpose: int | str) -> Sampling:
        """How answers are drawn; the same draws for the same purpose."""
        seed = draw_seed(self.seed, "ppo", *purpose)
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=seed)


@dataclass(frozen=True)
class Parts:
    """Everybody who takes part in a round. ``policy`` and ``value`` learn, the others are frozen."""

    policy: Decoder
    value: RewardModel
    reference: Decoder
    reward: Reward
    judge: Reward | None
    template: Template
    conversations: list[Conversation]
    validation: list[Conversation]
    folder: Path

    def write(self, target: Path) -> None:
        """The policy as a whole model's folder."""
        weights.save(self.policy, target)
        checkpoint.copy_tokenizer(self.folder, target)


def parts(settings: Settings) -> Parts:
    """Load everybody; policy and value in fp32, which the trainer turns into the run's format. Raises Refusal."""
    folder = resolve_model(settings.model)
    policy, template = weights.load(folder, torch.float32), Template.load(folder)
    limit = policy.config.max_positions - settings.max_tokens
    reward = load_reward_spec(settings.reward)
    if isinstance(reward, ModelReward):
        if reward.template.tokenizer.fingerprint != template.tokenizer.fingerprint:
            raise Refusal(f"the reward model {settings.reward} has another tokenizer than {settings.model}")
        value = weights.load_reward(resolve_model(settings.reward), torch.float32)
    else:
        value = RewardModel.from_decoder(weights.load(folder, torch.float32), settings.seed)
    return Parts(
        policy=policy,
        value=value,
        reference=weights.load(folder, runtime.choose_dtype(settings.precision)).requires_grad_(False),
        reward=reward,
        judge=None if settings.judge is None else load_reward_spec(settings.judge),
        template=template,
        conversations=fitting(settings.prompts, template, limit),
        validation=fitting(settings.validation, template, limit) if settings.validation else [],
        folder=folder,
    )


# collect ---------------------------------------------------------------------------------------
def answer(settings: Settings, found: Parts, engine: Engine, iteration: int) -> tuple[Rollout, Tensor]:
    """Draw a round's answers, and their scores in the rollout's order: (B,) fp32."""
    order = drawn_order(len(found.conversations), settings.episodes, iteration, settings.seed)
    asked = [found.conversations[place] for place in order]
    sampling = settings.sampling(iteration, "answers")
    answers = [group[0] for group in rollout(engine, found.template, asked, sampling, 1, f"iteration {iteration}")]
    scores = found.reward.score(asked, answers)
    prompts = [found.template.prompt(conversation) for conversation in asked]
    said = Rollout.of(prompts, answers, padding=found.template.stop_ids[-1])
    return said, torch.tensor([scores[place] for place in said.order])


@torch.no_grad()
def read(settings: Settings, found: Parts, said: Rollout) -> dict[str, Tensor]:
    """What policy, reference and critic (in the reward model's unit) say of each token, piece by piece."""
    names = ("old", "entropy", "reference", "values")
    tables = {name: torch.zeros_like(said.drawn_BT) for name in names}
    for piece in said.pieces(settings.micro_batch):
        tokens_BT, targets_BT = piece.cut(said.tokens_BT), piece.cut(said.targets_BT)
        own = token_logprobs(found.policy, found.policy(tokens_BT), targets_BT, temperature=settings.temperature)
        hidden_BTD = found.reference(tokens_BT)
        other = token_logprobs(found.reference, hidden_BTD, targets_BT, temperature=settings.temperature)
        values_BT = found.value.values(tokens_BT)
        for name, of in zip(names, (own.logprobs_BT, own.entropy_BT, other.logprobs_BT, values_BT), strict=True):
            piece.cut(tables[name]).copy_(of)
    return tables


def collect(settings: Settings, found: Parts, engine: Engine, iteration: int, unit: ScoreScale | None) -> Episodes:
    """One round's answers, scored and read. ``unit`` is None for the first one, which sets it."""
    engine.weights_changed()
    said, scores_B = answer(settings, found, engine, iteration)
    unit = unit or ScoreScale.of(scores_B)
    tables = read(settings, found, said)
    rewards_B = torch.where(said.ended_B, unit.apply(scores_B, REWARD_CLIP), settings.unfinished)
    return Episodes(
        rollout=said,
        old_BT=tables["old"],
        reference_BT=tables["reference"],
        entropy_BT=tables["entropy"],
        values_BT=losses.valid(critic_unit(found, unit, tables["values"]), said.mask_BT),
        rewards_B=rewards_B,
        scores_B=scores_B,
    )


def critic_unit(found: Parts, unit: ScoreScale, values_BT: Tensor) -> Tensor:
    """A critic that was copied from a reward model speaks in its scores: put them in deviations too."""
    if not isinstance(found.reward, ModelReward):
        return values_BT
    return (values_BT - found.reward.shift - unit.mean) / unit.deviation


# credit ----------------------------------------------------------------------------------------
def credit(episodes: Episodes, kl_weight: float) -> Credit:
    """What each token earned beyond what the critic expected."""
    kl_BT = losses.kl_k1(episodes.old_BT, episodes.reference_BT)
    rewards_BT = advantages.token_rewards(episodes.rewards_B, kl_BT, episodes.mask_BT, kl_weight)
    gained_BT, returns_BT = advantages.generalised_advantages(
        rewards_BT, episodes.values_BT, episodes.mask_BT, gamma=GAMMA, lam=LAMBDA
    )
    return Credit(advantages.whiten(gained_BT, episodes.mask_BT), returns_BT)


# loss ------------------------------------------------------------------------------------------
class Objective:
    """The loss of a piece; see the top of this file."""

    def __init__(self, settings: Settings, found: Parts, unit: ScoreScale, *, policy_moves: bool) -> None:
        self.settings, self.found, self.unit, self.policy_moves = settings, found, unit, policy_moves

    def __call__(self, rows: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over the piece's tokens, and sums beside it (see ``losses.clipped_policy``)."""
        mask_BT = rows["targets"] >= 0
        values_BT = critic_unit(self.found, self.unit, self.found.value.values(rows["tokens"]))
        value = losses.clipped_value(values_BT, rows["values"], rows["returns"], mask_BT, CLIP)
        metrics = {"value_loss": value.detach()}
        if not self.policy_moves:
            return value, metrics
        policy, temperature = self.found.policy, self.settings.temperature
        own = token_logprobs(policy, policy(rows["tokens"]), rows["targets"], temperature=temperature)
        move = losses.clipped_policy(own.logprobs_BT, rows["old"], rows["advantages"], mask_BT, CLIP)
        entropy = losses.valid(own.entropy_BT, mask_BT).sum()
        metrics |= {"policy_loss": move.loss.detach(), "clipped": move.clipped, "moved": move.moved}
        return move.loss - self.settings.entropy_bonus * entropy + value, metrics


# update ----------------------------------------------------------------------------------------
def update(
    trainer: Trainer, settings: Settings, loss: Objective, episodes: Episodes, credited: Credit
) -> dict[str, float]:
    """Learn from a round's episodes, some optimiser steps for each of ``epochs``; gives the means of their metrics."""
    pieces = episodes.rollout.pieces(settings.micro_batch)
    totals: dict[str, float] = {}
    steps = 0
    for epoch in range(settings.epochs):
        source = runtime.generator(settings.seed, "ppo", trainer.done, f"mini-batches {epoch}")
        for batch in shuffled(pieces, settings.minibatch // settings.micro_batch, source):
            rows = [training_rows(episodes, credited, piece) for piece in batch]
            tokens = sum(int((piece["targets"] >= 0).sum()) for piece in rows)
            metrics = trainer.update(loss, rows, tokens)
            if not steps and metrics.get("moved", 0.0) > 1e-6:
                raise stopped(trainer, "the policy is not the one that was read a moment ago", "This is a bug.")
            totals = {name: totals.get(name, 0.0) + value for name, value in metrics.items()}
            steps += 1
    return {name: value / steps for name, value in totals.items()}


# alarms ----------------------------------------------------------------------------------------
def facts(episodes: Episodes) -> dict[str, float]:
    """What a round's answers say of the policy that gave them."""
    apart_BT = (episodes.old_BT - episodes.rollout.drawn_BT).abs()
    kl_BT = losses.kl_k3(episodes.old_BT, episodes.reference_BT)
    return {
        "score": float(episodes.scores_B.mean()),
        "reward": float(episodes.rewards_B.mean()),
        "kl": episodes.per_answer(kl_BT),
        "entropy": episodes.mean(episodes.entropy_BT),
        "length": float(episodes.mask_BT.sum(1).float().mean()),
        "ended": float(episodes.rollout.ended_B.float().mean()),
        "difference": episodes.mean(apart_BT),
    }


@dataclass(frozen=True)
class Run:
    """A run under way."""

    settings: Settings
    found: Parts
    trainer: Trainer
    engine: Engine


def watch(run: Run, start: Mapping[str, float], episodes: Episodes) -> dict[str, float]:
    """The round's facts. Raises Diverged where they say that something went wrong."""
    settings, trainer = run.settings, run.trainer
    now = facts(episodes)
    if run.engine.checksum() != fingerprint(run.found.policy):
        raise stopped(trainer, "the engine answers with other weights than the trainer's", "This is a bug.")
    if now["difference"] > settings.max_difference:
        why = f"engine and trainer differ by {now['difference']:.3f} nats a token, more than {settings.max_difference}"
        raise stopped(trainer, why, "Try precision fp32.")
    if now["kl"] > settings.max_kl:
        why = f"the policy is {now['kl']:.1f} nats an answer from its reference, more than max_kl {settings.max_kl}"
        raise stopped(trainer, why, "Try a larger kl_weight, a lower lr or fewer iterations.")
    if now["entropy"] < settings.min_entropy * start["entropy"]:
        why = (
            f"the policy's entropy fell from {start['entropy']:.2f} to {now['entropy']:.2f} nats a token: it collapses"
        )
        raise stopped(trainer, why, "Try a larger kl_weight, an entropy_bonus or a lower lr.")
    if float(episodes.scores_B.std(correction=0)) == 0.0:
        say("ppo: the reward gives all answers of a round the same score, so there is nothing to learn from it")
    return now


# run -------------------------------------------------------------------------------------------
def look(run: Run, step: int) -> dict[str, float]:
    """The judge's score of the model of ``step``, where it is its turn; the best one is kept."""
    settings, found = run.settings, run.found
    if found.judge is None or (step % JUDGE_EVERY and step != run.trainer.steps):
        return {}
    score = judged(found.judge, run.engine, found.template, found.validation, settings.sampling("judge"))
    with run.trainer.optimizer.masters_in_place():
        consider(settings.out, step, score, found.write)
    return {"judge": score}


def begin(run: Run, step: int) -> tuple[dict[str, float], ScoreScale, Episodes]:
    """What the start earned, the unit of rewards, and the answers of ``step``, be it the first or a resumed one."""
    settings, baseline = run.settings, run.settings.out / "baseline.json"
    if step == 0:
        episodes = collect(settings, run.found, run.engine, 0, None)
        unit = ScoreScale.of(episodes.scores_B)
        start = watch(run, facts(episodes), episodes) | look(run, 0)
        write_json(baseline, start | {"mean": unit.mean, "deviation": unit.deviation})
        return start, unit, episodes
    start = read_json(baseline)
    unit = ScoreScale(start["mean"], start["deviation"])
    return start, unit, collect(settings, run.found, run.engine, step, unit)


def open_run(settings: Settings, found: Parts) -> Run:
    """The run's folder, begun or gone on with, and the engine on the policy's own tensors."""
    try_out(found.template, (found.reward, found.conversations), (found.judge, found.validation))

    def save(target: Path) -> None:
        if found.judge is not None and trainer.done == trainer.steps:
            copy_best(settings.out, target)
        else:
            found.write(target)

    trainer = Trainer(
        settings.out,
        found.policy,
        settings.optimization(),
        steps=settings.warmup + settings.iterations,
        stage="ppo",
        settings=settings,
        save=save,
        extra={"value": (found.value, settings.value_lr)},
        inputs={"prompts": settings.prompts} | ({"validation": settings.validation} if settings.validation else {}),
    )
    asked = found.conversations + found.validation
    engine = engine_for(found.policy, found.template, asked, settings.episodes, settings.max_tokens)
    return Run(settings, found, trainer, engine)


def run(settings: Settings) -> Path:
    """Train, or go on with it; returns the finished model's folder. Raises Refusal."""
    settings.check()
    if (done := checkpoint.finished(settings.out, "ppo", settings)) is not None:
        return done
    run = open_run(settings, parts(settings))
    episodes: Episodes | None = None
    for iteration in run.trainer.remaining():
        if episodes is None:
            start, unit, episodes = begin(run, iteration)
        credited = credit(episodes, settings.kl_weight)
        metrics = {
            "explained": advantages.explained_variance(episodes.values_BT, credited.returns_BT, episodes.mask_BT)
        }
        loss = Objective(settings, run.found, unit, policy_moves=iteration >= settings.warmup)
        metrics |= update(run.trainer, settings, loss, episodes, credited)
        episodes = collect(settings, run.found, run.engine, iteration + 1, unit)
        metrics |= watch(run, start, episodes) | look(run, iteration + 1)
        run.trainer.advance(metrics)
    return run.trainer.folder
