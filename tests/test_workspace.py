"""Folders are written whole or not at all, the pointer moves last, the home has one lock."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from palmier.errors import Refusal
from palmier.models.names import resolve_model
from palmier.versions import Versions
from palmier.workspace import Workspace, clear_leftovers, latest_step, read_json, write_text, write_whole


def model_folder(path: Path, content: str = "{}") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(content)
    (path / "model.safetensors").write_text("weights " + content)
    return path


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path) -> None:
    with write_whole(tmp_path / "out") as folder:
        (folder / "a").write_text("first")

    def fail() -> None:
        with write_whole(tmp_path / "out") as folder:
            (folder / "a").write_text("second")
            raise ValueError("the body failed")

    with pytest.raises(ValueError, match="body failed"):
        fail()
    assert (tmp_path / "out" / "a").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_full_disk_is_one_line_and_leaves_the_old_folder(tmp_path: Path) -> None:
    script = f"""
        import resource
        from pathlib import Path
        from palmier.errors import Refusal
        from palmier.workspace import write_whole
        target = Path({str(tmp_path / "out")!r})
        with write_whole(target) as folder:
            (folder / "a").write_bytes(b"first")
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with write_whole(target) as folder:
                (folder / "a").write_bytes(b"x" * 5000)
        except Refusal as refusal:
            print(refusal)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "could not write" in done.stdout
    assert done.stdout.count("\n") == 1
    assert (tmp_path / "out" / "a").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_leftovers_of_a_killed_process_are_cleared_and_of_a_living_one_kept(tmp_path: Path) -> None:
    script = f"""
        from pathlib import Path
        from palmier.workspace import write_whole
        import time
        with write_whole(Path({str(tmp_path / "out")!r})) as folder:
            (folder / "a").write_text("half")
            (Path({str(tmp_path)!r}) / f".partial-{{folder.name.split('-')[1]}}-0-file.json").write_text("half a file")
            print("ready", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        clear_leftovers(tmp_path)
        assert len(list(tmp_path.glob(".partial-*"))) == 2, "a living process still writes there"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "out").exists()
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_cannot_hold_one_home(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    script = f"""
        from pathlib import Path
        from palmier.errors import Refusal
        from palmier.workspace import Workspace
        try:
            with Workspace(Path({str(tmp_path)!r})).exclusively("second"):
                print("entered")
        except Refusal as refusal:
            print(refusal)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with home.exclusively("palmier improve"):
        busy = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"busy with palmier improve (process {os.getpid()})" in busy
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "entered\n"


def test_versions_are_copied_hashed_promoted_and_rolled_back(tmp_path: Path) -> None:
    versions = Versions(Workspace(tmp_path / "home"))
    assert versions.current() is None
    with pytest.raises(Refusal, match="no earlier version"):
        versions.rollback()
    first = versions.add(model_folder(tmp_path / "a"), label="base")
    second = versions.add(model_folder(tmp_path / "b", '{"b": 1}'), label="DPO", parent=first.name, figure=1)
    assert [version.name for version in versions.all()] == ["0001", "0002"]
    assert second.card["parent"] == "0001"
    assert second.card["figure"] == 1
    assert versions.current() is None, "adding does not promote"
    versions.promote("0001")
    versions.promote("0002")
    versions.promote("0002")
    current = versions.current()
    assert current is not None
    assert current.label == "DPO"
    assert versions.rollback().name == "0001"
    with pytest.raises(Refusal, match="no earlier version"):
        versions.rollback()
    with pytest.raises(Refusal, match="no version '0009'; known: 0001, 0002"):
        versions.promote("0009")


def test_a_damaged_version_is_never_promoted(tmp_path: Path) -> None:
    versions = Versions(Workspace(tmp_path / "home"))
    versions.add(model_folder(tmp_path / "a"), label="a")
    version = versions.add(model_folder(tmp_path / "b"), label="b")
    versions.promote("0001")
    (version.folder / "model.safetensors").write_text("bit rot")
    with pytest.raises(Refusal, match=r"damaged: .*model\.safetensors"):
        versions.promote(version.name)
    current = versions.current()
    assert current is not None
    assert current.name == "0001"


def test_a_model_is_found_by_folder_run_version_and_name(tmp_path: Path) -> None:
    home = Workspace(tmp_path / "home")
    folder = model_folder(tmp_path / "plain")
    step = model_folder(tmp_path / "run" / "step-20")
    write_text(tmp_path / "run" / "latest", "step-20\n")
    named = model_folder(home.models / "smol")
    version = Versions(home).add(folder, label="x")
    assert resolve_model(folder, home) == folder
    assert resolve_model(tmp_path / "run", home) == step == latest_step(tmp_path / "run")
    assert resolve_model("smol", home) == named
    assert resolve_model("0001", home) == version.folder
    with pytest.raises(Refusal, match="is no model"):
        resolve_model("nothing", home)


def test_json_that_is_none_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(Refusal, match=r"x\.json is not JSON"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(Refusal, match=r"x\.json is not JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(Refusal, match=r"y\.json is missing"):
        read_json(tmp_path / "y.json")


def test_help_is_quick() -> None:
    usual = least_seconds(sys.executable, "-c", "import cyclopts")
    assert least_seconds(sys.executable, "-m", "palmier", "--help") < 5 * usual


def least_seconds(*command: str) -> float:
    """The processor's time, not the clock's: other tests run beside this one."""
    subprocess.run(command, check=True, capture_output=True)
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)
