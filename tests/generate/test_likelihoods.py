"""How likely a prompt's tokens are: the numbers of transformers and of the trainer, whatever is computed beside them."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
import torch

from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.generate.likelihoods import likelihoods
from palmier.generate.requests import Event, Likelihood, Request
from palmier.model.cache import page_bytes
from palmier.model.decoder import Decoder
from palmier.model.logprobs import token_logprobs
from palmier.records import Sampling

from .conftest import LLAMA, OTHERS, PALM, small
from .drawing import by_hand as drawn_by_hand
from .drawing import drain, prompt
from .test_peers import contest_of

PAGE = 4


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmier.generate.engine._PAGE", PAGE)


def asked(name: str, ids: tuple[int, ...], top: int = 0, tokens: int = 3, **fields: Any) -> Request:
    return Request(name, ids, Sampling(1.0, max_tokens=tokens, seed=len(ids)), prompt_logprobs=top, **fields)


def told(events: list[Event]) -> dict[str, tuple[Likelihood, ...]]:
    """What each request heard of its prompt: at most once, with the first event of sample 0."""
    seen: set[tuple[str, int]] = set()
    found = {}
    for event in events:
        if event.prompt is not None:
            assert event.index == 0
            assert (event.id, 0) not in seen
            found[event.id] = event.prompt
        seen.add((event.id, event.index))
    return found


def tell(engine: Engine, *requests: Request) -> dict[str, tuple[Likelihood, ...]]:
    for request in requests:
        engine.add(request)
    return told(drain(engine))


@torch.no_grad()
def by_hand(decoder: Decoder, ids: tuple[int, ...]) -> list[float]:
    """The trainer's numbers: the whole text at once, no cache."""
    tokens_1T = torch.tensor([ids])
    found = token_logprobs(decoder, decoder(tokens_1T[:, :-1]), tokens_1T[:, 1:])
    return [float(x) for x in found.logprobs_BT[0]]


def check(decoder: Decoder, ids: tuple[int, ...], found: tuple[Likelihood, ...]) -> None:
    assert [one.logprob for one in found] == pytest.approx(by_hand(decoder, ids), abs=1e-4)


