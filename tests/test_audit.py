"""`make audit` records what it was told, and says so where it was told nothing."""

from __future__ import annotations

import json

import pytest
from scripts.audit import PINNED, packages, read


def test_every_pin_is_asked_about() -> None:
    text = PINNED.read_text("utf-8")
    pins = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(packages(text)) == len(pins) > 50
    assert packages("# x==1\nTorch_x.y==2.13.0\nb==1.0 ; python_version > '3'\n") == {"Torch_x.y": "2.13.0", "b": "1.0"}


def test_findings_are_kept_as_data() -> None:
    hole = {"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": ["CVE-1"], "description": "long"}
    told = {
        "dependencies": [
            {"name": "a", "version": "1.0", "vulns": [hole]},
            {"name": "b", "version": "2.0", "vulns": []},
            {"name": "c", "skip_reason": "not found"},
        ],
        "fixes": [],
    }
    found = read(json.dumps(told))
    assert found == {
        "reached": True,
        "asked": {"a": "1.0", "b": "2.0"},
        "skipped": {"c": "not found"},
        "findings": [{"package": "a", "version": "1.0", "id": "PYSEC-1", "aliases": ["CVE-1"], "fixed_in": ["1.1"]}],
    }


NOBODY_KNOWN = '{"dependencies": [{"name": "a", "skip_reason": "not found"}]}'


@pytest.mark.parametrize("told", ["", "no JSON", "{}", "[]", "null", '{"dependencies": 5}', NOBODY_KNOWN])
def test_no_answer_is_not_no_finding(told: str) -> None:
    assert read(told) == {"reached": False}
