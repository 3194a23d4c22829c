"""The engine draws what a decoder without cache, company or scheduler would draw."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.generate.requests import Event, QueueFull, Request
from palmier.generate.sampling import sample_seed
from palmier.generate.scheduler import Sample
from palmier.model.decoder import Decoder, token_logprobs
from palmier.records import Sampling

from .drawing import by_hand, check, drain, prompt

MIXED = [
    Request("a", prompt(1), Sampling(0.0, max_tokens=20)),
    Request("b", prompt(30), Sampling(1.0, max_tokens=40, seed=5), stop_ids=(3, 7, 40)),
    Request("c", prompt(2), Sampling(0.7, top_k=10, max_tokens=5, seed=6), n=3),
    Request("d", prompt(100), Sampling(1.3, top_p=0.8, max_tokens=99, seed=7)),
    Request("e", prompt(31), Sampling(1.0, max_tokens=1, seed=8), n=2),
    Request("f", prompt(12), Sampling(0.0, max_tokens=64)),
    Request("g", prompt(1, 9), Sampling(1.0, max_tokens=9, seed=9), n=9),
]


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_a_mixed_batch_draws_what_each_request_draws_alone(decoder: Decoder, slots: int) -> None:
    engine = Engine(decoder, slots=slots)
    check(decoder, MIXED, engine.run(MIXED))
    assert not engine.busy
    assert engine.running == engine.waiting == 0
    check(decoder, MIXED[::-1], engine.run(MIXED[::-1]))


def test_a_long_prompt_is_prefilled_in_pieces_beside_running_streams(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 7)
    monkeypatch.setattr("palmier.generate.scheduler.BUDGET_BUSY", 16)
    engine = Engine(decoder, slots=8)
    check(decoder, MIXED, engine.run(MIXED))
    engine = Engine(decoder, slots=8)  # one that has not read the long prompt yet
    engine.add(MIXED[0])
    engine.step()
    engine.add(MIXED[3])
    streamed = [len(engine.step()) for _ in range(3)]
    assert streamed == [1, 1, 1], "a stream stood still while a long prompt came in"
    drain(engine)


def test_cancels_in_every_state_leave_the_others_untouched(decoder: Decoder) -> None:
    engine = Engine(decoder, slots=5)
    for request in MIXED:
        engine.add(request)
    doomed = [Request("x", prompt(17), Sampling(max_tokens=50), n=2), Request("y", prompt(99), Sampling(), n=20)]
    engine.add(doomed[0])
    events = []
    assert engine.cancel("x"), "cancelled in the queue"
    engine.add(doomed[1])
    cancelled_y = False
    while engine.busy:
        events += engine.step()
        if not cancelled_y and any(e.id == "y" for e in events):
            assert engine.cancel("y")
            assert not engine.cancel("y")
            cancelled_y = True
    assert not engine.cancel("nobody")
    by_sample: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in events:
        by_sample[event.id, event.index].append(event)
    for request in MIXED:
        for index in range(request.n):
            expected = by_hand(decoder, request, index)
            assert tuple(e.token for e in by_sample[request.id, index]) == expected.tokens
    for id, n in (("x", 2), ("y", 20)):
        for index in range(n):
            last = by_sample[id, index][-1]
            assert (last.finish, last.token) == ("cancelled", None)
    assert engine.running == engine.waiting == 0


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_arrivals_cancels_and_updates(toy: Decoder, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens around it, a request that is not cancelled gets what it gets alone, and all slots come back."""
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 5)
    monkeypatch.setattr("palmier.generate.scheduler.BUDGET_BUSY", 8)
    chance = random.Random(seed)
    engine = Engine(toy, slots=chance.choice((1, 2, 3, 5)), context=40)
    asked: dict[str, Request] = {}
    cancelled: set[str] = set()
    told: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for turn in range(120):
        if len(asked) < 25 and chance.random() < 0.4:
            ids = tuple(chance.choices(range(5), k=chance.choice((1, 2, 6, 23))))
            sampling = Sampling(1.0, max_tokens=chance.randint(1, 12), seed=chance.randint(0, 9))
            asked[str(turn)] = Request(str(turn), ids, sampling, stop_ids=(4,), n=chance.choice((1, 1, 2, 7)))
            engine.add(asked[str(turn)])
        if asked and chance.random() < 0.08 and engine.cancel(lost := chance.choice(list(asked))):
            cancelled.add(lost)
        if chance.random() < 0.08:
            engine.weights_changed()
        for event in engine.step() if turn < 100 else drain(engine):
            told[event.id, event.index].append(event)
    assert not engine.busy
    assert engine.running == engine.waiting == 0
    assert len(told) == sum(request.n for request in asked.values())
    for (id, index), events in told.items():
        assert [e.finish for e in events[:-1]] == [None] * (len(events) - 1)
        tokens = tuple(e.token for e in events if e.token is not None)
        expected = by_hand(toy, replace(asked[id], id=""), index)
        if events[-1].finish == "cancelled":
            assert id in cancelled
            assert tokens == expected.tokens[: len(tokens)]
        else:
            assert (tokens, events[-1].finish) == (expected.tokens, expected.finish)