@pytest.mark.parametrize("name", ["palm", "llama", *OTHERS])
def test_the_numbers_are_transformers_own(name: str) -> None:
    decoder = small({"palm": PALM, "llama": LLAMA, **OTHERS}[name])
    theirs = contest_of(decoder, []).theirs
    ids = prompt(41)
    (found,) = tell(Engine(decoder), asked("a", ids, top=5)).values()
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    assert len(found) == 40
    for place, one in enumerate(found):
        assert one.logprob == pytest.approx(float(expected[place, ids[place + 1]]), abs=1e-4)
        best = expected[place].topk(5)
        assert [value for _, value in one.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [token for token, _ in one.top] == best.indices.tolist()
    check(decoder, ids, found)


@pytest.mark.parametrize("piece", [1, 3, 7, 512])
def test_neither_company_nor_pieces_nor_rows_show(
    decoder: Decoder, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", piece)
    monkeypatch.setattr("palmier.generate.scheduler.BUDGET_BUSY", 9)
    monkeypatch.setattr("palmier.generate.likelihoods.ROWS", 5)
    rows: list[int] = []
    sharp = decoder.sharp_logits

    def watched(hidden_BD: torch.Tensor, named_B: torch.Tensor | None = None) -> torch.Tensor:
        if named_B is not None:
            rows.append(len(hidden_BD))
        return sharp(hidden_BD, named_B)

    monkeypatch.setattr(decoder, "sharp_logits", watched)
    engine = Engine(decoder, slots=5)
    system = prompt(30)
    requests = [asked(str(i), (*system, i, i + 1)[: 32 - 5 * i], tokens=1 + 2 * i, n=1 + i % 2) for i in range(5)]
    plain = Request("plain", (*system, 90), Sampling(1.0, max_tokens=20, seed=3))
    found = tell(engine, plain, *requests)
    assert set(found) == {"0", "1", "2", "3", "4"}
    for one in requests:
        check(decoder, one.prompt, found[one.id])
    assert max(rows) <= 5, "the logits of so many places lie in memory at once"


def test_pages_that_are_in_the_cache_already_are_computed_again(palm: Decoder) -> None:
    engine, ids = Engine(palm), prompt(40)
    engine.run([Request("a", ids, Sampling(1.0, max_tokens=2))])
    found = tell(engine, asked("b", ids, n=3), Request("c", ids, Sampling(1.0, max_tokens=2)))
    assert list(found) == ["b"]
    check(palm, ids, found["b"])
    assert engine.pages[0] == 0


def test_what_is_drawn_does_not_depend_on_the_question(decoder: Decoder) -> None:
    engine = Engine(decoder)
    request = asked("a", prompt(19), top=3, tokens=9, n=3)
    engine.add(request)
    said: dict[int, list[int | None]] = defaultdict(list)
    for event in drain(engine):
        said[event.index].append(event.token)
    for index in range(3):
        plain = Request("", request.prompt, request.sampling, n=3)
        assert tuple(said[index]) == drawn_by_hand(decoder, plain, index).tokens


def test_an_interrupted_reading_goes_on_where_it_was_and_is_told_once(
    palm: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 2)
    noted = []

    def counting(decoder: Decoder, hidden_ND: torch.Tensor, targets: list[int], top: int) -> list[Likelihood]:
        noted.append(len(targets))
        return likelihoods(decoder, hidden_ND, targets, top)

    monkeypatch.setattr("palmier.generate.engine.likelihoods", counting)
    engine = Engine(palm, slots=2, context=40, memory=11 * page_bytes(palm.config, PAGE, 4))
    engine.add(Request("old", prompt(5), Sampling(1.0, max_tokens=30)))
    engine.step()
    engine.add(asked("young", prompt(28, 2), tokens=9))
    events: list[Event] = []
    half_read = 0
    while engine.busy:
        events += engine.step()
        half_read += sum(one.unread and bool(one.likelihoods) for one in engine._schedule.interrupted)
    assert half_read, "nothing was interrupted while its prompt was read: this test shows nothing"
    found = told(events)
    check(palm, prompt(28, 2), found["young"])
    assert sum(noted) == 27, "what is computed again is not told again"


def test_new_weights_tell_the_whole_prompt_anew(palm: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 5)
    engine, ids = Engine(palm), prompt(30)
    engine.add(asked("a", ids))
    engine.step()
    with torch.no_grad():
        for parameter in palm.parameters():
            parameter.mul_(0.7).add_(0.01)
    engine.weights_changed()
    check(palm, ids, told(drain(engine))["a"])


@pytest.mark.parametrize("length", [1, 2, 33, 64])
def test_where_nothing_is_drawn_a_sample_ends_with_its_prompt(palm: Decoder, length: int) -> None:
    engine = Engine(palm, context=64)
    ids = prompt(length)
    engine.add(asked("a", ids, top=2, n=2, prompt_only=True))
    engine.add(Request("b", prompt(9, 4), Sampling(1.0, max_tokens=4, seed=1)))
    events = drain(engine)
    assert [(one.index, one.token, one.finish) for one in events if one.id == "a"] == [
        (0, None, "length"),
        (1, None, "length"),
    ]
    found = told(events)["a"]
    assert len(found) == length - 1
    if found:
        check(palm, ids, found)
    assert (
        tuple(one.token for one in events if one.id == "b")
        == drawn_by_hand(palm, Request("", prompt(9, 4), Sampling(1.0, max_tokens=4, seed=1))).tokens
    )
    assert (engine.pages[0], engine.running) == (0, 0)
    with pytest.raises(Refusal, match="65 tokens and the context holds 64"):
        engine.add(asked("c", prompt(65), prompt_only=True))
    with pytest.raises(Refusal, match="64 tokens and the context holds 64"):
        engine.add(asked("c", prompt(64)))


@pytest.mark.parametrize("seed", range(4))
def test_any_load_tells_every_prompt_once(toy: Decoder, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random arrivals, shared beginnings, cancels and interruptions over few pages."""
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 6)
    monkeypatch.setattr("palmier.generate.scheduler.BUDGET_BUSY", 9)
    chance = random.Random(seed)
    engine = Engine(
        toy,
        slots=chance.choice((2, 6)),
        context=40,
        memory=chance.choice((11, 14, 25)) * page_bytes(toy.config, PAGE, 4),
    )
    wanted: dict[str, Request] = {}
    events: list[Event] = []
    beginning = tuple(chance.choices(range(5), k=17))
    for turn in range(60):
        if turn < 40 and chance.random() < 0.6:
            ids = (*beginning[: chance.choice((0, 8, 17))], *chance.choices(range(5), k=chance.choice((1, 2, 12))))
            only = chance.random() < 0.3
            wanted[str(turn)] = asked(
                str(turn), ids, chance.choice((0, 3)), chance.randint(1, 12), n=chance.choice((1, 3)), prompt_only=only
            )
            engine.add(wanted[str(turn)])
        if wanted and chance.random() < 0.1:
            engine.cancel(chance.choice(list(wanted)))
        if chance.random() < 0.05:
            engine.weights_changed()
        events += engine.step()
    events += drain(engine)
    found = told(events)
    cancelled = {event.id for event in events if event.finish == "cancelled"}
    assert set(wanted) - cancelled <= set(found)
    assert len(found) > 10
    for name, one in found.items():
        if len(wanted[name].prompt) > 1:
            check(toy, wanted[name].prompt, one)
    assert engine.pages[0] == 0


def test_numbers_that_are_none_are_refused(palm: Decoder) -> None:
    with pytest.raises(Refusal, match="prompt_logprobs is -1"):
        asked("a", (1, 2), top=-1)
    with torch.no_grad():
        palm.model.norm.weight.fill_(float("nan"))
    engine = Engine(palm)
    engine.add(asked("a", prompt(9), prompt_only=True))
    with pytest.raises(Refusal, match="logits are not finite"):
        engine.step()


def test_in_bf16_the_token_itself_is_as_sharp_as_the_likeliest(palm: Decoder) -> None:
    """Its logit comes from an fp32 product however unlikely it is: it is what a harness adds up."""
    rounded = palm.to(torch.bfloat16)
    ids = prompt(60)
    with torch.no_grad():
        hidden_TD = rounded(torch.tensor([ids]))[0, :-1]
        found = likelihoods(rounded, hidden_TD, list(ids[1:]), 0)
        exact_TV = hidden_TD.float() @ rounded.output_weight.float().T * rounded.config.logit_scale
        blunt_TV = rounded.logits(hidden_TD)
    targets_T1 = torch.tensor(ids[1:])[:, None]
    mine = torch.tensor([one.logprob for one in found])
    exact = exact_TV.log_softmax(-1).gather(1, targets_T1)[:, 0]
    blunt = blunt_TV.log_softmax(-1).gather(1, targets_T1)[:, 0]
    assert float((mine - exact).abs().mean()) < 0.3 * float((blunt - exact).abs().mean())
