"""Plant each known bug in a copy of the source and see the test that should notice it turn red.

    python tests/bugs/plant.py            all of them (some minutes)
    python tests/bugs/plant.py swapped    those whose name contains a word

The bugs stand in the rooms' mutations.toml: those that the field is known for in tests/bugs, each
room's own beside its tests. The repository itself is never touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutation:
    """One bug, and the tests (as pytest is told) of which at least one must fail."""

    name: str
    file: str  # below src/palmier
    old: str
    new: str
    tests: list[str]  # below tests


def mutations() -> list[Mutation]:
    """All of them, the rooms in the order of the alphabet."""
    lists = [tomllib.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("tests/*/mutations.toml"))]
    return [Mutation(**one) for found in lists for one in found["mutation"]]


def share(every: list[Mutation]) -> list[Mutation]:
    """One in $PLANTED of them, others at every commit; all where the variable is not set."""
    parts = int(os.environ.get("PLANTED", "1"))
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [
        one for one in every if hashlib.sha256(f"{git.stdout.strip()} {one.name}".encode()).digest()[0] % parts == 0
    ]


def copy_source(target: Path) -> None:
    """What the tests of a planted bug need, in a folder that may be changed."""
    for name in ("src", "tests", "benchmarks", "docs", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, target / name)


def run_tests(copy: Path, mutation: Mutation) -> subprocess.CompletedProcess[str]:
    """Run the tests of a bug in the copy, against the copy's own source: the long ones where the quick ones stay green."""
    paths = [str(copy / "tests" / name) for name in mutation.tests]
    # One line a failure: for whole tracebacks pytest parses the source, which Python 3.11 can fail at.
    how = ["-q", "-x", "--tb=line", "-p", "no:cacheprovider", "--timeout=200"]
    command = [sys.executable, "-m", "pytest", *how, *paths]
    settings = {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    # The server has no hand in making the models that its tests answer with: they are made once for all of its bugs.
    kept = {"PARROTS": str(copy / "parrots")} if mutation.file.startswith("serve/") else {}
    # Where CI is set, pytest explains every difference at full length, which can take it minutes.
    # And nothing tells the tests that another worker stands beside them: bounds of time would grow.
    left_out = ("CI", "BUILD_NUMBER", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT")
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    for part in ("not long", "long"):
        done = subprocess.run(
            [*command, "-m", part],
            cwd=copy,
            env=inherited | settings | kept,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 5):  # 5: none of this part
            break
    return done


def plant(mutation: Mutation, copy: Path) -> str:
    """The test that turned red. Raises AssertionError where none did, or not because of the bug."""
    path = copy / "src" / "palmier" / mutation.file
    text = path.read_text("utf-8")
    assert text.count(mutation.old) == 1, f"{mutation.file} does not hold the text to change exactly once"
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    try:
        done = run_tests(copy, mutation)
    finally:
        path.write_text(text, "utf-8")
    red = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    # 1 = tests ran and failed; a bug that hinders the import or the collection proves nothing.
    noticed = done.returncode == 1 and red and "ERROR" not in done.stdout
    assert noticed, f"stayed green (pytest ended with {done.returncode})\n{done.stdout[-800:]}"
    return red[0].removeprefix("FAILED ").split(" - ")[0].rpartition("tests/")[2]


def main(words: list[str]) -> int:
    chosen = [m for m in mutations() if all(word in m.name for word in words)]
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_source(copy)
        for mutation in chosen:
            try:
                print(f"red    {mutation.name}: {plant(mutation, copy)}", flush=True)
            except AssertionError as complaint:
                failures += 1
                print(f"GREEN  {mutation.name}: {complaint}", flush=True)
    print(f"{len(chosen) - failures} of {len(chosen)} planted bugs were noticed")
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
