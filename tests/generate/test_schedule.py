"""Pages are shared, taken away and given back, and no answer shows it."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest

from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.generate.requests import Event, Request
from palmier.generate.scheduler import Sample
from palmier.model.cache import page_bytes
from palmier.model.decoder import Decoder
from palmier.records import Sampling

from .drawing import by_hand, check, drain, prompt

PAGE = 4


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmier.generate.engine._PAGE", PAGE)


def memory(decoder: Decoder, pages: int) -> int:
    """Bytes of so many pages, and of the one that the cache keeps for itself."""
    return (pages + 1) * page_bytes(decoder.config, PAGE, 4)


class Counting(Engine):
    """Remembers how many prompt tokens it has computed, and how often a sample was interrupted."""

    fed = 0
    most = 0

    def _feed(self, batch: list[tuple[Sample, int]]) -> None:
        super()._feed(batch)
        self.fed += sum(size for _, size in batch)

    def step(self) -> list[Event]:
        events = super().step()
        self.most = max(self.most, len(self._schedule.interrupted))
        orders = [one.order for one in self._schedule.running]
        assert orders == sorted(orders), "the last one is not the youngest, so that an older one would give its pages"
        return events


def test_a_turn_reads_what_is_new_and_another_user_shares_the_beginning(decoder: Decoder) -> None:
    engine = Counting(decoder)
    first = Request("a", prompt(41), Sampling(0.8, max_tokens=20, seed=1))
    (said,) = engine.run([first])[0]
    assert engine.fed == 40
    turn = Request("b", (*first.prompt, *said.tokens, 5, 6, 7), Sampling(0.8, max_tokens=10, seed=2))
    check(decoder, [turn], engine.run([turn]))
    # 60 tokens were read, all in whole pages; the 61st was drawn last, and the turn's own last one is decoded.
    assert engine.fed == 40 + 63 - 60
    engine.fed = 0
    other = Request("c", (*first.prompt[:30], 9, 9, 9, 9), Sampling(0.8, max_tokens=10, seed=3))
    check(decoder, [other], engine.run([other]))
    assert engine.fed == 33 - 28
    engine.weights_changed()
    check(decoder, [other], engine.run([other]))
    assert engine.fed == 33 - 28 + 33, "what the old weights computed was used again"


def test_equal_beginnings_that_arrive_together_are_computed_once(palm: Decoder) -> None:
    engine = Counting(palm)
    system = prompt(40)
    requests = [Request(str(i), (*system, i, i + 1), Sampling(1.0, max_tokens=6, seed=i)) for i in range(5)]
    check(palm, requests, engine.run(requests))
    assert engine.fed == 41 + 4 * 1


@pytest.mark.parametrize("pages", [8, 11, 20])
def test_where_the_pages_run_out_the_youngest_waits_and_no_answer_changes(decoder: Decoder, pages: int) -> None:
    engine = Counting(decoder, slots=6, context=32, memory=memory(decoder, pages))
    requests = [Request(str(i), prompt(3 + i, i), Sampling(0.9, max_tokens=20 + i % 9, seed=i)) for i in range(8)]
    answers = engine.run(requests)
    assert engine.most > 0, "nothing was interrupted: this test shows nothing"
    assert engine.pages == (0, pages)
    for request, (completion,) in zip(requests, answers, strict=True):
        assert completion.tokens == by_hand(decoder, request, context=32).tokens


def test_samples_that_start_together_do_not_count_on_the_same_pages(palm: Decoder) -> None:
    engine = Counting(palm, slots=6, context=32, memory=memory(palm, 13))
    for i in range(6):  # three pages each, and one to go on with
        engine.add(Request(str(i), prompt(11, i), Sampling(1.0, max_tokens=5, seed=i)))
    engine.step()
    assert (engine.running, engine.most) == (3, 0)


def test_the_oldest_goes_on_while_the_youngest_waits(palm: Decoder) -> None:
    engine = Engine(palm, slots=3, context=32, memory=memory(palm, 9))
    for i in range(3):
        engine.add(Request(str(i), prompt(8, i), Sampling(1.0, max_tokens=24, seed=i)))
    ended = [event.id for event in drain(engine) if event.finish]
    assert ended == ["0", "1", "2"]


def test_nobody_overtakes_a_long_prompt_that_waits_for_room(palm: Decoder) -> None:
    engine = Engine(palm, slots=4, context=64, memory=memory(palm, 16))
    engine.add(Request("a", prompt(30), Sampling(1.0, max_tokens=12)))
    engine.step()
    engine.add(Request("long", prompt(50, 2), Sampling(1.0, max_tokens=2)))
    engine.add(Request("short", prompt(2, 3), Sampling(1.0, max_tokens=2)))
    order = list(dict.fromkeys(event.id for event in drain(engine)))
    assert order == ["a", "long", "short"]


def test_a_cache_too_small_is_refused_with_the_figures(palm: Decoder) -> None:
    small = memory(palm, 4)
    with pytest.raises(
        Refusal, match=rf"{small:,} bytes holds 16 positions and a context of 32 .* {memory(palm, 8):,} b"
    ):
        Engine(palm, context=32, memory=small)
    with pytest.raises(Refusal, match="holds 0 positions"):
        Engine(palm, memory=100)
    engine = Engine(palm, memory=small)  # the context is what the memory holds
    assert engine.context == 16
    with pytest.raises(Refusal, match=r"16 tokens and the context holds 16"):
        engine.add(Request("a", prompt(16), Sampling()))
    assert not engine.busy
    (answer,) = engine.run([Request("a", prompt(10), Sampling(max_tokens=500))])[0]
    assert (len(answer.tokens), answer.finish) == (6, "length")
    with pytest.raises(Refusal, match="slots is 0"):
        Engine(palm, slots=0)
    assert Engine(palm, slots=2, context=9)._cache.bytes == memory(palm, 2 * 3), "no more than can be used"


def test_two_hundred_requests_at_once_are_all_answered_and_every_page_comes_back(palm: Decoder) -> None:
    engine = Engine(palm, slots=16, context=64, queue=200, memory=memory(palm, 60))
    requests = [
        Request(str(i), prompt(1 + i % 40, i % 7), Sampling(1.0, max_tokens=1 + i % 8, seed=i)) for i in range(200)
    ]
    for request in requests:
        engine.add(request)
    told: dict[str, list[int | None]] = defaultdict(list)
    for event in drain(engine):
        told[event.id].append(event.token)
    assert engine.pages == (0, 60)
    for request in requests:
        assert tuple(told[request.id]) == by_hand(palm, replace(request, id="")).tokens


def test_a_cancelled_prefill_gives_its_pages_back(palm: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 8)
    engine = Engine(palm, context=64)
    engine.add(Request("a", prompt(50), Sampling()))
    engine.step()
    assert engine.pages[0] == 2
    engine.cancel("a")
    assert engine.pages[0] == 0
    assert [event.finish for event in drain(engine)] == ["cancelled"]


def test_one_sample_of_several_is_cancelled_and_the_others_go_on(palm: Decoder) -> None:
    engine = Engine(palm, slots=2)
    request = Request("a", prompt(9), Sampling(1.0, max_tokens=9, seed=4), n=4)
    engine.add(request)
    told: dict[int, list[Event]] = defaultdict(list)
    for event in engine.step() + engine.step():
        told[event.index].append(event)
    assert engine.cancel("a", 1)
    assert not engine.cancel("a", 1)
    assert not engine.cancel("a", 3), "it has not started"
    for event in drain(engine):
        told[event.index].append(event)
    assert told[1][-1].finish == "cancelled"
    assert len(told[1]) <= 3
    for index in (0, 2, 3):
        assert tuple(event.token for event in told[index]) == by_hand(palm, request, index).tokens
    assert engine.pages[0] == 0
    assert not engine.busy


@pytest.mark.parametrize("seed", range(16))
def test_any_load_over_any_number_of_pages(toy: Decoder, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random arrivals, lengths, shared beginnings, turns, cancels and updates: each answer is what it is alone."""
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 6)
    monkeypatch.setattr("palmier.generate.scheduler.BUDGET_BUSY", 9)
    chance = random.Random(seed)
    pages = chance.choice((10, 13, 25))
    engine = Engine(toy, slots=chance.choice((2, 5, 9)), context=40, memory=memory(toy, pages))
    asked: dict[str, Request] = {}
    told: dict[tuple[str, int], list[Event]] = defaultdict(list)
    beginnings = [tuple(chance.choices(range(5), k=length)) for length in (4, 9, 17)]
    for turn in range(150):
        if len(asked) < 30 and chance.random() < 0.4:
            start = chance.choice([(), *beginnings, *(request.prompt for request in asked.values())])[:24]
            ids = (*start, *chance.choices(range(5), k=chance.choice((1, 2, 9))))
            bent = chance.choice(
                ({}, {"top_k": 3}, {"min_p": 0.3}, {"repetition_penalty": 1.5}, {"frequency_penalty": 1.0})
            )
            sampling = Sampling(1.0, max_tokens=chance.randint(1, 16), seed=chance.randint(0, 9), **bent)
            asked[str(turn)] = Request(str(turn), ids, sampling, stop_ids=(4,), n=chance.choice((1, 1, 2, 5)))
            engine.add(asked[str(turn)])
        if asked and chance.random() < 0.1:
            lost = chance.choice(list(asked))
            engine.cancel(lost, chance.choice((None, 0, 1)))
        if chance.random() < 0.04:
            engine.weights_changed()
        for event in engine.step() if turn < 120 else drain(engine):
            told[event.id, event.index].append(event)
    assert not engine.busy
    assert (engine.running, engine.waiting, engine.pages[0]) == (0, 0, 0)
    assert len(told) == sum(request.n for request in asked.values())
    for (id, index), events in told.items():
        assert [event.finish for event in events[:-1]] == [None] * (len(events) - 1)
        tokens = tuple(event.token for event in events if event.token is not None)
        expected = by_hand(toy, replace(asked[id], id=""), index, context=40)
        if events[-1].finish == "cancelled":
            assert tokens == expected.tokens[: len(tokens)]
        else:
            assert (tokens, events[-1].finish) == (expected.tokens, expected.finish)
