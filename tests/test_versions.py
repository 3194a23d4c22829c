"""Deleting a version: what is refused, what is kept, and what a death in the middle leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from palmier.cli.app import run
from palmier.errors import Refusal
from palmier.versions import Versions
from palmier.workspace import Workspace


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """0001 … 0003, of which the first answers."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", "utf-8")
    (model / "model.safetensors").write_bytes(bytes(3_000_000))
    made = Versions(Workspace(tmp_path / "home"))
    for label in ("base", "DPO", "DPO"):
        made.add(model, label=label)
    made.promote("0001")
    return made


def names(versions: Versions) -> list[str]:
    return [version.name for version in versions.all()]


def test_a_deleted_version_is_gone_and_its_number_is_never_given_again(versions: Versions) -> None:
    assert versions.remove("0003") > 3_000_000
    assert names(versions) == ["0001", "0002"]
    assert sorted(path.name for path in versions.workspace.versions.iterdir()) == ["0001", "0002"]
    with pytest.raises(Refusal, match="no version '0003'; known: 0001, 0002"):
        versions.promote("0003")
    model = versions.get("0001").folder
    assert versions.add(model, label="new").name == "0004"
    versions.remove("0002")
    assert versions.add(model, label="new").name == "0005", "the lower number does not bring the higher one back"
    versions.remove("0005")
    versions.remove("0004")
    assert versions.add(model, label="new").name == "0006"


def test_what_answers_stays_and_rollback_passes_over_what_is_gone(versions: Versions) -> None:
    for name in ("0002", "0001", "0003"):
        versions.promote(name)
    with pytest.raises(Refusal, match="version 0003 answers now, so it stays"):
        versions.remove("0003")
    versions.remove("0002")  # 0001, 0002, 0001 → 0001: no step leads from a version to itself
    assert versions.rollback().name == "0001"
    with pytest.raises(Refusal, match="no earlier version"):
        versions.rollback()
    versions.remove("0003")
    current = versions.current()
    assert current is not None
    assert (current.name, names(versions)) == ("0001", ["0001"])


def test_the_way_back_never_leads_to_the_version_that_answers(versions: Versions) -> None:
    for name in ("0002", "0001"):
        versions.promote(name)
    versions.remove("0002")
    with pytest.raises(Refusal, match="no earlier version"):
        versions.rollback()


def test_who_holds_a_version_keeps_it(versions: Versions) -> None:
    one, other = versions.get("0002").hold(), versions.get("0002").hold()
    one.close()
    with pytest.raises(Refusal, match="0002 is in the memory of a running `palmier serve`"):
        versions.remove("0002")
    assert names(versions) == ["0001", "0002", "0003"]
    other.close()
    with versions.get("0002").alone(), pytest.raises(Refusal, match="0002 is being deleted"):
        versions.promote("0002")
    gone = versions.get("0002")
    versions.remove("0002")
    with pytest.raises(Refusal, match="no version '0002' any more"):
        gone.hold()


@pytest.mark.parametrize("name", ["", "9", "./0002", "0002/", "../versions/0002", "../home", "²"])
def test_only_a_number_names_a_version(versions: Versions, name: str) -> None:
    for work in (versions.remove, versions.promote):
        with pytest.raises(Refusal, match="there is no version"):
            work(name)
    assert names(versions) == ["0001", "0002", "0003"]


def test_a_damaged_record_of_numbers_is_said(versions: Versions) -> None:
    versions.workspace.highest.write_text("[3]", "utf-8")
    with pytest.raises(Refusal, match=r"highest\.json is damaged"):
        versions.add(versions.get("0001").folder, label="new")


DYING = """
import os, sys
from pathlib import Path
from palmier.versions import Versions
from palmier.workspace import Workspace
left, versions = int(sys.argv[2]), Versions(Workspace(Path(sys.argv[1])))
def count(event, arguments):
    # Each time before a file or a folder is opened, renamed or removed.
    global left
    if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir", "fcntl.flock"):
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(count)
versions.remove("0003")
"""


def test_a_death_at_any_moment_leaves_it_whole_or_gone(versions: Versions, tmp_path: Path) -> None:
    home, states = tmp_path / "tried", set()
    for moment in range(200):
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(versions.workspace.home, home)
        command = [sys.executable, "-c", DYING, str(home), str(moment)]
        died = subprocess.run(command, check=False).returncode
        tried = Versions(Workspace(home))
        left = names(tried)
        states.add(tuple(left))
        assert left in (["0001", "0002", "0003"], ["0001", "0002"]), moment
        for version in tried.all():
            tried.verify(version)
        assert tried.current() is not None
        assert tried.add(tried.get("0001").folder, label="new").name == "0004", moment
        if "0003" in left:
            tried.remove("0003")
        assert sorted(path.name for path in tried.workspace.versions.iterdir()) == ["0001", "0002", "0004"], moment
        if died == 0:
            break
    assert moment > 10
    assert states == {("0001", "0002", "0003"), ("0001", "0002")}


def test_the_commands(versions: Versions, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--home", str(versions.workspace.home)]
    assert run(["versions", "rm", "0002", *at]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "Version 0002 (DPO) is deleted: 3.0 MB are free again."
    assert run(["versions", *at]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [(line[:6], line.split()[-1]) for line in listed] == [("* 0001", "base"), ("  0003", "DPO")]
    for name, words in {"0001": "answers now", "0002": "no version '0002'; known: 0001, 0003"}.items():
        assert run(["versions", "rm", name, *at]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    with versions.workspace.exclusively("palmier improve"):
        assert run(["versions", "rm", "0003", *at]) == 2
    assert "busy with palmier improve" in capsys.readouterr().err
    assert names(versions) == ["0001", "0003"]
    nowhere = versions.workspace.home.with_name("nowhere")
    assert run(["versions", "rm", "0001", "--home", str(nowhere)]) == 2
    assert not nowhere.exists()


def test_two_of_one_name_are_told_apart(versions: Versions, capsys: pytest.CaptureFixture[str]) -> None:
    model = versions.get("0001").folder
    same = {"beta": 0.1, "seed": 0, "precision": "fp32"}
    for improve, count, settings in [("0001", 40, same), ("0002", 40, same), ("0003", 61, same | {"seed": 7})]:
        facts = {"improve": improve, "rankings": count, "settings": settings, "verdict": "not promoted: why"}
        versions.add(model, label="base + DPO", parent="0001", **facts)
    assert run(["versions", "--home", str(versions.workspace.home)]) == 0
    listed = capsys.readouterr().out
    assert "        from 0001, improve 0001, 40 rankings, seed 0\n" in listed
    assert "        from 0001, improve 0002, 40 rankings, seed 0\n" in listed
    assert "        from 0001, improve 0003, 61 rankings, seed 7\n        Not promoted: why.\n" in listed
    assert "precision" not in listed, "what all of them share tells nothing apart"
