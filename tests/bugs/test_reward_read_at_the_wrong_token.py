"""A score that depends on padding, on the batch, or on an end token inside the prompt.

Sources: transformers#35352, #35909; trl#937; gpt-neox#1285; reward-bench#137.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palmier.data.template import Template
from palmier.feedback.reward import ModelReward
from palmier.model.checkpoint import load
from palmier.model.heads import RewardModel
from palmier.records import Answer, Conversation, Message, Ranking
from palmier.train import reward_model

World = Any


@pytest.fixture(scope="module")
def model(tiny_world: World) -> RewardModel:
    return RewardModel.from_decoder(load(tiny_world.model, torch.float32), 3)


@pytest.fixture(scope="module")
def template(tiny_world: World) -> Template:
    return Template.load(tiny_world.model)


@pytest.fixture(scope="module")
def talk(template: Template) -> tuple[list[Conversation], list[Answer], list[list[int]]]:
    """32 conversations with end tokens inside the prompt, answers of all lengths, and their ids."""
    asked, answers, ids = [], [], []
    for i in range(32):
        turns = [Message("user", "Hi"), Message("assistant", "Bo.")] * (i % 2)
        asked.append(Conversation((*turns, Message("user", "Who?"))))
        answers.append(Answer("tea " * (i % 5)))
        ids.append(template.prompt(asked[-1]) + template.answer_ids(answers[-1]))
    return asked, answers, ids


@torch.no_grad()
def alone(model: RewardModel, ids: list[int]) -> float:
    """The slow way: nothing but the row itself, the head on its last hidden state."""
    return float((model.model(torch.tensor([ids]))[0, -1].double() * model.score.weight[0].double()).sum())


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("padding", [0, 1, 17])
def test_padding_does_not_change_the_score(
    model: RewardModel, template: Template, talk: Any, side: str, padding: int
) -> None:
    end = template.stop_ids[0]  # the worst padding: it looks like the end of an answer
    for ids in talk[2][::5]:
        pad = [end] * padding
        row = torch.tensor([pad + ids if side == "left" else ids + pad])
        before = padding if side == "left" else 0
        places = torch.arange(row.shape[1])
        real = (places >= before) & (places < before + len(ids))
        last = torch.tensor([before + len(ids) - 1])
        if side == "left":
            positions = (places - before).clamp(min=0)[None]
            got = model.scores(row, last, positions, segments_BT=real.long()[None])
        else:
            got = model.scores(row, last)
        assert float(got) == pytest.approx(alone(model, ids), abs=1e-5)


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_company_does_not_change_the_score(model: RewardModel, template: Template, talk: Any, batch: int) -> None:
    asked, answers, ids = talk
    scores = ModelReward(model, template, batch=batch).score(asked, answers)
    for score, row in zip(scores, ids, strict=True):
        assert score == pytest.approx(alone(model, row), abs=1e-5)


@torch.no_grad()
def test_training_reads_the_same_score(model: RewardModel, template: Template, talk: Any) -> None:
    asked, answers, _ = talk
    rankings = [Ranking(c, (a, Answer("Bo had tea.")), (1, 2)) for c, a in zip(asked, answers, strict=True)]
    groups = reward_model.RankedGroups(rankings, template, 64)
    found = reward_model.Objective(model).scores(groups.at(range(32)))
    for number, ranking in enumerate(rankings):
        for k, answer in enumerate(ranking.answers):
            row = template.prompt(ranking.conversation) + template.answer_ids(answer)
            assert float(found[number, k]) == pytest.approx(alone(model, row), abs=1e-5)
