"""PPO's stage on a tiny world: it earns more, is read right, resumes to the bit, and stops when it must."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palmier.data.prompts import write_jsonl
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.model.checkpoint import load, load_reward
from palmier.records import Answer, Conversation, Sampling
from palmier.train import ppo, reward_model
from palmier.train.asking import drawn_order
from palmier.train.episodes import Rollout
from palmier.train.loop import Diverged
from palmier.train.ppo import Settings
from palmier.workspace import sha256

World = Any  # the session's TinyWorld, a fixture of tests/conftest.py

TASTES = '''
from math import nan

def short(conversation, answer):
    return -float(len(answer.tokens))

def one_token(conversation, answer):
    """Likes one token alone, which a policy that runs away says without end."""
    return float(sum(token % 8 == 3 for token in answer.tokens))

def long(conversation, answer):
    return float(len(answer.tokens))

def broken(conversation, answer):
    return nan

def indifferent(conversation, answer):
    return 1.0
'''


@pytest.fixture
def settings(tiny_world: World, tmp_path: Path) -> Settings:
    (tmp_path / "tastes.py").write_text(TASTES, "utf-8")
    return Settings(
        out=tmp_path / "run",
        model=str(tiny_world.model),
        reward=f"{tmp_path}/tastes.py:short",
        prompts=tiny_world.prompts,
        iterations=3,
        warmup=1,
        episodes=24,
        minibatch=12,
        micro_batch=6,
        max_tokens=10,
        lr=3e-3,
        value_lr=3e-3,
        kl_weight=0.02,
        unfinished=0.0,
        save_every=1,
        precision="fp32",
    )


def taste(settings: Settings, name: str) -> str:
    return settings.reward.replace("short", name)


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "timing"} for line in lines]


def weights(folder: Path) -> str:
    return sha256(folder / "model.safetensors")


def test_the_policy_comes_to_earn_more(settings: Settings) -> None:
    ppo.run(replace(settings, iterations=10, episodes=48))
    start = json.loads((settings.out / "baseline.json").read_text("utf-8"))
    last = metrics(settings.out)[-1]
    assert last["score"] > start["score"] + start["deviation"]
    assert last["kl"] > start["kl"] == 0
    assert last["length"] < start["length"]


def test_only_the_critic_learns_before_the_first_policy_step(settings: Settings) -> None:
    """The value model is warmed up; then both move."""
    ppo.run(replace(settings, warmup=2, iterations=1, save_every=1))
    start = load(Path(settings.model)).state_dict()
    steps = [load_file(settings.out / f"step-{n}" / "model.safetensors") for n in (1, 2, 3)]
    critics = [load_file(settings.out / f"step-{n}" / "trainer" / "optimizer.safetensors") for n in (1, 2)]
    head = "value:score.weight:master"
    assert all(torch.equal(start[name], step[name]) for step in steps[:2] for name in step)
    assert not torch.equal(critics[0][head], critics[1][head])
    assert any(not torch.equal(start[name], steps[2][name]) for name in start)


def test_the_critic_starts_as_the_reward_model_and_the_reference_never_moves(
    settings: Settings, tiny_world: World, tmp_path: Path
) -> None:
    taught = reward_model.Settings(tmp_path / "reward", str(tiny_world.model), tiny_world.rankings, validation=0.0)
    folder = reward_model.run(taught)
    found = ppo.parts(replace(settings, reward=str(folder)))
    for name, tensor in load_reward(folder).state_dict().items():
        assert torch.equal(found.value.state_dict()[name], tensor)
    ppo.run(replace(settings, reward=str(folder), iterations=1))
    assert torch.equal(load(Path(settings.model)).output_weight, found.reference.output_weight)
    assert all(not parameter.requires_grad for parameter in found.reference.parameters())


def collected(settings: Settings, iteration: int = 0) -> tuple[ppo.Parts, ppo.Episodes]:
    found = ppo.parts(settings)
    return found, ppo.collect(settings, found, Engine(found.policy, slots=8), iteration, None)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_everybody_reads_the_drawn_tokens_at_their_places(settings: Settings, temperature: float) -> None:
    """Against a forward of each answer alone, token by token, in float64."""
    settings = replace(settings, temperature=temperature)
    found, episodes = collected(settings)
    said = episodes.rollout
    assert float((episodes.old_BT - said.drawn_BT).abs().max()) < 1e-4
    for row in range(0, settings.episodes, 5):
        places = said.mask_BT[row].nonzero().squeeze(1).tolist()
        tokens = [*said.tokens_BT[row, : places[-1] + 1].tolist(), int(said.targets_BT[row, places[-1]])]
        with torch.no_grad():
            inputs = torch.tensor([tokens])
            logits = found.policy.logits(found.policy(inputs))[0].double() / temperature
            values = found.value.values(inputs)[0]
        for place in places:
            logprobs = logits[place].log_softmax(-1)
            expected = float(logprobs[tokens[place + 1]])
            assert float(episodes.old_BT[row, place]) == pytest.approx(expected, abs=1e-4)
            assert float(episodes.reference_BT[row, place]) == pytest.approx(expected, abs=1e-4)
            entropy = -float((logprobs.exp() * logprobs).sum())
            assert float(episodes.entropy_BT[row, place]) == pytest.approx(entropy, abs=1e-4)
            assert float(episodes.values_BT[row, place]) == pytest.approx(float(values[place]), abs=1e-4)
        assert (episodes.values_BT[row, ~said.mask_BT[row]] == 0).all()


def test_the_ids_trained_on_are_the_ids_asked_and_drawn() -> None:
    """Sorted by length, scores in the same order, and no answer is encoded again."""
    prompts = [[5, 6, 7], [5, 6], [9]]
    answers = [
        Answer("x", tokens=(1, 2), logprobs=(-0.1, -0.2), finish="stop"),
        Answer("y", tokens=(3, 3, 3), logprobs=(-1.0, -2.0, -3.0), finish="length"),
        Answer("z", tokens=(4,), logprobs=(-0.5,), finish="stop"),
    ]
    said = Rollout.of(prompts, answers, padding=0)
    assert said.order == (2, 0, 1)
    assert said.tokens_BT.tolist() == [[9, 0, 0, 0], [5, 6, 7, 1], [5, 6, 3, 3]]
    assert said.targets_BT.tolist() == [[4, -100, -100, -100], [-100, -100, 1, 2], [-100, 3, 3, 3]]
    assert torch.allclose(said.drawn_BT[1:], torch.tensor([[0, 0, -0.1, -0.2], [0, -1.0, -2.0, -3.0]]))
    assert said.ended_B.tolist() == [True, True, False]
    pieces = said.pieces(2)
    assert [piece.width for piece in pieces] == [4, 4]
    assert said.pieces(1)[0].cut(said.tokens_BT).tolist() == [[9]]


def test_an_answer_without_an_end_earns_the_fixed_reward_and_others_deviations(settings: Settings) -> None:
    settings = replace(settings, unfinished=-7.0, max_tokens=20, episodes=48)
    _, episodes = collected(settings)
    ended = episodes.rollout.ended_B
    assert 0 < int(ended.sum()) < len(ended)
    assert (episodes.rewards_B[~ended] == -7.0).all()
    spread = (episodes.scores_B - episodes.scores_B.mean()) / episodes.scores_B.std(correction=0)
    assert torch.allclose(episodes.rewards_B[ended], spread[ended].clamp(-5, 5), atol=1e-4)


def test_every_prompt_is_asked_equally_often_in_another_order_each_time() -> None:
    asked = [drawn_order(5, 8, iteration, 0) for iteration in range(5)]
    stream = [prompt for round_ in asked for prompt in round_]
    assert sorted(stream) == sorted(list(range(5)) * 8)
    assert stream[:5] != stream[5:10]
    assert drawn_order(5, 8, 3, 0) == asked[3] != drawn_order(5, 8, 3, 1)


def test_two_runs_are_bit_equal_and_another_seed_is_not(settings: Settings, tmp_path: Path) -> None:
    one = weights(ppo.run(settings))
    assert one == weights(ppo.run(replace(settings, out=tmp_path / "again")))
    assert one != weights(ppo.run(replace(settings, out=tmp_path / "other", seed=1)))


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("moment", [1, 2, 4])
def test_a_run_that_died_in_a_rollout_ends_in_the_same_bits(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    undisturbed = ppo.run(settings)
    expected = weights(undisturbed), metrics(settings.out)
    again = replace(settings, out=tmp_path / "again")
    answer, calls = ppo.answer, []

    def dying(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == moment:
            raise Interrupted
        return answer(*given)

    monkeypatch.setattr(ppo, "answer", dying)
    with pytest.raises(Interrupted):
        ppo.run(again)
    monkeypatch.setattr(ppo, "answer", answer)
    folder = ppo.run(again)
    assert (weights(folder), metrics(again.out)) == expected


def test_a_policy_that_runs_away_is_stopped_and_the_last_good_step_kept(settings: Settings) -> None:
    wild = replace(settings, reward=taste(settings, "one_token"), lr=0.02, iterations=20, max_kl=1.0, min_entropy=0.0)
    with pytest.raises(Diverged, match=r"nats an answer from its reference, more than max_kl 1.0; .*step-\d+ is kept"):
        ppo.run(wild)
    kept = settings.out / (settings.out / "latest").read_text().strip()
    assert metrics(settings.out)[-1]["kl"] <= 1.0
    assert kept.name == f"step-{metrics(settings.out)[-1]['step']}"
    assert load(kept)


def test_a_policy_that_collapses_is_stopped(settings: Settings) -> None:
    wild = replace(settings, reward=taste(settings, "one_token"), lr=0.03, iterations=30, max_kl=1e6, kl_weight=0.0)
    with pytest.raises(Diverged, match=r"entropy fell from .*it collapses; .*step-\d+ is kept"):
        ppo.run(replace(wild, min_entropy=0.8))


def test_a_reward_that_fails_is_refused_before_anything_is_written(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "boom.py").write_text("def boom(c, a):\n    raise KeyError('x')\n", "utf-8")
    with pytest.raises(Refusal, match="boom failed on the answer"):
        ppo.run(replace(settings, reward=f"{tmp_path}/boom.py:boom"))
    assert not settings.out.exists()
    ppo.run(replace(settings, iterations=1, warmup=0))


def test_a_reward_that_is_not_a_number_is_refused_and_nothing_moves(settings: Settings) -> None:
    with pytest.raises(Refusal, match="finite number"):
        ppo.run(replace(settings, reward=taste(settings, "broken")))
    assert not (settings.out / "latest").exists()


def test_a_reward_that_prefers_nothing_warns(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    ppo.run(replace(settings, reward=taste(settings, "indifferent"), iterations=1))
    assert "same score" in capsys.readouterr().err


def test_a_skipped_hand_over_stops_the_run_within_a_step(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "weights_changed", lambda self: None)
    with pytest.raises((Diverged, RuntimeError), match="weights"):
        ppo.run(settings)
    assert not (settings.out / "step-2").exists()


def test_an_engine_that_computes_otherwise_is_noticed(settings: Settings) -> None:
    with pytest.raises(Diverged, match="engine and trainer differ"):
        ppo.run(replace(settings, max_difference=1e-12))


def test_the_judge_chooses_the_step(settings: Settings, tiny_world: World) -> None:
    """The reward wants short answers, the judge long ones: the start is best by it."""
    judged = replace(settings, judge=taste(settings, "long"), validation=tiny_world.prompts, lr=2e-2, iterations=7)
    folder = ppo.run(judged)
    best = json.loads((folder / "best.json").read_text("utf-8"))
    seen = {0: json.loads((settings.out / "baseline.json").read_text("utf-8"))["judge"]}
    seen |= {line["step"]: line["judge"] for line in metrics(settings.out) if "judge" in line}
    assert sorted(seen) == [0, 2, 4, 6, 8]
    assert best == {"step": max(seen, key=lambda step: (seen[step], -step)), "score": max(seen.values())}
    assert best["step"] < 8
    assert weights(folder) == weights(settings.out / "best")
    if best["step"] == 0:
        start = load(Path(settings.model)).state_dict()
        assert all(torch.equal(start[name], tensor) for name, tensor in load(folder).state_dict().items())


def test_a_model_that_was_made_can_be_used_as_it_is(settings: Settings) -> None:
    folder = ppo.run(replace(settings, iterations=1))
    assert Template.load(folder).prompt(Conversation.ask("Who?"))
    assert load(folder)


def test_a_prompt_that_leaves_no_room_is_named(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    write_jsonl(path, [Conversation.ask("Who?"), Conversation.ask("Who met Ada? " * 20)])
    with pytest.raises(Refusal, match=r"long\.jsonl, prompt 2"):
        ppo.run(replace(settings, prompts=path))


@pytest.mark.parametrize(
    "change",
    [
        {"episodes": 0},
        {"micro_batch": 5},
        {"minibatch": 7},
        {"temperature": 0.0},
        {"kl_weight": -0.1},
        {"judge": "x:y"},
        {"lr": 0.0},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Settings, change: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        ppo.run(replace(settings, **change))


def test_the_reward_cannot_judge_itself(settings: Settings) -> None:
    with pytest.raises(Refusal, match="judge"):
        ppo.run(replace(settings, judge=settings.reward, validation=settings.prompts))


class Fixed:
    """A reward that knows its scores beforehand."""

    def score(self, conversations: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
        return [float(len(answer.tokens)) for answer in answers]


def test_each_answer_keeps_its_own_score(settings: Settings) -> None:
    found, _ = collected(settings)
    found = replace(found, reward=Fixed())
    said, scores_B = ppo.answer(settings, found, Engine(found.policy, slots=8), 0)
    assert scores_B.tolist() == said.mask_BT.sum(1).tolist()
    assert len(set(scores_B.tolist())) > 1


@pytest.mark.parametrize("bent", [{"temperature": 0}, {"top_p": 0.9}, {"min_p": 0.1}, {"repetition_penalty": 1.2}])
def test_answers_of_another_distribution_are_not_learned_from(bent: dict[str, Any]) -> None:
    """Top-p/top-k bias in the ratio: trl#6789, trl#7269."""
    answer = Answer("a", tokens=(5, 6), logprobs=(-1.0, -2.0), sampling=Sampling(**bent))
    with pytest.raises(Refusal, match="own distribution"):
        Rollout.of([[1, 2]], [answer], padding=0)
