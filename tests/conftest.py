"""What training tests share: a world of a few sentences, made once a session."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class TinyWorld:
    """Folders and files that every training stage can start from; nothing in them is ever changed."""

    tokenizer: Path
    shards: Path
    model: Path  # a PaLM with random weights: 2 blocks, width 32, 64 positions
    conversations: Path  # 24 lines {"messages": …}
    prompts: Path  # 12 lines {"messages": [user]}
    rankings: Path  # 12 lines, K = 3
    reward: Path  # a reward model with a random head on ``model``
    judge: Path  # a program whose ``taste`` likes brief answers


NAMES = ("Ada", "Bo", "Cy", "Dee", "Eli", "Flo", "Gus", "Hal", "Ida", "Jo", "Kit", "Lou")


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    from palmier.data.shards import prepare
    from palmier.data.tokenizer import train
    from palmier.model.checkpoint import save
    from palmier.model.config import ModelConfig
    from palmier.model.decoder import Decoder
    from palmier.model.heads import RewardModel
    from palmier.records import Answer, Conversation, Document, Ranking
    from palmier.train.checkpoint import copy_tokenizer
    from palmier.workspace import write_whole

    root = tmp_path_factory.mktemp("tiny")
    texts = [f"{a} met {b} and they had tea; {a} paid {i} coins." for i, a in enumerate(NAMES) for b in NAMES]
    documents = [Document(text, f"{i}") for i, text in enumerate(texts)]
    files = ("tokenizer", "shards", "model", "sft.jsonl", "prompts.jsonl", "rankings.jsonl", "reward", "judge.py")
    world = TinyWorld(*(root / name for name in files))
    tokenizer = train(documents, 300)
    tokenizer.save(world.tokenizer)
    prepare(documents, tokenizer, world.shards, validation=0.2, seed=0)
    shape = ModelConfig.palm(tokenizer.size, 32, 2, 2, max_positions=64, eos_id=tokenizer.id("<|endoftext|>"))
    decoder = Decoder.create(shape, 1)
    for target, module in ((world.model, decoder), (world.reward, RewardModel.from_decoder(decoder, 2))):
        with write_whole(target) as folder:
            save(module, folder)
            copy_tokenizer(world.tokenizer, folder)
    world.judge.write_text("def taste(conversation, answer):\n    return -float(len(answer.text))\n")
    asked = [Conversation.ask(f"Who met {name}?") for name in NAMES]
    said = [c.reply(f"{other} met {name}.") for c, name in zip(asked, NAMES, strict=True) for other in ("Bo", "Ada")]
    ranked = [
        Ranking(c, (Answer("Bo did."), Answer(f"{name} paid."), Answer("tea")), (1 + i % 2, 2 - i % 2, 3))
        for i, (c, name) in enumerate(zip(asked, NAMES, strict=True))
    ]
    _lines(world.conversations, [{"messages": c.to_json()} for c in said])
    _lines(world.prompts, [{"messages": c.to_json()} for c in asked])
    _lines(world.rankings, [r.to_json() for r in ranked])
    return world


def _lines(path: Path, values: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")
