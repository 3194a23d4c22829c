"""An improvement that ended in the middle goes on where it stood."""

from __future__ import annotations

import pkgutil
import shutil
from pathlib import Path
from typing import Any

import pytest

from palmier.errors import Refusal
from palmier.feedback.store import Store
from palmier.train import improve
from palmier.versions import Versions
from palmier.workspace import Workspace

# ── going on ─────────────────────────────────────────────────────────────────────────────


class Killed(Exception):
    """The process dies here."""


def die_in(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Let a run end in the middle, as if the process had died at ``place``."""

    def dead(*args: object, **named: object) -> object:
        raise Killed

    monkeypatch.setattr(place, dead)


PLACES = [
    "palmier.train.reward_model.run",
    "palmier.train.dpo.run",
    "palmier.train.improve.answer",
    "palmier.train.improve.compare",
    "palmier.versions.Versions.add",
    "palmier.versions.Versions.promote",
    "palmier.train.attempts.tidy",
]


def test_it_goes_on_where_it_stopped(
    home: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, spoken: Any
) -> None:
    """It dies again and again, each time a part further; what it makes is what an undisturbed one made."""
    versions = Versions(Workspace(home))
    for place in PLACES:
        with monkeypatch.context() as patched:
            die_in(patched, place)
            with pytest.raises(Killed):
                improve.run(spoken.settings(home))
        current = versions.current()
        assert current is not None
        assert current.name == ("0002" if place == PLACES[-1] else "0001"), place
        assert [path.name for path in Workspace(home).improve.iterdir()] == ["0001"], place
    assert [version.name for version in versions.all()] == ["0001", "0002"]
    wanted = Versions(Workspace(undisturbed)).get("0002").card["hashes"]["model.safetensors"]
    assert versions.get("0002").card["hashes"]["model.safetensors"] == wanted
    improve.run(spoken.settings(home))  # the first one had ended when it died: this is the next
    assert {path.name for path in Workspace(home).improve.iterdir()} == {"0001", "0002"}
    assert not (Workspace(home).improve / "0001" / "policy").exists()


@pytest.fixture
def open_run(home: Path, monkeypatch: pytest.MonkeyPatch, spoken: Any) -> Path:
    with monkeypatch.context() as patched:
        die_in(patched, "palmier.train.dpo.run")
        with pytest.raises(Killed):
            improve.run(spoken.settings(home))
    return home


def test_it_goes_on_only_with_the_same_settings(open_run: Path, spoken: Any) -> None:
    with pytest.raises(Refusal, match=r"begun with beta = 0\.1, not 0\.2.*--fresh"):
        improve.run(spoken.settings(open_run, beta=0.2))
    outcome = improve.run(spoken.settings(open_run, beta=0.2), fresh=True)
    assert Versions(Workspace(open_run)).get(outcome.version).card["settings"]["beta"] == 0.2


def test_what_was_set_aside_lends_the_next_one_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, spoken: Any
) -> None:
    with monkeypatch.context() as patched:
        die_in(patched, "palmier.versions.Versions.promote")  # its version is there, the improvement has not ended
        with pytest.raises(Killed):
            improve.run(spoken.settings(home))
    outcome = improve.run(spoken.settings(home, beta=0.2), fresh=True)
    versions = Versions(Workspace(home))
    assert outcome.version == "0003"
    cards = [version.card for version in versions.all()[1:]]
    assert [(card["improve"], card["settings"]["beta"]) for card in cards] == [("0001", 0.1), ("0002", 0.2)]


def test_a_version_that_an_improvement_needs_is_not_deleted(
    open_run: Path, spoken: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from palmier.cli import app

    versions = Versions(Workspace(open_run))
    versions.promote(versions.add(spoken.model, label="other").name)
    at = ["--home", str(open_run)]
    assert app.run(["versions", "rm", "0001", *at]) == 2
    assert "improvement 0001 has not ended and needs version 0001" in capsys.readouterr().err
    assert improve.run(spoken.settings(open_run)).version == "0003"
    assert app.run(["versions", "rm", "0001", *at]) == 0
    assert [version.name for version in versions.all()] == ["0002", "0003"]


def test_rankings_withdrawn_meanwhile_are_not_used(open_run: Path, spoken: Any) -> None:
    store = Store(Workspace(open_run).store)
    store.set_consent("ann", False, "words")
    with pytest.raises(Refusal, match="80 more without consent"):
        improve.run(spoken.settings(open_run))
    assert list(Workspace(open_run).improve.iterdir()) == []
    store.set_consent("ann", True, "words")
    assert improve.run(spoken.settings(open_run)).version


@pytest.mark.parametrize("place", PLACES[:4])
def test_rankings_withdrawn_while_it_runs_end_in_no_version(
    place: str, home: Path, monkeypatch: pytest.MonkeyPatch, spoken: Any
) -> None:
    """Whatever part is under way when consent is taken back: the next one does not begin."""
    if not place.endswith("compare"):
        die_in(monkeypatch, "palmier.train.improve.compare")
    store, taken = Store(Workspace(home).store), take_back_in(monkeypatch, place, home)
    with pytest.raises(Refusal, match="80 more without consent"):
        improve.run(spoken.settings(home))
    assert taken == ["ann"]
    assert list(Workspace(home).improve.iterdir()) == []
    assert [version.name for version in Versions(Workspace(home)).all()] == ["0001"]
    assert not (Workspace(home).models / "reward").exists()
    assert store.reach("ann").versions == ()


def take_back_in(monkeypatch: pytest.MonkeyPatch, place: str, home: Path) -> list[str]:
    """Let "ann" take her consent back the first time that ``place`` is called; tells whether that was."""
    function, taken = pkgutil.resolve_name(place), list[str]()

    def taking_back(*args: Any, **named: Any) -> Any:
        if not taken:
            Store(Workspace(home).store).set_consent("ann", False, "words")
            taken.append("ann")
        return function(*args, **named)

    monkeypatch.setattr(place, taking_back)
    return taken


def test_a_new_one_begins_with_what_the_others_allow(
    home: Path, monkeypatch: pytest.MonkeyPatch, spoken: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    store = spoken.fill(home, annotator="bo")
    take_back_in(monkeypatch, "palmier.train.dpo.run", home)
    outcome = improve.run(spoken.settings(home))
    assert outcome.version == "0002"
    assert "rankings that were withdrawn: it is dropped, a new one begins" in capsys.readouterr().err
    assert 0 < Versions(Workspace(home)).get("0002").card["rankings"] <= 80, "half of those that it had begun with"
    assert (store.reach("bo").versions, store.reach("ann").versions) == (("0002",), ())


def test_a_version_that_was_made_before_stays_and_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, spoken: Any
) -> None:
    with monkeypatch.context() as patched:
        die_in(patched, "palmier.train.attempts.note_uses")
        with pytest.raises(Killed):
            improve.run(spoken.settings(home))
    store = Store(Workspace(home).store)
    store.set_consent("ann", False, "words")
    with pytest.raises(Refusal, match="80 more without consent"):
        improve.run(spoken.settings(home))
    assert store.reach("ann").versions == ("0002",)


def test_a_full_disk_leaves_the_improvement_open(home: Path, monkeypatch: pytest.MonkeyPatch, spoken: Any) -> None:
    def full(*args: object) -> object:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copy2", full)
        with pytest.raises(Refusal, match="No space left"):
            improve.run(spoken.settings(home))
    assert [version.name for version in Versions(Workspace(home)).all()] == ["0001"]
    assert improve.run(spoken.settings(home)).promoted
