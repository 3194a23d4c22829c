"""Stop strings are found wherever the text is cut into pieces, and nothing of them comes through."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from palmier.errors import Refusal
from palmier.generate.stops import Stops


def through(stops: Stops, pieces: list[str]) -> str:
    return "".join(stops.push(piece, last=number == len(pieces)) for number, piece in enumerate(pieces, start=1))


def test_what_may_begin_a_stop_string_is_held_back_and_comes_when_it_does_not() -> None:
    stops = Stops(["END", "ENOUGH"])
    assert [stops.push(piece) for piece in ("abE", "EN", "ENx")] == ["ab", "E", "ENENx"]
    assert not stops.found
    assert stops.push("E", last=True) == "E"


@given(
    st.lists(st.text("ab\n", max_size=4), min_size=1, max_size=8),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
)
@example(["abb", "\n"], ["abb\n", "bb"])  # the second is complete before the first, which begins before it
def test_however_it_is_cut_the_text_ends_before_the_first_stop_string(pieces: list[str], strings: list[str]) -> None:
    stops = Stops(strings)
    pieces = [*pieces, ""]
    said = through(stops, pieces)
    whole = "".join(pieces)
    places = [whole.index(string) for string in strings if string in whole]
    if not places:
        assert (said, stops.found) == (whole, False)
        return
    assert stops.found
    assert said == whole[: min(places)]
    assert stops.push("more") == ""


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(Refusal, match="may not be empty"):
        Stops(["a", ""])
