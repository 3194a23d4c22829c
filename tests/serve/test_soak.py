"""A minute of the load that `python -m experiments.soak` puts on a model for longer."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from palmier.scale import precision
from palmier.workspace import Workspace

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the process's memory is read from /proc"),
]


def test_a_minute_of_mixed_load_loses_nothing_and_nothing_grows(
    home: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32: in bf16 oneDNN makes a kernel for every new shape, which takes many minutes to come to an end."""
    from experiments.soak import soak

    monkeypatch.setattr(precision, "default_dtype", lambda: torch.float32)
    result = soak(home("varied"), minutes=1.0, users=16)
    assert result.done > 50
    assert result.given_up > 10
    assert (result.stuck, result.requests_left, result.pages_left) == (0, 0, 0)
    assert 0 < result.between_p50 <= result.between_p99 < 5
    # A slope that is certainly above 20 MiB a minute is a leak; noise alone stays far below.
    assert result.memory_slope_interval[0] < 20 * 2**20