def test_cancel_frees_the_slot_at_once(palm: Decoder) -> None:
    engine = Engine(palm, slots=1)
    engine.add(Request("a", prompt(10), Sampling(max_tokens=100)))
    engine.add(Request("b", prompt(5), Sampling(0.0, max_tokens=3)))
    engine.step()
    assert (engine.running, engine.waiting) == (1, 1)
    engine.cancel("a")
    assert engine.running == 0
    assert [e.finish for e in engine.step() if e.id == "a"] == ["cancelled"]
    assert engine.running == 1
    assert [e.id for e in drain(engine)] == ["b", "b"]


def test_a_cancel_in_the_middle_of_a_prefill(palm: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 4)
    engine = Engine(palm, slots=4)
    engine.add(Request("long", prompt(60), Sampling(), n=3))
    survivor = Request("short", prompt(20), Sampling(1.0, max_tokens=10, seed=3))
    engine.add(survivor)
    engine.step()
    engine.cancel("long")
    events = drain(engine)
    assert tuple(e.token for e in events if e.id == "short") == by_hand(palm, survivor).tokens


class Counting(Engine):
    """An engine that remembers how many prompt tokens it has computed."""

    fed = 0

    def _feed(self, batch: list[tuple[Sample, int]]) -> None:
        super()._feed(batch)
        self.fed += sum(size for _, size in batch)


@pytest.mark.parametrize(("slots", "alone"), [(1, 9), (3, 3), (16, 0)])
def test_samples_of_one_request_share_the_prefill_and_differ(palm: Decoder, slots: int, alone: int) -> None:
    request = Request("a", prompt(71), Sampling(1.0, max_tokens=12, seed=4), n=10)
    engine = Counting(palm, slots=slots)
    answers = engine.run([request])
    # All answers are equally long, so that as many start together as there are slots.
    assert engine.fed == 70 + alone * (70 % 32), "who starts beside no other one computes what no whole page holds"
    check(palm, [request], answers)
    assert len({completion.tokens for completion in answers[0]}) == 10


@pytest.mark.parametrize("length", [2, 31, 32, 33, 34, 64, 65, 66])
def test_a_prompt_taken_over_from_another_sample_is_the_computed_one(palm: Decoder, length: int) -> None:
    """The last page is copied, not shared: each sample writes its own answer into it, and nobody reads the other's."""
    requests = [Request(f"{i}", prompt(length, i), Sampling(1.0, max_tokens=9, seed=i), n=5) for i in range(4)]
    for slots in (2, 7, 20):
        engine = Counting(palm, slots=slots)
        check(palm, requests, engine.run(requests))
    assert engine.fed == 4 * (length - 1), "where all run together each prompt is computed once"


def test_sample_i_is_what_its_own_seed_draws_alone(palm: Decoder) -> None:
    sampling = Sampling(1.0, max_tokens=12, seed=4)
    engine = Engine(palm)
    many = engine.run([Request("a", prompt(9), sampling, n=4)])[0]
    for index, completion in enumerate(many):
        own = Sampling(1.0, max_tokens=12, seed=sample_seed(4, index))
        alone = engine.run([Request("b", prompt(9), own)])[0][0]
        assert alone.tokens == completion.tokens
    other = engine.run([Request("a", prompt(9), Sampling(1.0, max_tokens=12, seed=5), n=4)])[0]
    assert not {c.tokens for c in other} & {c.tokens for c in many}, "the seed is ignored"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_logprobs_equal_the_trainers(decoder: Decoder, temperature: float) -> None:
    """The sampling temperature missing in the log-probs: trl#3029, trl#4159, prime-rl#679, NeMo-RL#935."""
    sampling = Sampling(temperature, top_p=0.95, max_tokens=30, seed=1)
    requests = [Request(str(i), prompt(5 + 3 * i), sampling) for i in range(8)]
    for request, (completion,) in zip(requests, Engine(decoder, slots=3).run(requests), strict=True):
        tokens_1T = torch.tensor([[*request.prompt, *completion.tokens]])
        hidden_1TD = decoder(tokens_1T[:, :-1])
        trainer_1T = token_logprobs(decoder, hidden_1TD, tokens_1T[:, 1:], temperature=temperature).logprobs_BT
        expected = trainer_1T[0, len(request.prompt) - 1 :].tolist()
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.8, 1.0])
def test_sequences_follow_the_enumerated_distribution(toy: Decoder, temperature: float) -> None:
    """All 125 answers of three tokens out of a vocabulary of five, against 20,000 samples."""
    start, draws = (1, 2, 3), 20_000
    answers = torch.cartesian_prod(*[torch.arange(5)] * 3)
    with torch.no_grad():
        hidden = toy(torch.cat((torch.tensor(start).expand(125, 3), answers), dim=1)[:, :-1])
        step = torch.log_softmax(toy.logits(hidden[:, 2:]).double() / temperature, -1)
    exact = step.gather(2, answers[:, :, None]).sum(dim=(1, 2)).exp().numpy()
    engine = Engine(toy, slots=512, context=8)
    samples = engine.run([Request("a", start, Sampling(temperature, max_tokens=3, seed=3), n=draws)])[0]
    counts = np.bincount([np.dot(c.tokens, (25, 5, 1)) for c in samples], minlength=125)
    often = exact * draws >= 5
    seen = np.append(counts[often], counts[~often].sum())
    expected = np.append(exact[often], exact[~often].sum()) * draws
    assert often.sum() > 20
    assert stats.chisquare(seen, expected).pvalue > 1e-4


