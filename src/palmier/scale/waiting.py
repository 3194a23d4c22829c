"""How OpenMP's threads wait for one another; without torch, which reads it when it is imported."""

from __future__ import annotations

import os

SPINS = 5000
"""Some 60 µs: longer than what lies between two products of a decoding step."""


def briefly() -> None:
    """Let threads that wait sleep after ``SPINS`` looks: for a process that answers. Whoever set a variable is obeyed.

    GNU's spin for some milliseconds by their own choice, and there are hundreds of waits in a step of decoding: where
    another program has the processor of the thread that is waited for, most of the time goes by with it. Training keeps
    that choice: its products are long, and alone on a machine it is a tenth quicker with it. It changes speed, never
    a number, and nothing where torch has been imported already.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
