from __future__ import annotations

import json
from pathlib import Path

import pytest

from palmier.cli import app
from palmier.errors import Refusal
from palmier.feedback.scoring import Agreed, read_answered, score_lines
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Ranking

ASK = Conversation.ask("Write to Ann.")
TASTE = "def taste(conversation, answer):\n    return -len(answer.text)\n"


@pytest.fixture
def taste(tmp_path: Path) -> str:
    (tmp_path / "taste.py").write_text(TASTE)
    return f"{tmp_path / 'taste.py'}:taste"


def lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")
    return path


def ranking(annotator: str = "ann") -> Ranking:
    return Ranking(ASK, (Answer("long one"), Answer("x"), Answer("mid")), (3, 1, 2), annotator=annotator)


def test_sorted_by_preference_and_cut(tmp_path: Path, taste: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain = {"messages": ASK.to_json(), "answers": ["long one", {"text": "x", "mine": 7}, "mid"]}
    file = lines(tmp_path / "a.jsonl", plain, ranking().to_json())
    assert app.run(["reward", "score", str(file), "--model", taste, "--sort", "--best", "2"]) == 0
    out, err = capsys.readouterr()
    first, second = map(json.loads, out.splitlines())
    assert first["messages"] == ASK.to_json()
    assert first["answers"] == [{"text": "x", "mine": 7, "score": -1.0}, {"text": "mid", "score": -3.0}]
    assert [(answer["text"], answer["rank"]) for answer in second["answers"]] == [("x", 1), ("mid", 2)]
    assert "100.0% of 3 pairs" in err


def test_unsorted_keeps_the_order_and_files_are_written(tmp_path: Path, taste: str) -> None:
    file = lines(tmp_path / "a.jsonl", {"messages": ASK.to_json(), "answers": ["bbb", "a"]})
    assert app.run(["reward", "score", str(file), "--model", taste, "-o", str(tmp_path / "b.jsonl")]) == 0
    written = json.loads((tmp_path / "b.jsonl").read_text("utf-8"))
    assert [answer["score"] for answer in written["answers"]] == [-3.0, -1.0]
    again = read_answered(tmp_path / "b.jsonl")  # what was written can be read
    assert [answer["text"] for answer in again[0].answers] == ["bbb", "a"]


def test_the_opposite_taste_agrees_with_nobody(tmp_path: Path) -> None:
    class Longest:
        def score(self, conversations: object, answers: list[Answer]) -> list[float]:
            return [float(len(answer.text)) for answer in answers]

    agreed = Agreed()
    list(score_lines(Longest(), read_answered(lines(tmp_path / "a", ranking().to_json())), sort=True, agreed=agreed))
    assert (agreed.right, agreed.pairs) == (0.0, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"answers": ["a"]},
        {"messages": ASK.to_json()},
        {"messages": ASK.to_json(), "answers": []},
        {"messages": ASK.to_json(), "answers": [3]},
        {"messages": ASK.to_json(), "answers": [{"text": "a", "tokens": 5}]},
        {"messages": "hello", "answers": ["a"]},
        {"messages": ASK.to_json(), "answers": ["a", "b"], "ranks": [1]},
        {"messages": ASK.to_json(), "answers": ["a", "b"], "ranks": "12"},
        ["a"],
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: object) -> None:
    file = lines(tmp_path / "a.jsonl", {"messages": ASK.to_json(), "answers": ["a"]}, bad)
    with pytest.raises(Refusal, match=r"a\.jsonl:2: "):
        read_answered(file)
    with pytest.raises(Refusal, match="empty"):
        read_answered(lines(tmp_path / "b.jsonl"))


def test_export_and_stats_go_by_consent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    assert app.run(["feedback", "stats", "--home", str(home)]) == 2
    store = Store(home / "feedback.sqlite")
    for name in ("ann", "bob"):
        store.add_ranking(ranking(name), name)
    store.set_consent("ann", True, "words")
    out = tmp_path / "out.jsonl"
    assert app.run(["feedback", "export", str(out), "--home", str(home)]) == 0
    assert [json.loads(line)["annotator"] for line in out.read_text().splitlines()] == ["ann"]
    assert app.run(["feedback", "stats", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 rankings" in said
    assert "not asked" in said
    store.set_consent("ann", False, "words")
    assert app.run(["feedback", "export", str(out), "--home", str(home)]) == 0
    assert out.read_text() == ""


def test_import_counts_once_and_trains_only_with_consent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    file = lines(tmp_path / "r.jsonl", ranking("ann").to_json(), ranking("bob").to_json())
    at = ["--home", str(home)]
    assert app.run(["feedback", "import", str(file), *at]) == 0
    assert "2 of 2 were new; of all preferences, 0" in capsys.readouterr().out
    assert app.run(["feedback", "import", str(file), "--consent", *at]) == 0
    assert "0 of 2 were new; of all preferences, 2" in capsys.readouterr().out
    assert Store(home / "feedback.sqlite").training_rankings() == [ranking("ann"), ranking("bob")]
    assert app.run(["feedback", "import", str(lines(tmp_path / "b.jsonl", {"ranks": [1]})), *at]) == 2


def test_consent_for_one_file_says_nothing_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that do not say whose they are are nobody's together."""
    home, out = tmp_path / "home", tmp_path / "out.jsonl"
    at = ["--home", str(home)]
    agreed = lines(tmp_path / "agreed.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    secret = lines(tmp_path / "secret.jsonl", {"prompt": "SECRET", "chosen": "a", "rejected": "b"})
    before = lines(tmp_path / "before.jsonl", {"prompt": "BEFORE", "chosen": "a", "rejected": "b"})
    for words in ([str(before)], [str(agreed), "--consent"], [str(secret)]):
        assert app.run(["feedback", "import", *words, *at]) == 0
    assert "1 of 1 were new; of all preferences, 1 may" in capsys.readouterr().out
    assert app.run(["feedback", "export", str(out), "--format", "preference", *at]) == 0
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["prompt"] == [{"role": "user", "content": "p"}]
    # Under a name, it is that person's.
    assert app.run(["feedback", "import", str(secret), "--annotator", "bob", "--consent", *at]) == 0
    assert {one.annotator for one in Store(home / "feedback.sqlite").training_rankings()} >= {"bob"}


def test_who_said_no_is_not_overruled_by_an_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    store = Store(home / "feedback.sqlite")
    store.set_consent("ann", False, "words")
    file = lines(tmp_path / "r.jsonl", ranking("ann").to_json(), ranking("bob").to_json())
    assert app.run(["feedback", "import", str(file), "--consent", "--home", str(home)]) == 0
    assert "said no before, which stays: ann" in capsys.readouterr().out
    assert [one.annotator for one in store.training_rankings()] == ["bob"]
