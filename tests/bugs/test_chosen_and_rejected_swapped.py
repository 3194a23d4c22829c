"""The worse answer is taught as the better one.

Rank 1 is the best; the score of answer i of a pair (i, j) with weight stands above that of j.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.data.pairs import RankedGroups
from palmier.data.prompts import write_jsonl
from palmier.data.template import Template
from palmier.feedback.reward import ModelReward
from palmier.model.checkpoint import load
from palmier.records import Answer, Conversation, Ranking
from palmier.train import dpo, losses, reward_model
from palmier.train.answers import answer_logprobs, answer_rows

World = Any

GOOD, FAIR, BAD = Answer("Bo had tea."), Answer("Ada met Bo."), Answer("Gus paid 7.")


@pytest.fixture
def rankings(tmp_path: Path) -> Path:
    """GOOD above FAIR above BAD, shown in both orders."""
    path = tmp_path / "rankings.jsonl"
    values = []
    for i in range(24):
        asked = Conversation.ask(f"Who met Bo? {i}")
        values.append(Ranking(asked, (GOOD, FAIR, BAD), (1, 2, 3)) if i % 2 else Ranking(asked, (BAD, GOOD), (2, 1)))
    write_jsonl(path, values)
    return path


def test_rank_1_is_the_better_side_of_a_pair(tiny_world: World) -> None:
    ranking = Ranking(Conversation.ask("Who?"), (BAD, GOOD), (2, 1))
    weights = RankedGroups([ranking], Template.load(tiny_world.model), 64).at([0])["weights"][0]
    assert weights.tolist() == [[0, 0], [1, 0]]


def test_the_loss_falls_where_the_better_answer_scores_higher() -> None:
    weights = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])  # answer 0 above answer 1
    right, wrong = torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0, 1.0]])
    assert losses.pairwise(right, weights).loss < losses.pairwise(wrong, weights).loss
    assert losses.pairwise(right, weights).right == 1


def test_the_reward_model_prefers_what_people_preferred(tiny_world: World, rankings: Path, tmp_path: Path) -> None:
    settings = reward_model.Settings(tmp_path / "run", str(tiny_world.model), rankings, lr=5e-3, epochs=3)
    reward = ModelReward.load(reward_model.run(settings))
    scores = reward.score([Conversation.ask("Who met Bo? 99")] * 3, [GOOD, FAIR, BAD])
    assert scores[0] > scores[2]
    assert scores[1] > scores[2]


def test_dpo_makes_likelier_what_people_preferred(tiny_world: World, rankings: Path, tmp_path: Path) -> None:
    settings = dpo.Settings(tmp_path / "run", str(tiny_world.model), rankings, lr=1e-3, epochs=3, max_drop=9.0)
    model = dpo.run(replace(settings, precision="fp32"))
    ranking = Ranking(Conversation.ask("Who met Bo? 99"), (GOOD, BAD), (1, 2))
    groups = RankedGroups([ranking], Template.load(model), 64).at([0])
    with torch.no_grad():
        before, after = (answer_logprobs(load(folder), answer_rows(groups)) for folder in (tiny_world.model, model))
    gain = (after - before).tolist()
    assert gain[0] > gain[1]
