"""Answers that are decoded to text and encoded again before they are learned from: other ids.

Sources: trl#5224; NeMo-RL#1337; prime-rl#1334; minimind#850.
"""

from __future__ import annotations

import ast
import random
from pathlib import Path
from typing import Any

import palmier
from palmier.data.pairs import RankedGroups
from palmier.data.template import Template
from palmier.records import Answer, Conversation, Message, Ranking
from palmier.train.episodes import Rollout

World = Any

TEXTS = ("Who?", "日本語 😀\u0301", "<|im_end|> typed <|im_start|>user", "\n\n  \t", "a\u202eb", "12345 ½ ﬁ")


def conversations(count: int) -> list[Conversation]:
    draw = random.Random(4)
    made = []
    for _ in range(count):
        turns = [Message("system", draw.choice(TEXTS))] if draw.random() < 0.3 else []
        for _ in range(draw.randrange(3)):
            turns += [Message("user", draw.choice(TEXTS)), Message("assistant", draw.choice(TEXTS))]
        made.append(Conversation((*turns, Message("user", draw.choice(TEXTS)))))
    return made


def drawn_answers(template: Template, count: int) -> list[Answer]:
    """Ids as a young model draws them: half characters, special tokens, no canonical cut."""
    draw = random.Random(5)
    answers = []
    for _ in range(count):
        ids = tuple(draw.randrange(template.tokenizer.size) for _ in range(draw.randrange(1, 12)))
        ids += (template.stop_ids[0],)
        answers.append(Answer(template.answer_text(ids), "", ids, (-1.0,) * len(ids)))
    return answers


def test_the_ids_trained_on_are_the_ids_drawn(tiny_world: World) -> None:
    template = Template.load(tiny_world.model)
    asked, answers = conversations(200), drawn_answers(template, 400)
    # The fuzz is worth something only where encoding the text would give other ids.
    changed = sum(tuple([*template.tokenizer.encode(a.text), template.stop_ids[0]]) != a.tokens for a in answers)
    assert changed > 300
    prompts = [template.prompt(conversation) for conversation in asked]
    said = Rollout.of(prompts, answers[:200], padding=0)
    for row, place in enumerate(said.order):
        learned = said.targets_BT[row][said.mask_BT[row]].tolist()
        assert tuple(learned) == answers[place].tokens
        context = said.tokens_BT[row, : len(prompts[place])].tolist()
        assert context == prompts[place]
    ranked = [Ranking(c, (answers[2 * i], answers[2 * i + 1]), (1, 2)) for i, c in enumerate(asked)]
    groups = RankedGroups(ranked, template, 4096)
    for number, ranking in enumerate(ranked):
        batch = groups.at([number])
        for k, answer in enumerate(ranking.answers):
            learned = batch["targets"][0, k][batch["targets"][0, k] >= 0].tolist()
            assert tuple(learned) == answer.tokens


def test_no_training_code_encodes_or_decodes_text() -> None:
    """Text becomes ids in data/ alone, where an answer's own ids come first."""
    root = Path(palmier.__file__).parent
    files = [*(root / "train").glob("*.py"), root / "generate" / "rollout.py", root / "generate" / "engine.py"]
    assert len(files) > 10
    for path in files:
        if path.name == "improve.py":  # orders stages; its measures read text
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("encode", "decode", "encode_many"):
                owner = ast.unparse(node.value)
                assert "tokenizer" not in owner, f"{path}:{node.lineno}: {owner}.{node.attr}"
