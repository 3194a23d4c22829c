"""The reward model's stage: learns a taste, counts each prompt once, resumes, refuses what cannot work."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.data.prompts import read_rankings, write_jsonl
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.feedback.reward import FACTS, ModelReward, load_reward_spec
from palmier.model.checkpoint import load_reward
from palmier.records import Answer, Conversation, Ranking
from palmier.train import dpo, reward_model
from palmier.train.reward_model import Settings
from palmier.workspace import sha256

World = Any  # the session's TinyWorld, a fixture of tests/conftest.py


@pytest.fixture(scope="module")
def polite(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rankings by somebody who likes "tea" and dislikes "paid"; K is 3 or 2."""
    path = tmp_path_factory.mktemp("polite") / "rankings.jsonl"
    names = [record.conversation.messages[0].content[8:-1] for record in read_rankings(tiny_world.rankings)]
    rankings = []
    for i in range(60):
        who, other = names[i % 12], names[(i * 5 + i // 12) % 12]
        answers = (Answer(f"{other} had tea."), Answer(f"{other} met {who}."), Answer(f"{other} paid."))
        conversation = Conversation.ask(f"Who met {who}? {i}")
        if i % 3:
            rankings.append(Ranking(conversation, (answers[2], answers[0], answers[1]), (3, 1, 2)))
        else:
            rankings.append(Ranking(conversation, answers[1:], (1, 2)))
    write_jsonl(path, rankings)
    return path


@pytest.fixture
def settings(tiny_world: World, polite: Path, tmp_path: Path) -> Settings:
    return Settings(
        tmp_path / "run", str(tiny_world.model), polite, lr=5e-3, epochs=3, validation=0.25, precision="fp32"
    )


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


def test_it_learns_a_taste_and_tells_it_on_prompts_that_it_has_not_seen(settings: Settings) -> None:
    folder = reward_model.run(settings)
    lines = metrics(settings.out)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=0.5)
    assert lines[-1]["validation_accuracy"] > 0.9
    reward = load_reward_spec(folder)
    asked = Conversation.ask("Who met Bo? 99")
    scores = reward.score([asked] * 2, [Answer("Ida had tea."), Answer("Ida paid.")])
    assert scores[0] > scores[1]


def test_the_scores_mean_and_deviation_are_kept_beside_the_weights(settings: Settings) -> None:
    """Later readers subtract the mean, which makes 0 what an average answer earns."""
    folder = reward_model.run(settings)
    facts = json.loads((folder / FACTS).read_text("utf-8"))
    template, model = Template.load(folder), load_reward(folder)
    train, _ = reward_model.batches(settings, template, 64)
    scores = []
    for number in range(len(train)):
        groups = train.at([number])
        for tokens, last in zip(groups["tokens"][0], groups["last"][0], strict=True):
            if last:
                with torch.no_grad():
                    scores.append(float(model.scores(tokens[None, : last + 1], last[None])))
    mean = sum(scores) / len(scores)
    assert facts["mean"] == pytest.approx(mean, abs=1e-4)
    assert facts["deviation"] == pytest.approx((sum((s - mean) ** 2 for s in scores) / len(scores)) ** 0.5, rel=1e-3)
    assert facts["prompts"] == len(train)
    reward = ModelReward.load(folder)
    assert reward.shift == facts["mean"]
    asked, said = Conversation.ask("Who met Bo?"), Answer("Ida had tea.")
    assert reward.score([asked], [said])[0] == pytest.approx(
        ModelReward(model, template).score([asked], [said])[0] - mean, abs=1e-4
    )
    assert facts["validation_accuracy"] > 0.9


def test_the_order_of_micro_batches_and_padding_does_not_show_in_the_gradient(settings: Settings) -> None:
    model, template, _ = reward_model.parts(settings)
    train, _ = reward_model.batches(settings, template, 64)
    loss = reward_model.Objective(model)
    groups = train.at(list(range(8)))

    def gradient(size: int) -> torch.Tensor:
        model.zero_grad()
        for piece in reward_model.micro_batches(groups, size):
            summed, _ = loss(piece)
            (summed / 8).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradient(8)
    assert torch.allclose(gradient(1), whole, atol=1e-6)
    assert torch.allclose(gradient(3), whole, atol=1e-6)
    assert float(whole.norm()) > 1e-3


def test_a_better_answer_scores_higher_after_a_step(settings: Settings) -> None:
    """Chosen and rejected swapped would lower it."""
    model, template, _ = reward_model.parts(settings)
    train, _ = reward_model.batches(settings, template, 64)
    loss, groups = reward_model.Objective(model), train.at([0])
    better = int(groups["weights"][0].sum(1).argmax())
    worse = int(groups["weights"][0].sum(0).argmax())
    before = loss.scores(groups)[0].detach()
    loss(groups)[0].backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    after = loss.scores(groups)[0].detach()
    assert after[better] - after[worse] > before[better] - before[worse]


def test_two_runs_are_bit_equal_and_another_seed_is_not(settings: Settings, tmp_path: Path) -> None:
    short = replace(settings, epochs=1)
    one = sha256(reward_model.run(short) / "model.safetensors")
    again = sha256(reward_model.run(replace(short, out=tmp_path / "again")) / "model.safetensors")
    other = sha256(reward_model.run(replace(short, out=tmp_path / "other", seed=1)) / "model.safetensors")
    assert one == again
    assert one != other


@pytest.mark.parametrize("stage", [reward_model, dpo], ids=["reward", "dpo"])
def test_rankings_that_contradict_each_other_are_refused_and_many_are_told(
    settings: Settings, tmp_path: Path, stage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [Conversation.ask(f"Who met Bo? {i}") for i in range(8)]
    path = tmp_path / "contradicting.jsonl"
    answers = (Answer("tea"), Answer("coins"))
    against = [Ranking(c, answers, ranks) for c in asked for ranks in ((1, 2), (2, 1))]
    wanted = stage.Settings(settings.out, settings.model, path, validation=0.0, batch=4)
    write_jsonl(path, against)
    with pytest.raises(Refusal, match="contradict each other on every pair"):
        stage.run(wanted)
    assert not (settings.out / "latest").exists()
    write_jsonl(path, [*against, Ranking(asked[0], answers, (1, 2))])
    stage.run(wanted)
    assert "8 of 8 pairs were ordered both ways" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [([(1, 2)], "one ranking only"), ([(1, 1), (1, 1), (2, 2)], "ties")],
)
def test_what_cannot_teach_is_refused(
    settings: Settings, tmp_path: Path, ranks: list[tuple[int, int]], expected: str
) -> None:
    path = tmp_path / "few.jsonl"
    answers = (Answer("tea"), Answer("coins"))
    write_jsonl(path, [Ranking(Conversation.ask(f"Who? {i}"), answers, r) for i, r in enumerate(ranks)])
    with pytest.raises(Refusal, match=expected):
        reward_model.run(replace(settings, data=path, validation=0.0))
    assert not (settings.out / "latest").exists()


def test_a_bad_line_is_named(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(settings.data.read_text("utf-8").splitlines()[0] + "\n{'no': json}\n", "utf-8")
    with pytest.raises(Refusal, match=r"bad\.jsonl:2"):
        reward_model.run(replace(settings, data=path))


@pytest.mark.parametrize("change", [{"batch": 0}, {"validation": 1.0}, {"warmup": 1.0}, {"lr": 0.0}, {"length": 4096}])
def test_settings_that_cannot_work_are_refused(settings: Settings, change: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        reward_model.run(replace(settings, **change))
