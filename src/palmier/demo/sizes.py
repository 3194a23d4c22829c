"""How large the demo is: full, small and loop. Chosen on the validation part of worlds of other seeds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Every number that decides how long a demo takes and how well its model does."""

    name: str
    minutes: int  # what it may take on two idle cores
    characters: int  # of pre-training text; about 3.8 are a token
    rolls: float  # weight of rolls called twice in it: a small model learns to copy from them
    vocabulary: int  # tokens of the tokenizer
    layers: int  # of the PaLM
    hidden_size: int  # its width; heads have 64
    length: int  # tokens of a row, and of a prompt with its answer
    pretrain_batch: int  # rows of a step
    pretrain_lr: float
    demonstrations: int  # conversations for SFT
    sft_epochs: int
    sft_lr: float
    prompts: int  # that volunteers rank answers to
    answers: int  # K: answers that are ranked to a prompt
    curve: tuple[int, ...]  # numbers of rankings that reward models are trained on; the last one is used
    reward_lr: float
    reward_epochs: int
    dpo_lr: float
    dpo_beta: float
    dpo_epochs: int
    ppo_warmup: int  # rounds in which only the critic learns
    ppo_iterations: int
    ppo_episodes: int  # answers of an iteration
    ppo_lr: float
    ppo_value_lr: float
    ppo_kl: float  # weight of the distance from SFT
    validation_prompts: int  # for the curve of gold over PPO
    test_prompts: int  # read once, by the comparison
    test_samples: int  # answers of each version to a test prompt
    answer_tokens: int = 78  # an answer's most; the world's longest demonstration has 77
    temperature: float = 1.0  # at which answers are ranked, learnt from and compared

    @property
    def heads(self) -> int:
        return self.hidden_size // 64


FULL = Size(
    name="full",
    minutes=25,
    characters=23_000_000,
    rolls=0.0,
    vocabulary=2048,
    layers=3,
    hidden_size=256,
    length=144,
    pretrain_batch=16,
    pretrain_lr=2.5e-3,
    demonstrations=8000,
    sft_epochs=2,
    sft_lr=1e-3,
    prompts=800,
    answers=4,
    curve=(100, 200, 400, 800),
    reward_lr=1e-3,
    reward_epochs=2,
    dpo_lr=2e-4,
    dpo_beta=0.1,
    dpo_epochs=1,
    ppo_warmup=4,
    ppo_iterations=12,
    ppo_episodes=128,
    ppo_lr=2e-4,
    ppo_value_lr=3e-4,
    ppo_kl=0.2,
    validation_prompts=200,
    test_prompts=600,
    test_samples=2,
)

SMALL = Size(
    name="small",
    minutes=6,
    characters=14_000_000,
    rolls=0.1,
    vocabulary=2048,
    layers=2,
    hidden_size=192,
    length=144,
    pretrain_batch=8,
    pretrain_lr=3e-3,
    demonstrations=4000,
    sft_epochs=2,
    sft_lr=1.5e-3,
    prompts=400,
    answers=4,
    curve=(100, 200, 400),
    reward_lr=1e-3,
    reward_epochs=2,
    dpo_lr=3e-4,
    dpo_beta=0.1,
    dpo_epochs=1,
    ppo_warmup=3,
    ppo_iterations=8,
    ppo_episodes=96,
    ppo_lr=3e-4,
    ppo_value_lr=3e-4,
    ppo_kl=0.2,
    validation_prompts=96,
    test_prompts=300,
    test_samples=1,
)

LOOP = Size(
    name="loop",
    minutes=4,
    characters=10_000_000,
    rolls=0.1,
    vocabulary=1536,
    layers=2,
    hidden_size=192,
    length=144,
    pretrain_batch=8,
    pretrain_lr=3e-3,
    demonstrations=4000,
    sft_epochs=2,
    sft_lr=1.5e-3,
    prompts=480,
    answers=4,
    curve=(480,),
    reward_lr=1e-3,
    reward_epochs=2,
    dpo_lr=2e-4,
    dpo_beta=0.1,
    dpo_epochs=3,
    ppo_warmup=3,
    ppo_iterations=12,
    ppo_episodes=96,
    ppo_lr=2e-4,
    ppo_value_lr=3e-4,
    ppo_kl=0.2,
    validation_prompts=48,
    test_prompts=320,
    test_samples=2,
)
