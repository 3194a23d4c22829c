"""Improve: rankings in, a version that was measured against the one that answers out.

In:  the home's rankings (those with consent) and the version to start from.
Out: a version with its card; the pointer ``current`` moves to it only where it is shown to be better.

1 rankings   split by prompt into a half that moves the policy and one that judges it
2 reward     a reward model from the policy's half: PPO's reward; kept as ``models/reward`` in the home
3 judge      a reward model from the judge's half, or a program
4 policy     DPO or PPO
5 answers    the version that answers and the candidate answer the judge's prompts, which the policy never saw
6 decision   the judge is tried on the policy's half, which it never saw; then ``evaluate.card.decide``

Each part is written whole into ``improve/NNNN`` (attempts.py) and the stages resume by themselves,
so the same command goes on where a dead one stood. When the run has ended, what trained there is
dropped. This is the one file that calls stages: it is their sequence.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from palmier.data.jsonl import read_lines
from palmier.data.prompts import read_rankings, write_jsonl
from palmier.errors import Refusal
from palmier.evaluate.card import Evidence, Verdict, decide
from palmier.evaluate.comparison import Heard, Side, answer, collected_sampling, compare
from palmier.evaluate.judges import accuracy
from palmier.feedback.reward import ModelReward, ProgramReward, Reward
from palmier.feedback.store import open_store
from palmier.records import Answer
from palmier.scale import runtime
from palmier.train import attempts, dpo, ppo, reward_model
from palmier.train.log import say
from palmier.train.loop import Diverged
from palmier.train.sizing import DPO_LR, PPO_LR, REWARD_LR, VALUE_LR, Sizing
from palmier.versions import Version, Versions
from palmier.workspace import Workspace, read_json, write_json

JUDGE_SHARE = 0.5
"""Share of the prompts that judge, a program too: so each prompt stays in its half whoever judges."""

MOST_PROMPTS = 256
"""Prompts that are answered, and that a judge is tried on: the interval is narrow enough with them."""

ANSWERS = 100
"""Answers of each version in a comparison of few prompts: more than about two a prompt say little more."""

REWARD_EPOCHS = 2

FEW_PROMPTS = 100
"""Below these DPO sees each ranking twice."""


@dataclass(frozen=True)
class Settings:
    """How to make a better version out of rankings."""

    home: Path  # the home of versions and rankings
    base: str = ""  # the version to start from; the current one where empty
    method: Literal["dpo", "ppo"] = "dpo"  # how the policy moves; PPO takes several times as long
    judge: str = "none"  # a program that judges, module:function or file.py:function; none: a reward model from half of the rankings
    lr: float = 0.0  # peak learning rate of the policy; 0: by the model's size
    reward_lr: float = 0.0  # peak learning rate of the reward models; 0: by the model's size
    beta: float = 0.1  # how strongly the policy holds to its start: DPO's β (1/nats), PPO's price of a nat of KL
    epochs: int = 0  # times that DPO sees each ranking; 0: twice for fewer than 100 prompts, else once
    answers: int = 0  # answers of each version to each held-out prompt; 0: about 100 in all, from 2 to 8
    seed: int = 0  # of the split, the orders and the draws
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the computation; masters are always fp32

    def check(self) -> None:
        """Raise Refusal where these settings cannot work."""
        if self.method not in ("dpo", "ppo"):
            raise Refusal(f"method {self.method!r} is unknown: use dpo or ppo")
        for name in ("lr", "reward_lr", "epochs", "answers"):
            if getattr(self, name) < 0:
                raise Refusal(f"{name} {getattr(self, name)} is negative: 0 lets Palmier choose")
        if self.answers > 64:
            raise Refusal(f"answers {self.answers} is more than 64")
        if self.epochs and self.method != "dpo":
            raise Refusal(
                f"epochs {self.epochs} is a setting of dpo: with {self.method} the rounds follow from the model"
            )
        if not self.beta > 0:
            raise Refusal(f"beta {self.beta} must be above 0")
        if self.judge != "none":
            ProgramReward(self.judge)

    def comparable(self) -> dict[str, Any]:
        """All that a run which goes on must share with the one that was begun."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "home"}


@dataclass(frozen=True)
class Outcome:
    """How an improvement ended: ``version`` is the candidate ("" where none was made), ``sentence`` the reason."""

    promoted: bool
    version: str
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)


