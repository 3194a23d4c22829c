"""What `experiments.company` counts, and that in fp32 it counts nothing."""

from __future__ import annotations

import pytest
from experiments import company

from ..serve.home import Models  # noqa: TID252  # tests are no package: the one way to a neighbour


def test_the_first_difference_ends_what_is_compared() -> None:
    alone = [[1, 2, 3], [1, 2, 3], [4, 5], []]
    other = [[1, 2, 3], [1, 9, 3], [4, 5, 6], []]
    assert company.compared(alone, other) == {"answers": 4, "same": 2, "tokens": 3 + 2 + 3}


@pytest.mark.parametrize("temperature", company.TEMPERATURES)
def test_no_answer_changes_in_fp32(models: Models, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "TEMPERATURES", (temperature,))
    (found,) = company.measured(models["varied"], "fp32", 16, 24)
    for how in ("again", "beside"):
        assert found[how]["same"] == found[how]["answers"] == 16, how
        assert found[how]["tokens"] > 16
