"""`palmier demo`: the whole loop on a small world, from raw text to a version that rankings improved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from palmier.errors import Refusal


def demo(
    *,
    small: Annotated[bool, Parameter(negative=())] = False,
    loop: Annotated[bool, Parameter(negative=())] = False,
    text: Path | None = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("palmier-demo"),
    seed: int = 1,
) -> None:
    """The whole loop on a small world: text to an assistant improved by rankings.

    Takes about 25 minutes on two cores. The same command goes on where it was stopped.

    Parameters
    ----------
    small
        A smaller world and model: about 6 minutes, and a weaker assistant.
    loop
        The smallest form, about 4 minutes: ends with an error where a stage did not learn.
    text
        Pre-train on the texts in this folder or file (.txt, .md, .jsonl) instead of the world's.
    out
        The folder for everything: runs, rankings, versions, report.
    seed
        Of the world and of every draw.
    """
    if small and loop:
        raise Refusal("--small and --loop are two sizes: give one of them")
    if text is not None and not text.exists():
        raise Refusal(f"{text} does not exist: --text wants a folder or a file with text")
    from palmier.demo import chain, loopcheck, sizes
    from palmier.demo.pipeline import Demo

    size = sizes.LOOP if loop else sizes.SMALL if small else sizes.FULL
    run = Demo(out.resolve(), size, seed, None if text is None else text.resolve())
    report = chain.run(run, " ".join(["palmier", *sys.argv[1:]]), lambda line: print(line, flush=True))
    for line in chain.closing_words(run):
        print(line)
    print(f"Report: {report}")
    if loop:
        for line in loopcheck.check(run):
            print(line)
