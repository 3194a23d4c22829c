"""Charts and the sentence that owns up to what got worse."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from palmier.demo import report
from palmier.demo.charts import Series, line_chart, thin, ticks


def test_a_chart_is_well_formed_and_places_its_points_inside() -> None:
    svg = line_chart(
        "Loss & <more>", "step", "nats", [Series("a", [(0, 3.0), (10, 1.0)]), Series("b", [(5, 2.0)], True)]
    )
    root = ElementTree.fromstring(svg)
    lines = [line.get("points", "") for line in root.iter("polyline")]
    assert len(lines) == 2
    assert len(list(root.iter("circle"))) == 1
    (first, last) = [tuple(map(float, point.split(","))) for point in lines[0].split()]
    assert first[0] < last[0]
    assert first[1] < last[1]  # a falling loss goes down: y grows downwards
    for x, y in (first, last):
        assert 0 <= x <= 460
        assert 0 <= y <= 260
    assert "&lt;more&gt;" in svg


def test_no_points_no_chart_and_one_point_is_enough() -> None:
    assert line_chart("nothing", "x", "y", [Series("a", [])]) == ""
    ElementTree.fromstring(line_chart("one", "x", "y", [Series("a", [(1.0, 0.0)], True)]))


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0.71, 0.79) == [0.72, 0.74, 0.76, 0.78]
    assert ticks(0, 2770) == [0, 1000, 2000]


def test_thinning_keeps_the_mean() -> None:
    many = [(float(step), 2.0) for step in range(1000)]
    few = thin(many)
    assert len(few) <= 120
    assert all(loss == 2.0 for _, loss in few)


def _interval(mean: float, low: float, high: float) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high, "n": 100}


def _against(**falls: float) -> dict[str, Any]:
    parts = ("score", "facts", "format", "politeness", "length", "right")
    changes = {f"{part}_change": _interval(0.1, 0.0, 0.2) for part in parts}
    changes["right_change_sorts"] = {"function": _interval(-0.04, -0.07, -0.01)} if falls else {}
    return changes | {f"{part}_change": _interval(fall, fall - 0.01, fall + 0.01) for part, fall in falls.items()}


def test_what_got_worse_is_said_in_words() -> None:
    found = {"against_sft": {"sampled": {"PPO": _against(facts=-0.3, right=-0.075)}, "greedy": {"PPO": _against()}}}
    sentence = report.worse_sentence(found)
    assert sentence == (
        "What got worse: PPO, sampled: facts by 0.30 points; PPO, sampled: right facts by 7.5 of a hundred; "
        "PPO, sampled: right facts of functions by 4.0 of a hundred."
    )
    unharmed = {"against_sft": {"sampled": {"PPO": _against()}, "greedy": {}}}
    assert report.worse_sentence(unharmed).startswith("No part of the judge got worse")


@pytest.mark.parametrize(("share", "text"), [(0.705, "70 %"), (0.05, "5.0 %"), (1.0, "100 %")])
def test_shares_are_written_as_per_cent(share: float, text: str) -> None:
    assert report.percent(share) == text


def test_the_template_loads_nothing_from_outside() -> None:
    from importlib.resources import files

    text = files("palmier.demo").joinpath("report.html").read_text("utf-8")
    assert not re.search(r"https?://|<script|<link|src=|@import|url\(", text)