def test_a_prompt_as_long_as_the_context_is_refused_with_both_numbers(palm: Decoder) -> None:
    engine = Engine(palm, context=32)
    with pytest.raises(Refusal, match=r"32 tokens .* holds 32"):
        engine.add(Request("a", prompt(32), Sampling()))
    assert not engine.busy
    (answer,) = engine.run([Request("a", prompt(31), Sampling())])[0]
    assert (len(answer.tokens), answer.finish) == (1, "length")
    (answer,) = engine.run([Request("a", prompt(20), Sampling(max_tokens=500))])[0]
    assert (len(answer.tokens), answer.finish) == (12, "length")
    with pytest.raises(Refusal):
        Engine(palm, context=1000)


def test_bad_requests_are_refused(palm: Decoder) -> None:
    engine = Engine(palm)
    with pytest.raises(Refusal, match="no token"):
        Request("a", (), Sampling())
    with pytest.raises(Refusal, match="at least one"):
        Request("a", (1,), Sampling(), n=0)
    for bad in (97, -1):
        with pytest.raises(Refusal, match="vocabulary"):
            engine.add(Request("a", (1, bad), Sampling()))
    engine.add(Request("a", (1,), Sampling()))
    with pytest.raises(Refusal, match="ids must differ"):
        engine.add(Request("a", (1,), Sampling()))
    with pytest.raises(RuntimeError, match="idle"):
        engine.run([])
    engine.cancel("a")
    with pytest.raises(Refusal, match="ids must differ"):
        engine.add(Request("a", (1,), Sampling()))
    engine.step()
    with pytest.raises(Refusal, match="two requests"):
        engine.run([Request("a", (1,), Sampling()), Request("a", (2,), Sampling())])
    assert not engine.busy


def test_the_queue_is_bounded(palm: Decoder) -> None:
    engine = Engine(palm, slots=1, queue=2)
    engine.add(Request("0", prompt(3), Sampling(max_tokens=3)))
    engine.step()
    for i in (1, 2):
        engine.add(Request(str(i), prompt(3), Sampling(max_tokens=3)))
    with pytest.raises(QueueFull, match="2 requests"):
        engine.add(Request("3", prompt(3), Sampling()))
    engine.cancel("1")
    engine.add(Request("3", prompt(3), Sampling(max_tokens=1)))
    assert {e.id for e in drain(engine) if e.finish in ("stop", "length")} == {"0", "2", "3"}
    many = [Request(str(i), prompt(3), Sampling(max_tokens=2)) for i in range(20)]
    assert len(engine.run(many)) == 20, "run must feed the bounded queue by itself"


def test_samples_that_end_at_once_do_not_hang(palm: Decoder) -> None:
    """All samples empty (trlx#399)."""
    requests = [Request(str(i), prompt(4 + i), Sampling(), stop_ids=tuple(range(97)), n=5) for i in range(6)]
    reported: list[tuple[int, int]] = []
    answers = Engine(palm, slots=4).run(requests, progress=lambda done, total: reported.append((done, total)))
    assert all(len(c.tokens) == 1 and c.finish == "stop" for samples in answers for c in samples)
    assert reported[-1] == (30, 30)
    assert [done for done, _ in reported] == sorted({done for done, _ in reported})


def test_penalties_count_the_whole_text_whatever_the_batch_does(palm: Decoder) -> None:
    """Rows come and go, and each time the tables of those that stay are made anew from prompt and answer."""
    kinds = (
        Sampling(0.0, repetition_penalty=1.7),
        Sampling(1.0, presence_penalty=1.5),
        Sampling(0.8),
        Sampling(1.0, frequency_penalty=0.9, repetition_penalty=0.7),
    )
    requests = [
        Request(str(i), prompt(5 + i, i), replace(kinds[i % 4], seed=i, max_tokens=4 + 3 * (i % 5))) for i in range(10)
    ]
    check(palm, requests, Engine(palm, slots=3).run(requests))


def test_requests_are_started_in_order_of_arrival(palm: Decoder) -> None:
    engine = Engine(palm, slots=2)
    for i in range(6):
        engine.add(Request(str(i), prompt(3 + i), Sampling(max_tokens=4, seed=i), n=1 + i % 2))
    order = list(dict.fromkeys(event.id for event in drain(engine)))
    assert order == ["0", "1", "2", "3", "4", "5"]


def test_an_interrupted_run_leaves_the_engine_idle(palm: Decoder) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    engine = Engine(palm, slots=2)
    with pytest.raises(KeyboardInterrupt):
        engine.run(MIXED, progress=interrupt)
    assert not engine.busy
    check(palm, MIXED[:1], engine.run(MIXED[:1]))
