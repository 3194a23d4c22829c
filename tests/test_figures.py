"""Figures in README and docs are generated, not typed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "figures.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_table_is_what_its_result_files_say() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout


def test_a_typed_figure_is_found(tmp_path: Path) -> None:
    for name in ("scripts", "docs", "results"):
        shutil.copytree(ROOT / name, tmp_path / name)
    readme = (ROOT / "README.md").read_text("utf-8")
    (tmp_path / "README.md").write_text(readme.replace("<!-- /figures -->", "99.9 %\n<!-- /figures -->", 1), "utf-8")
    assert check(tmp_path).returncode == 1
