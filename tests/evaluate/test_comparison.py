from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from palmier.data.template import Template
from palmier.evaluate.comparison import Side, answer, collected_sampling, compare
from palmier.evaluate.perplexity import answer_loss
from palmier.model import checkpoint
from palmier.model.decoder import Decoder
from palmier.records import Answer, Conversation, Ranking, Sampling

ASKED = [Conversation.ask("Write to Ann."), Conversation.ask("And to Bob, about the red book?")]
PLAIN = Sampling(max_tokens=12, seed=4)


class Shortest:
    def score(self, conversations: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
        return [-float(len(one.text)) for one in answers]


@pytest.fixture
def folder(decoder: Decoder, template: Template, tmp_path: Path) -> Path:
    checkpoint.save(decoder, tmp_path)
    template.tokenizer.save(tmp_path)
    return tmp_path


def test_the_temperature_of_a_comparison_is_the_one_that_was_ranked() -> None:
    hot, cool = Sampling(0.9, 40, 0.95, 160, seed=1), Sampling(0.2, 0, 1.0, 200, seed=2)
    drawn = [Answer("x", tokens=(1,), sampling=s) for s in (hot, replace(hot, seed=9, max_tokens=80), cool)]
    rankings = [Ranking(ASKED[0], (*drawn, Answer("typed")), (1, 2, 3, 4))]
    assert collected_sampling(rankings, 7) == replace(hot, max_tokens=200, seed=7)
    typed = [Ranking(ASKED[0], (Answer("a"), Answer("b")), (1, 2))]
    assert collected_sampling(typed, 7) == Sampling(seed=7)


def test_the_same_seeds_give_the_same_answers(folder: Path) -> None:
    once, again = (answer(folder, ASKED, PLAIN, 3, "0001", torch.float32) for _ in range(2))
    assert once == again
    assert [len(some) for some in once] == [3, 3]
    assert len({one.text for some in once for one in some}) > 3
    assert answer(folder, ASKED, replace(PLAIN, seed=5), 3, "0001", torch.float32) != once


def test_the_loss_of_answers_is_what_the_engine_said_of_them(
    folder: Path, decoder: Decoder, template: Template
) -> None:
    answers = answer(folder, ASKED, PLAIN, 8, "0001", torch.float32)
    prompts = [template.prompt(asked) for asked, some in zip(ASKED, answers, strict=True) for _ in some]
    said = [list(one.tokens) for some in answers for one in some]
    logprobs = [value for some in answers for one in some for value in one.logprobs]
    assert answer_loss(decoder, prompts, said) == pytest.approx(-sum(logprobs) / len(logprobs), abs=1e-4)


def test_a_version_against_itself_is_level(folder: Path) -> None:
    answers = answer(folder, ASKED, PLAIN, 4, "0001", torch.float32)
    side = Side(folder, answers)
    unseen = [Ranking(ASKED[0], (Answer("long"), Answer("x")), (2, 1))]
    found = compare(Shortest(), unseen, ASKED, side, side, seed=0, dtype=torch.float32)
    assert found.win_rate.mean == 0.5
    assert found.equal_length.mean == pytest.approx(0.5, abs=1e-6)
    assert found.judge.mean == 1.0
    assert found.ended_old == found.ended_new
    assert found.loss_old == found.loss_new


def test_what_speaks_otherwise_loses_likelihood(folder: Path, template: Template, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    checkpoint.save(Decoder.create(checkpoint.load_config(folder), seed=99), other)
    template.tokenizer.save(other)
    old, new = (Side(at, answer(at, ASKED, PLAIN, 4, "x", torch.float32)) for at in (folder, other))
    unseen = [Ranking(ASKED[0], (Answer("long"), Answer("x")), (2, 1))]
    found = compare(Shortest(), unseen, ASKED, new, old, seed=0, dtype=torch.float32)
    assert found.loss_new > found.loss_old + 0.5
