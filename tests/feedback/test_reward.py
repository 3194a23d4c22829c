from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.feedback.reward import ModelReward, ProgramReward, best_of, best_of_n, load_reward_spec
from palmier.generate.engine import Engine
from palmier.generate.rollout import rollout
from palmier.model import checkpoint
from palmier.model.decoder import Decoder
from palmier.model.heads import RewardModel
from palmier.records import Answer, Conversation, Sampling

ASK = Conversation.ask("Write to Ann.")


class Shortest:
    """A reward for tests: the shorter the better."""

    def score(self, conversations: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
        return [-float(len(answer.text)) for answer in answers]


@pytest.fixture
def reward(decoder: Decoder, template: Template) -> ModelReward:
    return ModelReward(RewardModel.from_decoder(decoder, seed=1), template, batch=3)


def test_scores_are_those_of_each_answer_alone(reward: ModelReward, template: Template) -> None:
    talk = ASK.reply("Dear Ann").__class__((*ASK.reply("Dear Ann").messages, *Conversation.ask("Shorter!").messages))
    asked = [ASK, talk, ASK, ASK, talk]
    answers = [
        Answer("tea"),
        Answer("Dear Ann, the red book. " * 3),
        Answer("x", tokens=(9, 8, 7)),
        Answer(""),
        Answer("no"),
    ]
    found = reward.score(asked, answers)
    for conversation, answer, score in zip(asked, answers, found, strict=True):
        ids = template.prompt(conversation) + template.answer_ids(answer)
        with torch.no_grad():
            alone = reward.model.values(torch.tensor([ids]))[0, -1].item()
        assert score == pytest.approx(alone, abs=1e-4)
    assert len({round(score, 4) for score in found}) == 5


def test_the_drawn_tokens_are_scored_not_the_text(reward: ModelReward, template: Template) -> None:
    text = "Dear Ann"
    letters = tuple(token for letter in text for token in template.tokenizer.encode(letter))
    assert list(letters) != template.tokenizer.encode(text)
    drawn, written = reward.score([ASK, ASK], [Answer(text, tokens=(*letters, template.stop_ids[0])), Answer(text)])
    assert drawn != written


def test_a_reward_that_is_not_a_number_is_refused(reward: ModelReward) -> None:
    with torch.no_grad():
        reward.model.score.weight.fill_(math.nan)
    with pytest.raises(Refusal, match="finite"):
        reward.score([ASK], [Answer("x")])


def test_too_long_for_the_reward_model(reward: ModelReward) -> None:
    with pytest.raises(Refusal, match="at most 128"):
        reward.score([ASK], [Answer("tea " * 200)])


def test_a_program_from_a_module_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def taste(conversation, answer):\n    return len(answer.text) - len(conversation.messages)\n"
    (tmp_path / "my_taste.py").write_text(source + "number = 3\ndef bad(c, a):\n    return float('nan')\n")
    monkeypatch.chdir(tmp_path)
    for spec in ("my_taste:taste", str(tmp_path / "my_taste.py") + ":taste", "my_taste.py:taste"):
        assert load_reward_spec(spec).score([ASK, ASK], [Answer("four"), Answer("")]) == [3.0, -1.0]
    with pytest.raises(Refusal, match="finite"):
        ProgramReward("my_taste:bad").score([ASK], [Answer("x")])
    for wrong, said in {
        "my_taste:number": "no function",
        "my_taste:missing": "no function",
        "no_such_module:f": "no_such_module",
        "missing.py:f": "no file",
        "my_taste:": "names no program",
    }.items():
        with pytest.raises(Refusal, match=said):
            load_reward_spec(wrong)


def test_a_reward_models_folder(reward: ModelReward, template: Template, tmp_path: Path) -> None:
    checkpoint.save(reward.model, tmp_path)
    template.tokenizer.save(tmp_path)
    again = load_reward_spec(tmp_path)
    answers = [Answer("tea"), Answer("Dear Ann")]
    assert again.score([ASK, ASK], answers) == pytest.approx(reward.score([ASK, ASK], answers), abs=1e-5)
    with pytest.raises(Refusal, match="no model"):
        load_reward_spec(tmp_path / "nowhere")


def test_a_language_model_is_no_reward(decoder: Decoder, template: Template, tmp_path: Path) -> None:
    checkpoint.save(decoder, tmp_path)
    template.tokenizer.save(tmp_path)
    with pytest.raises(Refusal, match=r"score\.weight"):
        load_reward_spec(tmp_path)


def test_best_of_takes_the_highest_and_of_equals_the_first() -> None:
    assert best_of(Shortest(), ASK, [Answer("ccc"), Answer("a"), Answer("bb"), Answer("b")]) == 1
    with pytest.raises(Refusal):
        best_of(Shortest(), ASK, [])


def test_best_of_n_is_the_preferred_of_n_drawn(decoder: Decoder, template: Template) -> None:
    engine = Engine(decoder, slots=4)
    sampling = Sampling(max_tokens=24, seed=5)
    drawn = rollout(engine, template, [ASK], sampling, 6, "0001")[0]
    best = best_of_n(engine, template, Shortest(), ASK, 6, sampling, "0001")
    assert len({len(answer.text) for answer in drawn}) > 1
    assert best.text == min((answer.text for answer in drawn), key=len)
    assert best.version == "0001"


def test_a_program_that_fails_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "taste.py"
    path.write_text("def boom(c, a):\n    raise ValueError('two\\nlines')\n", "utf-8")
    with pytest.raises(Refusal, match=r"taste.py:boom failed on the answer 'Hi.': ValueError: two"):
        ProgramReward(f"{path}:boom").score([Conversation.ask("x")], [Answer("Hi.")])
    path.write_text("def boom(:\n", "utf-8")
    with pytest.raises(Refusal, match=r"taste.py can not be run: SyntaxError"):
        ProgramReward(f"{path}:boom")
