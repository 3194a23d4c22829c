"""The demo from end to end in its tiniest form: every stage, resumed, refused, reported, served."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmier.demo import chain, loopcheck, pipeline
from palmier.demo.pipeline import Demo, Stage
from palmier.demo.sizes import FULL, LOOP, SMALL, Size
from palmier.errors import Refusal
from palmier.feedback.store import Store
from palmier.versions import Versions


@pytest.fixture(scope="module")
def finished(tiny: Size, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    demo = Demo(tmp_path_factory.mktemp("demo") / "out", tiny, seed=5)
    chain.run(demo, "palmier demo", lambda line: None)
    return demo


def test_every_stage_leaves_what_it_found_and_the_report_shows_all_of_it(finished: Demo) -> None:
    results = json.loads(finished.results.read_text())
    assert set(results["seconds"]) == {stage.name for stage in chain.STAGES}
    for key in ("command", "commit", "seed", "machine", "settings", "total_seconds"):
        assert key in results
    found = results["comparison"]
    for way in ("sampled", "greedy"):
        for label in ("SFT", "DPO", "PPO"):
            for part in ("score", "facts", "format", "politeness", "length", "right", "words", "ended"):
                assert part in found[way][label]
    assert set(found["kl"]) == {"DPO", "PPO", "best of 4"}
    page = finished.report.read_text()
    assert page.count("<svg") >= 5  # a reward model without pairs to judge has no curve
    assert "What such a small model can" in page
    assert "nearest neighbour" in page
    assert not re.search(r"https?://(?!127\.0\.0\.1)", page)


def test_the_home_holds_versions_rankings_with_consent_and_prompts(finished: Demo) -> None:
    labels = [version.label for version in Versions(finished.home).all()]
    assert labels == ["base", "SFT", "DPO", "PPO"]
    current = Versions(finished.home).current()
    assert current is not None
    assert finished.found("serve")["version"] == current.name
    store = Store(finished.home.store)
    assert len(store.training_rankings()) == 40
    store.set_consent("volunteer-1", False, "changed my mind")
    assert len(store.training_rankings()) < 40
    store.set_consent("volunteer-1", True, "changed it back")
    store.close()
    assert len(finished.home.prompts.read_text().splitlines()) == 200


def test_the_same_command_does_nothing_again_and_another_is_refused(finished: Demo) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*.json") if path != finished.results}
    said: list[str] = []
    chain.run(finished, "palmier demo", said.append)
    assert said == []
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(Refusal, match="holds a demo with seed 5, not 6"):
        chain.run(replace(finished, seed=6), "", said.append)
    with pytest.raises(Refusal, match="holds a demo with size tiny, not full"):
        chain.run(replace(finished, size=FULL), "", said.append)
    with pytest.raises(Refusal, match=r"holds a demo with dpo_beta 0\.1, not 0\.2"):
        chain.run(replace(finished, size=replace(finished.size, dpo_beta=0.2)), "", said.append)


def test_a_stage_that_failed_is_done_again_and_those_before_it_are_not(tiny: Size, tmp_path: Path) -> None:
    done: list[str] = []

    def work(name: str) -> Any:
        def run(demo: Demo) -> dict[str, Any]:
            done.append(name)
            if name == "second" and done.count("second") == 1:
                raise KeyboardInterrupt
            return {"name": name}

        return run

    stages = tuple(Stage(name, name, work(name)) for name in ("first", "second", "third"))
    demo = Demo(tmp_path, tiny, 1)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(demo, stages, lambda line: None)
    pipeline.run(demo, stages, lambda line: None)
    assert done == ["first", "second", "second", "third"]
    assert demo.found("third") == {"name": "third"}
    assert json.loads(demo.marker("second").read_text())["resumed"] is True


def test_two_at_once_are_refused(tiny: Size, tmp_path: Path) -> None:
    demo = Demo(tmp_path, tiny, 1)
    with demo.home.exclusively("the other"), pytest.raises(Refusal, match="is busy with the other"):
        chain.run(demo, "", lambda line: None)


def test_a_stage_that_did_not_learn_fails_the_loop(finished: Demo) -> None:
    with pytest.raises(loopcheck.NotLearned):
        loopcheck.check(finished)


def test_the_sizes_are_possible() -> None:
    for size in (FULL, SMALL, LOOP):
        assert size.hidden_size % 64 == 0
        assert size.ppo_episodes % 32 == 0
        assert size.curve[-1] == size.prompts
        assert list(size.curve) == sorted(size.curve)
        assert size.answer_tokens < size.length


def test_text_of_ones_own_that_is_too_short_is_refused(tiny: Size, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("Just a line.")
    demo = Demo(tmp_path / "out", tiny, 1, tmp_path / "note.txt")
    with pytest.raises(Refusal, match="only 12 characters of text"):
        chain.run(demo, "", lambda line: None)
