"""What the tables of result files share: reading them, and how a figure, an interval and a table are written."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent

Json = dict[str, Any]


def read(folder: str) -> list[Json]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "results" / folder).glob("*.json"))]


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def interval(value: Json) -> str:
    return f"{percent(value['mean'])} ({100 * value['low']:.1f} … {100 * value['high']:.1f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def made_by(runs: list[Json]) -> str:
    """The machines and commits of some runs, as the end of a table's note."""
    machines = {f"{run['machine']['cores']} cores, {run['machine']['processor']}" for run in runs}
    commits = {run["commit"][:10] for run in runs}
    return f"{'; '.join(sorted(machines))}; commit {', '.join(sorted(commits))}.\n"


def spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} … {max(values):{form}})"
