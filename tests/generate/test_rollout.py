"""Rollouts carry the ids that were drawn, the version that drew them, and what reproduces them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from palmier.data.template import Template
from palmier.data.tokenizer import TURN_END, train
from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.generate.rollout import rollout
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.records import Answer, Conversation, Document, Message, Sampling

SAMPLING = Sampling(1.0, max_tokens=30, seed=11)
ASKED = [
    Conversation.ask("Who came?"),
    Conversation.ask("Écris-moi 東京 🌴"),
    Conversation(
        (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "?"))
    ),
    Conversation.ask("Who came?"),
]


@pytest.fixture(scope="module")
def template() -> Template:
    texts = ["Ada met Bo and they had tea.", "Bo came too; é and 東京."]
    return Template(train([Document(text, "here") for text in texts] * 3, 300))


@pytest.fixture(scope="module")
def engine(template: Template) -> Engine:
    decoder = Decoder.create(ModelConfig.palm(template.tokenizer.size, 32, 2, 4, max_positions=128), 3)
    with torch.no_grad():
        decoder.model.embed_tokens.weight.mul_(0.1)
    return Engine(decoder, slots=5)


def test_answers_are_the_drawn_ids_and_their_sampling_reproduces_them(engine: Engine, template: Template) -> None:
    answers = rollout(engine, template, ASKED, SAMPLING, 3, "0007")
    assert [len(group) for group in answers] == [3] * 4
    flat = [answer for group in answers for answer in group]
    assert len({answer.tokens for answer in flat}) == 12, "prompts or samples share their draws"
    assert len({answer.sampling.seed for answer in flat}) == 12
    for conversation, group in zip(ASKED, answers, strict=True):
        for answer in group:
            request = Request("again", tuple(template.prompt(conversation)), answer.sampling, template.stop_ids)
            (again,) = engine.run([request])[0]
            assert again.tokens == answer.tokens
            assert again.finish == answer.finish
            assert again.logprobs == pytest.approx(answer.logprobs, abs=1e-4)
            assert answer.version == "0007"
            assert replace(answer.sampling, seed=SAMPLING.seed) == SAMPLING
            assert Answer.from_json(answer.to_json()) == answer


def test_ids_survive_where_their_text_would_be_encoded_otherwise(engine: Engine, template: Template) -> None:
    """Decode, then tokenise again: trl#5224, NeMo-RL#1337, prime-rl#1334, minimind#850."""
    answers = [a for group in rollout(engine, template, ASKED * 10, SAMPLING, 4, "1") for a in group]
    lossy = [
        a
        for a in answers
        if tuple(template.tokenizer.encode(a.text)) != a.tokens[: len(a.tokens) - (a.finish == "stop")]
    ]
    assert len(lossy) > 20, "no answer whose text is encoded otherwise: this test shows nothing"
    for answer in answers:
        assert template.answer_ids(answer) == list(answer.tokens)
        assert len(answer.tokens) == len(answer.logprobs) > 0
        ended = answer.tokens[-1] in template.stop_ids
        assert answer.finish == ("stop" if ended else "length")
        assert TURN_END not in answer.text


def test_a_seed_is_heeded_and_the_order_of_prompts_is_kept(engine: Engine, template: Template) -> None:
    engine.weights_changed()
    first = rollout(engine, template, ASKED, SAMPLING, 2, "1")
    again = rollout(engine, template, ASKED, SAMPLING, 2, "1")
    assert [[a.tokens for a in g] for g in again] == [[a.tokens for a in g] for g in first]
    assert again == first, "to the bit: what was asked before does not matter"
    engine.weights_changed()
    assert rollout(engine, template, ASKED, SAMPLING, 2, "1") == first, "to the bit, as a new engine would"
    other = rollout(engine, template, ASKED, replace(SAMPLING, seed=12), 2, "1")
    assert not {a.tokens for g in first for a in g} & {a.tokens for g in other for a in g}
    one_by_one = Engine(engine.decoder, slots=1)
    assert [[a.tokens for a in g] for g in rollout(one_by_one, template, ASKED, SAMPLING, 2, "1")] == [
        [a.tokens for a in g] for g in first
    ]


def test_a_prompt_that_fills_the_context_is_refused(template: Template, engine: Engine) -> None:
    with pytest.raises(Refusal, match=r"prompt 2: the prompt has \d+ tokens and the context holds 128"):
        rollout(engine, template, [ASKED[0], Conversation.ask("tea " * 200)], SAMPLING, 1, "1")
    assert not engine.busy
