"""A loss mask that is off by one, or empty, and passes silently.

Sources: trl#4201, #6105.
"""

from __future__ import annotations

from typing import Any

import pytest

from palmier.data.batches import SFTBatches
from palmier.data.pairs import RankedGroups
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Message, Ranking
from palmier.train.episodes import Rollout

World = Any

ASKED = (Message("system", "Be brief."), Message("user", "Who met Bo?"))
SAID = "Ada met Bo."


def golden(template: Template) -> tuple[list[int], list[int]]:
    """Prompt and answer written out by hand, from the tokenizer alone."""
    tokenizer = template.tokenizer
    start, end = tokenizer.id("<|im_start|>"), tokenizer.id("<|im_end|>")
    prompt = []
    for message in ASKED:
        prompt += [start, *tokenizer.encode(f"{message.role}\n{message.content}"), end, *tokenizer.encode("\n")]
    return [*prompt, start, *tokenizer.encode("assistant\n")], [*tokenizer.encode(SAID), end]


def test_the_mask_is_the_answer_and_its_end(tiny_world: World) -> None:
    template = Template.load(tiny_world.model)
    prompt, answer = golden(template)
    rendered = template.render(Conversation(ASKED).reply(SAID))
    assert rendered.ids[: len(prompt) + len(answer)] == prompt + answer
    assert rendered.mask[: len(prompt) + len(answer)] == [0] * len(prompt) + [1] * len(answer)
    assert sum(rendered.mask) == len(answer)


def test_each_target_is_the_next_token_and_only_where_the_assistant_speaks(tiny_world: World) -> None:
    """In SFT, in ranked groups and in rollouts."""
    template = Template.load(tiny_world.model)
    prompt, answer = golden(template)
    expected = [-100] * (len(prompt) - 1) + answer
    row = SFTBatches([Conversation(ASKED).reply(SAID)], template, batch=1, length=64, seed=0).batch(0)
    assert row["targets"][0].tolist() == expected + [-100] * (64 - len(expected))
    ranking = Ranking(Conversation(ASKED), (Answer(SAID), Answer("Bo.")), (1, 2))
    groups = RankedGroups([ranking], template, 64).at([0])
    assert groups["targets"][0, 0].tolist()[: len(expected)] == expected
    assert (groups["targets"][0, 0, len(expected) :] == -100).all()
    drawn = Answer(SAID, tokens=tuple(answer), logprobs=(0.0,) * len(answer))
    said = Rollout.of([prompt], [drawn], padding=0)
    assert said.targets_BT[0].tolist() == expected


def test_a_row_without_anything_to_learn_is_an_error(tiny_world: World) -> None:
    template = Template.load(tiny_world.model)
    mute = Conversation((Message("user", "Hi"),))
    with pytest.raises(Refusal, match="nothing to learn"):
        SFTBatches([Conversation(ASKED).reply(SAID), mute], template, batch=1, length=64, seed=0)
