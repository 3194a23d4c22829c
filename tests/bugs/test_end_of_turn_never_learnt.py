"""The end of the assistant's turn carries no loss, or is taken for padding: answers never stop.

Sources: trl#5988, #7230, #734; unsloth#416.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palmier.data.batches import SFTBatches
from palmier.data.pairs import RankedGroups
from palmier.data.prompts import read_conversations
from palmier.data.template import Template
from palmier.generate.engine import Engine
from palmier.generate.rollout import rollout
from palmier.model.checkpoint import load
from palmier.records import Answer, Conversation, Message, Ranking, Sampling
from palmier.train import sft

World = Any

TALK = Conversation(
    (Message("user", "Hi"), Message("assistant", "Bo."), Message("user", "Who?"), Message("assistant", "Ada and Bo."))
)


@pytest.mark.parametrize("packed", [True, False])
def test_the_end_of_every_assistants_turn_carries_loss(tiny_world: World, packed: bool) -> None:
    template = Template.load(tiny_world.model)
    batch = SFTBatches([TALK] * 3, template, batch=3, length=64, seed=0, packed=packed).batch(0)
    assert int((batch["targets"] == template.stop_ids[0]).sum()) == 2 * 3


def test_the_end_of_every_ranked_answer_carries_loss(tiny_world: World) -> None:
    template = Template.load(tiny_world.model)
    ranking = Ranking(Conversation.ask("Who?"), (Answer("Bo."), Answer("Ada and Bo.")), (1, 2))
    batch = RankedGroups([ranking], template, 64).at([0])
    for k in range(2):
        targets = batch["targets"][0, k]
        assert int(targets[targets >= 0][-1]) == template.stop_ids[0]


def test_after_a_little_sft_99_of_100_answers_stop_by_themselves(tiny_world: World, tmp_path: Path) -> None:
    settings = sft.Settings(
        tmp_path / "run", str(tiny_world.model), tiny_world.conversations, lr=1e-2, batch=2, epochs=24, validation=0.0
    )
    model = sft.run(settings)
    asked = [Conversation(c.messages[:-1]) for c in read_conversations(tiny_world.conversations)][:20]
    engine = Engine(load(model), slots=100)
    groups = rollout(engine, Template.load(model), asked, Sampling(max_tokens=40), 10, "")
    ended = [answer.finish == "stop" for group in groups for answer in group]
    assert sum(ended) >= 0.99 * len(ended)