def run(settings: Settings, *, fresh: bool = False) -> Outcome:
    """Improve, or go on with the improvement that did not end; ``fresh`` sets that one aside.

    Raises Refusal where another process is at work in the home, where there are too few
    rankings, and where the open improvement was begun with other settings.
    """
    settings.check()
    workspace = Workspace(settings.home)
    with workspace.exclusively("palmier improve"):
        _try_judge(settings, workspace)
        while True:
            work = _open(settings, workspace, fresh)
            try:
                outcome = work.go()
                break
            except Diverged as stopped:
                outcome = Outcome(False, "", f"stopped, and version {work.old.name} is as it was: {stopped}")
                break
            except attempts.Withdrawn:
                fresh = False  # it is still open: `attempts.unfinished` says why it is dropped
        write_json(work.folder / attempts.OUTCOME, dataclasses.asdict(outcome))
        attempts.tidy(work.folder)
        return outcome


def _open(settings: Settings, workspace: Workspace, fresh: bool) -> Improvement:
    """The improvement to go on with, or a new one."""
    wanted = settings.comparable()
    folder = attempts.unfinished(workspace, wanted, fresh)
    return Improvement(settings, workspace, folder or attempts.begin(workspace, settings.base, JUDGE_SHARE, wanted))


class Improvement:
    """One run through the parts, in a folder that ``attempts.begin`` wrote."""

    def __init__(self, settings: Settings, workspace: Workspace, folder: Path) -> None:
        self.settings, self.workspace, self.folder = settings, workspace, folder
        self.versions = Versions(workspace)
        begun = read_json(folder / attempts.BEGUN)
        self.base: Version = self.versions.get(begun["base"])
        self.old: Version = self.versions.get(begun["current"])
        self.policy_half = read_rankings(folder / attempts.POLICY)
        self.judge_half = read_rankings(folder / attempts.JUDGE)
        self.prompts = list(dict.fromkeys(ranking.conversation for ranking in self.judge_half))[:MOST_PROMPTS]
        self.sampling = collected_sampling(self.policy_half + self.judge_half, settings.seed)
        self.dtype = runtime.choose_dtype(settings.precision)
        self.sizing = Sizing.of(self.base.folder)

    def go(self) -> Outcome:
        """The parts in their order; what is done already returns at once.

        Raises attempts.Withdrawn at the next part, or before a version is made, when somebody takes consent back.
        """
        say(f"Improving version {self.base.name} ({self.base.label}) in {self.folder}")
        say(f"1 of 6: {len(self.policy_half)} rankings move the policy, {len(self.judge_half)} judge it")
        self._part("2 of 6: a reward model from the policy's half")
        reward = self._reward_model("reward", attempts.POLICY)
        judge = self._judge()
        self._part(f"4 of 6: {self.settings.method.upper()} moves the policy")
        policy = self._dpo() if self.settings.method == "dpo" else self._ppo(reward)
        attempts.drop_older_steps(policy)
        self._part(f"5 of 6: both versions answer {len(self.prompts)} prompts that the policy never saw")
        old = Side(self.old.folder, self._answers("old", self.old.folder))
        new = Side(policy, self._answers("new", policy))
        self._part("6 of 6: the judge is tried, and compares")
        unseen = self.policy_half[:MOST_PROMPTS]
        evidence = compare(judge, unseen, self.prompts, new, old, seed=self.settings.seed, dtype=self.dtype)
        return self._conclude(policy, reward, evidence)

    def _part(self, title: str) -> None:
        """Begin a part, if what is learnt from may still be used: training takes hours, and consent is taken back at any time."""
        attempts.check_allowed(self.folder, self.workspace)
        say(title)

    def _judge(self) -> Reward:
        if self.settings.judge != "none":
            self._part(f"3 of 6: the judge is the program {self.settings.judge}")
            return ProgramReward(self.settings.judge)
        self._part("3 of 6: the judge, a reward model from the other half")
        return ModelReward.load(self._reward_model("judge", attempts.JUDGE), dtype=self.dtype)

    def _reward_model(self, name: str, half: str) -> Path:
        how = self.sizing.stage(read_rankings(self.folder / half))
        made = reward_model.run(
            reward_model.Settings(
                out=self.folder / name,
                model=str(self.base.folder),
                data=self.folder / half,
                validation=0.0,
                batch=how.batch,
                micro_batch=how.micro_batch,
                epochs=REWARD_EPOCHS,
                lr=self.settings.reward_lr or REWARD_LR * self.sizing.factor,
                save_every=how.save_every,
                seed=self.settings.seed,
                precision=self.settings.precision,
            )
        )
        attempts.drop_older_steps(made)
        return made

    def _dpo(self) -> Path:
        how = self.sizing.stage(self.policy_half)
        return dpo.run(
            dpo.Settings(
                out=self.folder / "policy",
                model=str(self.base.folder),
                data=self.folder / attempts.POLICY,
                validation=0.0,
                beta=self.settings.beta,
                batch=how.batch,
                micro_batch=how.micro_batch,
                epochs=self.settings.epochs or (2 if how.prompts < FEW_PROMPTS else 1),
                lr=self.settings.lr or DPO_LR * self.sizing.factor,
                save_every=how.save_every,
                seed=self.settings.seed,
                precision=self.settings.precision,
            )
        )

    def _ppo(self, reward: Path) -> Path:
        prompts = self.folder / "prompts.jsonl"
        if not prompts.is_file():
            write_jsonl(prompts, dict.fromkeys(ranking.conversation for ranking in self.policy_half))
        how = self.sizing.rounds(self.policy_half, self.sampling.max_tokens)
        return ppo.run(
            ppo.Settings(
                out=self.folder / "policy",
                model=str(self.base.folder),
                reward=str(reward),
                prompts=prompts,
                iterations=how.iterations,
                warmup=how.warmup,
                episodes=how.episodes,
                micro_batch=how.micro_batch,
                max_tokens=self.sampling.max_tokens,
                temperature=self.sampling.temperature or 1.0,
                lr=self.settings.lr or PPO_LR * self.sizing.factor,
                value_lr=VALUE_LR * self.sizing.factor,
                kl_weight=self.settings.beta,
                save_every=2,
                seed=self.settings.seed,
                precision=self.settings.precision,
            )
        )

    def _answers(self, name: str, folder: Path) -> list[list[Answer]]:
        """Drawn at the temperature at which the ranked answers were, the same seeds for both versions."""
        path = self.folder / f"{name}.jsonl"
        if not path.is_file():
            with _bar(f"The {name} version answers") as heard:
                count = self.settings.answers or min(8, max(2, ANSWERS // len(self.prompts)))
                drawn = answer(folder, self.prompts, self.sampling, count, name, self.dtype, heard)
            write_jsonl(path, [{"answers": [one.to_json() for one in some]} for some in drawn])
        return [[Answer.from_json(one) for one in value["answers"]] for _, value in read_lines(path)]

    def _conclude(self, policy: Path, reward: Path, evidence: Evidence) -> Outcome:
        candidate = attempts.candidate(self.folder, self.workspace)
        verdict = self._verdict(evidence, candidate)
        if candidate is None:
            attempts.check_allowed(self.folder, self.workspace)
            trained = ModelReward.load(reward, dtype=self.dtype)
            reward_accuracy = accuracy(trained, self.judge_half[:MOST_PROMPTS], self.settings.seed)
            candidate = self.versions.add(
                policy,
                label=f"{self.base.label} + {self.settings.method.upper()}",
                parent=self.base.name,
                improve=self.folder.name,
                rankings=len(self.policy_half) + len(self.judge_half),
                compared_with=self.old.name,
                verdict=verdict.sentence,
                evidence=evidence.to_json(),
                reward_accuracy=dataclasses.asdict(reward_accuracy),
                settings=self.settings.comparable(),
            )
        attempts.note_uses(self.folder, self.workspace, candidate.name)
        attempts.copy_model(reward, self.workspace.models / "reward")
        if verdict.promote:
            self.versions.promote(candidate.name)
        return Outcome(verdict.promote, candidate.name, verdict.sentence, evidence.to_json())

    def _verdict(self, evidence: Evidence, candidate: Version | None) -> Verdict:
        """What the evidence says, unless somebody promoted a version that it says nothing about."""
        verdict, current = decide(evidence), self.versions.current()
        known = {self.old.name, candidate.name if candidate else ""}
        if verdict.promote and current is not None and current.name not in known:
            return Verdict(False, f"not promoted: version {current.name} was promoted while this one was made")
        return verdict


def _try_judge(settings: Settings, workspace: Workspace) -> None:
    """Let a judging program score one answer, so that one that fails does so before the work, not after it."""
    if settings.judge == "none":
        return
    with contextlib.closing(open_store(workspace)) as known:
        first = next(known.preferences(), None)
        if first is not None:
            ranking = first.ranking
            ProgramReward(settings.judge).score([ranking.conversation], ranking.answers[:1])


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Heard]:
    """A moving bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title)
        yield lambda done, total: progress.update(task, completed=done, total=total)
