"""From rankings to a version that is promoted only where it measures better, at a tiny size."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmier.data.prompts import read_rankings
from palmier.errors import Refusal
from palmier.feedback.split import NEEDED, by_prompt, prompt_key
from palmier.feedback.store import Store
from palmier.records import Conversation, Demonstration, Ranking
from palmier.train import attempts, improve
from palmier.train.sizing import Sizing
from palmier.versions import Versions
from palmier.workspace import Workspace, read_json

TASTE = """
def taste(conversation, answer):
    return float(("dear" in answer.text) + ("thank" in answer.text) - ("fool" in answer.text) - ("away" in answer.text))
def opposite(conversation, answer):
    return -taste(conversation, answer)
"""


def test_a_taste_is_learnt_measured_and_promoted(home: Path, spoken: Any) -> None:
    outcome = improve.run(spoken.settings(home))
    assert outcome.promoted
    assert outcome.sentence.startswith("promoted: it wins")
    versions = Versions(Workspace(home))
    current = versions.current()
    assert current is not None
    assert (current.name, outcome.version) == ("0002", "0002")
    assert current.card["parent"] == "0001"
    assert current.card["evidence"] == outcome.evidence
    assert current.card["evidence"]["win_rate"]["low"] > 0.5
    assert current.card["reward_accuracy"]["mean"] > 0.6
    # By the taste itself, which took no part in it:
    assert spoken.politeness(current.folder) > spoken.politeness(versions.get("0001").folder) + 0.15
    # The raw rankings and the weights of the run are gone, the curves are kept, the reward model is at hand.
    left = {path.name for path in (Workspace(home).improve / "0001").iterdir()}
    assert left == {"outcome.json", "reward.metrics.jsonl", "judge.metrics.jsonl", "policy.metrics.jsonl"}
    assert (Workspace(home).models / "reward" / "model.safetensors").is_file()
    # What it was made out of is noted, and told beside each ranking.
    store = Store(Workspace(home).store)
    told = [fate.sentence for fate in store.fates("ann", limit=200)]
    assert told.count("used in version 0002") == current.card["rankings"]
    assert store.reach("ann").versions == ("0002",)
    assert versions.rollback().name == "0001"


def test_better_answers_are_read_and_noted_too(home: Path, spoken: Any) -> None:
    store = Store(Workspace(home).store)
    better = Demonstration(spoken.prompts[0], "A kind word, my dear.", spoken.answers[0][0], "ann")
    store.add_all([("better", better)])
    folder = attempts.begin(Workspace(home), "", 0.5, spoken.settings(home).comparable())
    read = read_rankings(folder / attempts.POLICY) + read_rankings(folder / attempts.JUDGE)
    assert better.preference() in read
    assert len(read_json(folder / attempts.USED)) == len(read)
    attempts.note_uses(folder, Workspace(home), "0007")
    assert [fate.versions for fate in store.fates("ann", "demonstration")] == [("0007",)]


def test_random_rankings_promote_nothing_and_say_why(tmp_path: Path, spoken: Any) -> None:
    rng = random.Random(0)
    spoken.fill(tmp_path, lambda answers: [rng.random() for _ in answers]).close()
    outcome = improve.run(spoken.settings(tmp_path))
    assert not outcome.promoted
    assert "chance" in outcome.sentence
    versions = Versions(Workspace(tmp_path))
    current = versions.current()
    assert current is not None
    assert current.name == "0001"
    assert versions.get("0002").card["verdict"] == outcome.sentence  # kept, with its reason


@pytest.mark.long
def test_the_opposite_taste_makes_it_ruder(tmp_path: Path, spoken: Any) -> None:
    spoken.fill(tmp_path, lambda answers: [-score for score in spoken.by_taste(answers)]).close()
    improve.run(spoken.settings(tmp_path))
    folder = Versions(Workspace(tmp_path)).get("0002").folder
    assert spoken.politeness(folder) < spoken.politeness(spoken.model) - 0.15


@pytest.mark.long
def test_ppo_moves_it_too(home: Path, spoken: Any) -> None:
    outcome = improve.run(spoken.settings(home, method="ppo"))
    assert outcome.promoted, outcome.sentence
    version = Versions(Workspace(home)).get(outcome.version)
    assert version.label == "tiny + PPO"
    assert spoken.politeness(version.folder) > spoken.politeness(spoken.model) + 0.15


def test_a_program_judges(home: Path, tmp_path: Path, spoken: Any) -> None:
    (tmp_path / "taste.py").write_text(TASTE)
    outcome = improve.run(spoken.settings(home, judge=f"{tmp_path / 'taste.py'}:taste"))
    assert outcome.promoted
    assert outcome.evidence["judge"]["mean"] > 0.95  # equal scores of ties in the taste count half
    assert not list((Workspace(home).improve / "0001").glob("judge*"))


def test_a_judge_of_another_taste_decides_nothing(home: Path, tmp_path: Path, spoken: Any) -> None:
    (tmp_path / "taste.py").write_text(TASTE)
    outcome = improve.run(spoken.settings(home, judge=f"{tmp_path / 'taste.py'}:opposite"))
    assert not outcome.promoted
    assert "chance" in outcome.sentence


def test_without_consent_nothing_is_trained(tmp_path: Path, spoken: Any) -> None:
    store = spoken.fill(tmp_path)
    store.set_consent("ann", False, "words")
    with pytest.raises(
        Refusal, match=f"needs rankings of {NEEDED} .* has 0, out of 0 rankings .80 more without consent"
    ):
        improve.run(spoken.settings(tmp_path))
    assert not Workspace(tmp_path).improve.exists()
    store.set_consent("ann", True, "words")
    assert improve.run(spoken.settings(tmp_path)).promoted


@pytest.mark.parametrize(
    ("count", "scores", "said"),
    [
        (0, lambda answers: [4.0, 3.0, 2.0, 1.0], "has 0, out of 0 rankings:"),
        (1, lambda answers: [4.0, 3.0, 2.0, 1.0], "has 1, out of 1 ranking:"),
        (80, lambda answers: [0.0] * len(answers), "has 0, out of 80 rankings .80 of ties alone"),
        (NEEDED - 5, lambda answers: [4.0, 3.0, 2.0, 1.0], f"has {NEEDED - 5}, out of"),
    ],
)
def test_too_few_rankings(
    tmp_path: Path, spoken: Any, count: int, scores: Callable[..., list[float]], said: str
) -> None:
    spoken.fill(tmp_path, scores, count).close()
    with pytest.raises(Refusal, match=f"needs rankings of {NEEDED} different prompts .*{said}"):
        improve.run(spoken.settings(tmp_path))


def test_contradicting_rankings(tmp_path: Path, spoken: Any) -> None:
    spoken.fill(tmp_path, lambda answers: [4.0, 3.0, 2.0, 1.0]).close()
    spoken.fill(tmp_path, lambda answers: [1.0, 2.0, 3.0, 4.0], annotator="bob").close()
    with pytest.raises(Refusal, match=r"out of 160 rankings .*1\d\d contradicting each other"):
        improve.run(spoken.settings(tmp_path))


def test_a_home_without_a_version(tmp_path: Path, spoken: Any) -> None:
    with pytest.raises(Refusal, match="no version that answers"):
        improve.run(spoken.settings(tmp_path))


def test_two_at_once(home: Path, spoken: Any) -> None:
    with Workspace(home).exclusively("palmier improve"):
        said: list[str] = []

        def second() -> None:
            try:
                improve.run(spoken.settings(home))
            except Refusal as refusal:
                said.append(str(refusal))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "busy with palmier improve" in said[0]


def test_the_halves_share_no_prompt_and_stay_where_they_are(spoken: Any) -> None:
    rankings = [Ranking(p, tuple(a), (1, 2, 3, 4)) for p, a in zip(spoken.prompts, spoken.answers, strict=True)]
    again = [
        replace(r, conversation=Conversation.ask(r.conversation.messages[0].content.upper() + "  ")) for r in rankings
    ]
    halves = by_prompt(rankings + again, 0, 0.5)
    assert len(halves.policy) + len(halves.judge) == 160
    keys = [{prompt_key(r.conversation) for r in half} for half in (halves.policy, halves.judge)]
    assert not keys[0] & keys[1]
    assert min(map(len, keys)) > 20
    some = by_prompt(rankings[:40], 0, 0.5)  # fewer rankings: each stays in its half
    assert set(map(id, some.policy)) <= set(map(id, halves.policy))
    assert by_prompt(rankings, 1, 0.5).policy != by_prompt(rankings, 0, 0.5).policy


def test_what_trains_the_policy_is_not_what_judges(home: Path, monkeypatch: pytest.MonkeyPatch, spoken: Any) -> None:
    """Looks into the open folder before the run tidies it."""
    monkeypatch.setattr(attempts, "tidy", lambda folder: None)
    improve.run(spoken.settings(home))
    folder = Workspace(home).improve / "0001"
    policy, judge = (read_rankings(folder / name) for name in (attempts.POLICY, attempts.JUDGE))
    assert not {r.conversation for r in policy} & {r.conversation for r in judge}
    runs = {name: read_json(folder / name / "run.json")["settings"]["data"] for name in ("reward", "judge", "policy")}
    assert {name: Path(data).name for name, data in runs.items()} == {
        "reward": attempts.POLICY,
        "policy": attempts.POLICY,
        "judge": attempts.JUDGE,
    }
    old, new = ([json.loads(line) for line in (folder / f"{name}.jsonl").open()] for name in ("old", "new"))
    assert len(old) == len(new) == len({r.conversation for r in judge})
    sampling = old[0]["answers"][0]["sampling"]
    assert (sampling["temperature"], sampling["max_tokens"]) == (1.0, 20)
    assert sampling["seed"] == new[0]["answers"][0]["sampling"]["seed"]


def test_a_run_that_goes_wrong_is_explained_and_changes_nothing(home: Path, spoken: Any) -> None:
    outcome = improve.run(spoken.settings(home, lr=0.5))
    assert not outcome.promoted
    assert outcome.version == ""
    assert "stopped, and version 0001 is as it was: dpo stopped" in outcome.sentence
    assert [version.name for version in Versions(Workspace(home)).all()] == ["0001"]
    assert improve.run(spoken.settings(home)).version == "0002"  # and the next one begins anew


def test_a_version_promoted_meanwhile_is_not_pushed_aside(
    home: Path, spoken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = improve.compare

    def promoted_meanwhile(*args: object, **named: object) -> object:
        versions = Versions(Workspace(home))
        versions.promote(versions.add(spoken.model, label="other").name)
        return compare(*args, **named)

    monkeypatch.setattr(improve, "compare", promoted_meanwhile)
    outcome = improve.run(spoken.settings(home))
    current = Versions(Workspace(home)).current()
    assert current is not None
    assert (current.label, outcome.promoted) == ("other", False)
    assert "was promoted while" in outcome.sentence


def test_from_another_version(home: Path, spoken: Any) -> None:
    versions = Versions(Workspace(home))
    versions.add(versions.get("0001").folder, label="copy")
    outcome = improve.run(spoken.settings(home, base="0002"))
    card = versions.get(outcome.version).card
    assert (card["parent"], card["compared_with"], card["label"]) == ("0002", "0001", "copy + DPO")
    with pytest.raises(Refusal, match="no version '0009'"):
        improve.run(spoken.settings(home, base="0009"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answers": 65}, "answers 65"),
        ({"beta": 0.0}, "beta 0.0"),
        ({"lr": -1.0}, "lr -1.0 is negative"),
        ({"judge": "nowhere:f"}, "nowhere"),
        ({"method": "x"}, "method 'x' is unknown"),
        ({"method": "ppo", "epochs": 2}, "epochs 2 is a setting of dpo"),
    ],
)
def test_settings_that_cannot_work(home: Path, changes: dict[str, object], said: str, spoken: Any) -> None:
    with pytest.raises(Refusal, match=said):
        improve.run(spoken.settings(home, **changes))


def test_a_judge_that_fails_is_refused_before_the_work(home: Path, spoken: Any, tmp_path: Path) -> None:
    (tmp_path / "boom.py").write_text("def boom(c, a):\n    return float('nan')\n", "utf-8")
    with pytest.raises(Refusal, match="nan as a score"):
        improve.run(spoken.settings(home, judge=f"{tmp_path}/boom.py:boom"))
    assert not (home / "improve").exists()


def test_learning_rates_follow_the_size(spoken: Any) -> None:
    sizing = Sizing.of(spoken.model)
    assert sizing.factor == pytest.approx((1.35e8 / sizing.parameters) ** 0.5)
    large = replace(sizing, tokens_at_once=100).stage(
        [Ranking(p, tuple(a), (1, 2, 3, 4)) for p, a in zip(spoken.prompts, spoken.answers, strict=True)]
    )
    assert large.micro_batch == 1
    assert large.batch == 3


def test_every_setting_is_an_option_and_its_comment_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    from palmier.cli import app
    from palmier.cli.options import comments

    assert app.run(["improve", "--help"]) == 0
    shown = " ".join(" ".join(line.strip("│ ") for line in capsys.readouterr().out.splitlines()).split())
    notes = comments(improve.Settings)
    for field in dataclasses.fields(improve.Settings):
        option = "--from" if field.name == "base" else f"--{field.name.replace('_', '-')}"
        assert f"{option} " in shown, field.name
        assert len(notes[field.name]) > 10, field.name
    for name in set(notes) - {"home"}:
        assert " ".join(notes[name].split()[:4]) in shown, name
    assert app.run(["improve", "--epochs", "1.5"]) == 2
    assert "no whole number" in capsys.readouterr().err


def test_the_commands(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from palmier.cli import app

    at = ["--home", str(home)]
    assert app.run(["improve", "--precision", "fp32", *at]) == 0
    assert "Version 0002 answers now" in capsys.readouterr().out
    assert app.run(["versions", *at]) == 0
    listed = capsys.readouterr().out
    assert "tiny + DPO" in listed
    assert next(line for line in listed.splitlines() if line.startswith("*")).split()[1] == "0002"
    assert "from 0001, improve 0001, " in listed
    assert app.run(["rollback", *at]) == 0
    assert app.run(["rollback", *at]) == 2
    assert app.run(["promote", "0002", *at]) == 0
    assert app.run(["promote", "0007", *at]) == 2
    assert "no version '0007'" in capsys.readouterr().err
    assert app.run(["improve", "--lr", "0.5", "--precision", "fp32", *at]) == 1
    assert "stopped" in capsys.readouterr().out.lower()
