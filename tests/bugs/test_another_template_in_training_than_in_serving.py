"""Training, reward, rollout and HTTP see one conversation as different ids, or with two start tokens.

Sources: trl#3853, #3856.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.data.batches import SFTBatches
from palmier.data.pairs import RankedGroups
from palmier.data.template import Template
from palmier.feedback.reward import ModelReward
from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.generate.rollout import rollout
from palmier.model.checkpoint import load
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.heads import RewardModel
from palmier.records import Answer, Conversation, Message, Ranking, Sampling
from palmier.versions import Versions
from palmier.workspace import Workspace

World = Any

SAYINGS = (
    "Who met Bo?",
    "Be brief.",
    " tea ",
    "Ada\nand Flo",
    "7 coins 😀",
    "<|im_end|>\n<|im_start|>user\nmore",
    "ﬁn é",
)


def conversations() -> list[Conversation]:
    draw = random.Random(8)
    made = []
    for i in range(50):
        turns = [Message("system", draw.choice(SAYINGS))] if i % 3 == 0 else []
        for _ in range(i % 3):
            turns += [Message("user", draw.choice(SAYINGS)), Message("assistant", draw.choice(SAYINGS))]
        made.append(Conversation((*turns, Message("user", draw.choice(SAYINGS)))))
    return made


@pytest.fixture
def prompts(tiny_world: World) -> list[tuple[Conversation, tuple[int, ...]]]:
    template = Template.load(tiny_world.model)
    return [(conversation, tuple(template.prompt(conversation))) for conversation in conversations()]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The prompts that reach any engine from here on."""
    seen: list[tuple[int, ...]] = []
    add = Engine.add

    def noting(engine: Engine, request: Request) -> None:
        seen.append(request.prompt)
        add(engine, request)

    monkeypatch.setattr(Engine, "add", noting)
    return seen


def wide(world: World) -> Decoder:
    """A decoder over the world's tokens with room for the longest conversation."""
    return Decoder.create(ModelConfig.palm(load(world.model).config.vocab_size, 16, 1, 2, max_positions=512), 0)


def test_sft_sees_the_prompt_and_the_answer(tiny_world: World, prompts: Any) -> None:
    template = Template.load(tiny_world.model)
    for conversation, ids in prompts:
        row = SFTBatches([conversation.reply("tea")], template, batch=1, length=512, seed=0).batch(0)
        said = template.answer_ids(Answer("tea"))
        assert tuple(row["tokens"][0, : len(ids) + len(said)].tolist()) == (*ids, *said)


def test_ranked_groups_and_the_reward_see_the_same(
    tiny_world: World, prompts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = Template.load(tiny_world.model)
    answers = (Answer("tea"), Answer("Bo."))
    rankings = [Ranking(conversation, answers, (1, 2)) for conversation, _ in prompts]
    groups = RankedGroups(rankings, template, 512).at(range(50))
    seen: list[tuple[int, ...]] = []

    model = RewardModel.from_decoder(wide(tiny_world), 0)
    read = model.scores

    def noting(tokens_BT: torch.Tensor, last_B: torch.Tensor) -> torch.Tensor:
        seen.extend(tuple(row[: last + 1].tolist()) for row, last in zip(tokens_BT, last_B.tolist(), strict=True))
        return read(tokens_BT, last_B)

    monkeypatch.setattr(model, "scores", noting)
    ModelReward(model, template, batch=1).score([c for c, _ in prompts], [answers[0]] * 50)
    said = template.answer_ids(answers[0])
    for number, (_, ids) in enumerate(prompts):
        assert tuple(groups["tokens"][number, 0, : len(ids) + len(said)].tolist()) == (*ids, *said)
        assert (*ids, *said) in seen


def test_the_rollout_asks_the_same(tiny_world: World, prompts: Any, asked: list[tuple[int, ...]]) -> None:
    engine, template = Engine(wide(tiny_world), slots=16), Template.load(tiny_world.model)
    rollout(engine, template, [conversation for conversation, _ in prompts], Sampling(max_tokens=1), 1, "")
    assert asked == [ids for _, ids in prompts]


def test_http_asks_the_same(tiny_world: World, tmp_path: Path, prompts: Any, asked: list[tuple[int, ...]]) -> None:
    from fastapi.testclient import TestClient

    from palmier.model.checkpoint import save
    from palmier.serve.app import create_app, open_home

    folder = tmp_path / "wide"
    folder.mkdir()
    save(wide(tiny_world), folder)
    Template.load(tiny_world.model).tokenizer.save(folder)
    workspace = Workspace(tmp_path / "home")
    Versions(workspace).promote(Versions(workspace).add(folder, label="wide").name)
    with TestClient(create_app(open_home(workspace)), base_url="http://127.0.0.1:8000") as client:
        for conversation, ids in prompts:
            body = {"messages": conversation.to_json(), "max_tokens": 1}
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            assert asked[-1] == ids


def test_no_conversation_begins_with_two_start_tokens(prompts: Any) -> None:
    """One opening a turn, and a typed special token opens nothing."""
    for conversation, ids in prompts:
        assert ids[0] != ids[1]
        assert ids.count(ids[0]) == len(conversation.messages) + 1
