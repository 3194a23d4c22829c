"""What a run says: to programs exactly, to people now and then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palmier.train import log


def test_lines_after_the_restored_step_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = log.Metrics(path, 0)
    for step in (1, 2, 3):
        metrics.write({"step": step, "loss": 1.5})
    metrics.close()
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    metrics = log.Metrics(path, 2)
    metrics.write({"step": 3, "loss": 0.5})
    metrics.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.5), (2, 1.5), (3, 0.5)]


def test_a_run_that_begins_anew_has_no_old_lines(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    log.Metrics(tmp_path / "metrics.jsonl", 0).close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_progress_is_said_where_the_output_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(log, "say", said.append)
    monkeypatch.setattr(log, "PLAIN_SECONDS", 0.0)
    line = log.ProgressLine("sft", 0, 10)
    line.show(5, {"loss": 1.25}, 1234.5)
    assert said[0].startswith("sft: step 5/10 · loss 1.2500 · 1,234 tokens/s · ")
    assert said[0].endswith("s left")


@pytest.mark.parametrize(("seconds", "words"), [(4.4, "4 s"), (61, "1 min 01 s"), (7325, "2 h 02 min")])
def test_time_left_is_said_as_people_say_it(seconds: float, words: str) -> None:
    assert log._duration(seconds) == words
