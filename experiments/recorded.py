"""What the experiments that take a model have in common: their last two arguments, and how a result is kept."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from palmier.demo.chain import machine
from palmier.train.checkpoint import commit
from palmier.workspace import write_json


def arguments(about: str | None) -> argparse.ArgumentParser:
    """A parser that explains itself with a module's docstring and knows ``--model`` and ``--out``."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model's folder")
    parser.add_argument("--out", type=Path, help="where the figures are written, as JSON")
    return parser


def provenance(command: str, model: Path | None) -> dict[str, Any]:
    """What stands before an experiment's figures: the command, the commit and the machine."""
    return {"command": command + (" --model FOLDER" if model else ""), "commit": commit(), "machine": machine()}


def keep(result: dict[str, Any], out: Path | None) -> None:
    """Write a result to ``out``, where there is one."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)
