"""The benchmark asks what it says it asks, and counts what it says it counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from benchmarks.programs.palmier import Program
from benchmarks.programs.timing import Timing
from benchmarks.workloads import CONCURRENT, DECODE, FIRST, GROWTH, ROLLOUT, TASKS, Task, prompts, text_ids
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from palmier.model.checkpoint import save
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(["the engine"], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return path


@pytest.mark.parametrize("task", [*TASKS, *GROWTH], ids=lambda task: task.name)
def test_prompts_have_their_length_and_no_round_repeats_another(task: Task, tokenizer: Path) -> None:
    ids = text_ids(tokenizer)
    rounds = [prompts(ids, task, number) for number in range(3)]
    asked = [tuple(prompt[:24]) for found in rounds for prompt in found]
    assert len(set(asked)) == len(asked), "an answer could come out of a cache"
    for found in rounds:
        assert len(found) == task.prompts
        assert max(len(prompt) for prompt in found) == task.prompt
        assert min(len(prompt) for prompt in found) == (task.prompt // 2 if task.uneven else task.prompt)


def test_the_first_token_is_left_out_of_decoding_alone() -> None:
    assert Timing(seconds=3.0, first=1.0, tokens=5).figure(5) == 2.0
    assert Timing(seconds=4.0, first=None, tokens=64).figure(4) == 16.0
    assert Timing(seconds=0.25, first=0.25, tokens=1).figure(1) == 0.25


@pytest.mark.parametrize("task", [FIRST[0], DECODE, CONCURRENT, ROLLOUT], ids=lambda task: task.name)
def test_palmier_draws_every_token_that_was_asked_for(task: Task, tokenizer: Path, tmp_path: Path) -> None:
    save(Decoder.create(ModelConfig.palm(400, 32, 1, 2), seed=1), tmp_path / "model")
    small = dataclasses.replace(task, tokens=min(task.tokens, 4))
    timing = Program(tmp_path / "model", "bf16").run(small, prompts(text_ids(tokenizer), small, 0))
    assert timing.tokens == small.prompts * small.tokens
    assert (timing.first is not None) == (small.prompts == 1)
    assert 0 < (timing.first or timing.seconds) <= timing.seconds
