"""A double start token, or another template in training than in serving (trl#3853, #3856).

SFT, reward training, reward scoring, rollout and HTTP turn the same 50 conversations into the
same ids, and each turn begins with one start token.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from torch import Tensor

from palmier.data.batches import SFTBatches
from palmier.data.pairs import RankedGroups
from palmier.data.template import Template
from palmier.data.tokenizer import CHATML, Tokenizer, train
from palmier.feedback.reward import ModelReward
from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.generate.rollout import rollout
from palmier.model.checkpoint import save
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.heads import RewardModel
from palmier.records import Answer, Conversation, Document, Message, Ranking, Sampling
from palmier.serve.app import create_app, open_home
from palmier.versions import Versions
from palmier.workspace import Workspace

DEFAULT = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
WORDS = ("Hello", " world", "\n", "  ", "<|im_end|>", "<|im_start|>assistant\n", "2+2=4", "é", "🌴", "<|endoftext|>")
Ids = tuple[int, ...]


def fifty() -> list[tuple[Conversation, str]]:
    """Conversations of one to three turns, with or without a system message, and an answer to each."""
    draw = random.Random(8)

    def text() -> str:
        return "".join(draw.choices(WORDS, k=draw.randint(1, 5)))

    found = []
    for number in range(50):
        messages = [Message("system", text())] if number % 3 == 0 else []
        for _ in range(number % 3):
            messages += [Message("user", text()), Message("assistant", text())]
        found.append((Conversation((*messages, Message("user", f"{number} {text()}"))), text()))
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train([Document("Hello world, user assistant system 🌴é " * 9, "")], 280)
    Tokenizer(tokenizer._backend, tokenizer.config | {"chat_template": DEFAULT + CHATML}).save(folder)
    shape = ModelConfig.palm(tokenizer.size, 32, 1, 2, max_positions=512, eos_id=2)
    save(Decoder.create(shape, 0), folder)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Ids]:
    """The prompts of every request that reaches any engine."""
    prompts: list[Ids] = []
    add = Engine.add

    def record(self: Engine, request: Request) -> None:
        prompts.append(request.prompt)
        add(self, request)

    monkeypatch.setattr(Engine, "add", record)
    return prompts


class Recorder(RewardModel):
    """A reward model that keeps the rows that it scored."""

    def scores(self, tokens_BT: Tensor, last_B: Tensor) -> Tensor:
        for tokens, last in zip(tokens_BT.tolist(), last_B.tolist(), strict=True):
            self.__dict__.setdefault("rows", set()).add(tuple(tokens[: last + 1]))
        return super().scores(tokens_BT, last_B)


def test_every_path_gives_equal_ids_for_50_conversations(model: Path, tmp_path: Path, asked: list[Ids]) -> None:
    template, decoder = Template.load(model), Decoder.create(ModelConfig.palm(280, 32, 1, 2, max_positions=512), 0)
    assert template.system == "Be kind."
    talks = fifty()
    start, end = template.tokenizer.id("<|im_start|>"), template.tokenizer.id("<|im_end|>")

    sft = SFTBatches([talk.reply(said) for talk, said in talks], template, 50, 512, 0, packed=False).batch(0)
    whole = {tuple(ids[seen].tolist()) for ids, seen in zip(sft["tokens"], sft["segments"] > 0, strict=True)}
    for ids in whole:
        turns = [place for place, token in enumerate(ids) if token == start]
        ends = [place for place, token in enumerate(ids) if token == end]
        assert turns[0] == 0
        assert len(turns) == len(ends)
        assert all(before < after for before, after in zip(turns, ends, strict=True))
        assert all(before > after for before, after in zip(turns[1:], ends, strict=False))

    rankings = [Ranking(talk, (Answer(said), Answer("No.")), (1, 2)) for talk, said in talks]
    groups = RankedGroups(rankings, template, 512).at(range(50))
    best = zip(groups["tokens"][:, 0], groups["last"][:, 0], strict=True)
    assert {tuple(ids[: last + 1].tolist()) for ids, last in best} == whole

    reward = Recorder.from_decoder(decoder, 0)
    ModelReward(reward, template).score([talk for talk, _ in talks], [Answer(said) for _, said in talks])
    assert reward.rows == whole

    with torch.inference_mode():
        rollout(Engine(decoder), template, [talk for talk, _ in talks], Sampling(max_tokens=1), 1, "0001")
    rolled_out = list(asked)
    assert len(rolled_out) == 50
    after = [(*template.tokenizer.encode(said), end) for _, said in talks]
    assert {(*prompt, *answer) for prompt, answer in zip(rolled_out, after, strict=True)} == whole

    asked.clear()
    workspace = Workspace(tmp_path / "home")
    Versions(workspace).promote(Versions(workspace).add(model, label="tiny").name)
    with TestClient(create_app(open_home(workspace)), base_url="http://127.0.0.1:8000") as client:
        for talk, _ in talks:
            body = {"model": "current", "messages": talk.to_json(), "max_tokens": 1}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert asked == rolled_out
