"""New weights: nothing that the old ones computed survives, and a skipped hand-over does not pass."""

from __future__ import annotations

import pytest
import torch

from palmier.generate.engine import Engine
from palmier.generate.fingerprint import fingerprint
from palmier.generate.requests import Request
from palmier.model.decoder import Decoder
from palmier.records import Sampling

PROMPT = tuple(range(5, 40))


def update(decoder: Decoder, seed: int = 1) -> None:
    """What an optimiser does: change every weight in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * parameter.std().nan_to_num(1.0) * 0.5


def finish(engine: Engine) -> dict[int, list[int]]:
    tokens: dict[int, list[int]] = {}
    while engine.busy:
        for event in engine.step():
            assert event.token is not None
            tokens.setdefault(event.index, []).append(event.token)
    return tokens


def continued(decoder: Decoder, tokens: list[int], count: int) -> list[int]:
    """Greedy tokens of the decoder as it is now, without any cache."""
    tokens = list(tokens)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(int(decoder.logits(decoder(torch.tensor([tokens]))[0, -1]).argmax()))
    return tokens[-count:]


def test_a_running_request_goes_on_with_the_new_weights_alone(decoder: Decoder) -> None:
    engine = Engine(decoder)
    engine.add(Request("a", PROMPT, Sampling(0.0, max_tokens=24)))
    before = [event.token for _ in range(8) for event in engine.step()]
    old = continued(decoder, list(PROMPT), 24)
    assert before == old[:8]
    update(decoder)
    engine.weights_changed()
    after = finish(engine)[0]
    assert after == continued(decoder, [*PROMPT, *old[:8]], 16)
    assert after != old[8:], "the update changed nothing: this test shows nothing"


def test_samples_that_start_after_an_update_do_not_use_the_old_prompt(decoder: Decoder) -> None:
    engine = Engine(decoder, slots=2)
    engine.add(Request("a", PROMPT, Sampling(0.0, max_tokens=6), n=5))
    for _ in range(4):
        engine.step()
    old = continued(decoder, list(PROMPT), 6)
    update(decoder)
    engine.weights_changed()
    after = finish(engine)
    new = continued(decoder, list(PROMPT), 6)
    assert after[2] == after[3] == after[4] == new != old
    # The second sample let the first one compute their prompt, and began in the same step.
    for index in (0, 1):
        assert after[index] == continued(decoder, [*PROMPT, *old[:4]], 2)


def test_a_prompt_half_prefilled_starts_again(palm: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", 10)
    engine = Engine(palm)
    engine.add(Request("a", PROMPT, Sampling(0.0, max_tokens=12), n=2))
    assert engine.step() == []
    update(palm)
    engine.weights_changed()
    assert finish(engine) == {i: continued(palm, list(PROMPT), 12) for i in (0, 1)}


def test_a_second_run_after_an_update_draws_with_the_new_weights(decoder: Decoder) -> None:
    engine = Engine(decoder)
    request = Request("a", PROMPT, Sampling(0.0, max_tokens=12))
    engine.run([request])
    update(decoder)
    engine.weights_changed()
    assert list(engine.run([request])[0][0].tokens) == continued(decoder, list(PROMPT), 12)


def test_a_skipped_hand_over_stops_the_engine_and_shows_in_the_checksum(palm: Decoder) -> None:
    """The sampler keeps old weights: verl#7495, verl#7339, ms-swift#8275, trl#3466."""
    engine = Engine(palm)
    engine.run([Request("a", PROMPT, Sampling())])
    assert (engine.weights_version, engine.checksum()) == (0, fingerprint(palm))
    optimizer = torch.optim.AdamW(palm.parameters(), fused=True)
    palm.logits(palm(torch.tensor([PROMPT]))).logsumexp(-1).sum().backward()
    optimizer.step()
    assert engine.checksum() != fingerprint(palm)
    with pytest.raises(RuntimeError, match="weights_changed"):
        engine.run([Request("a", PROMPT, Sampling())])
    engine.weights_changed()
    assert (engine.weights_version, engine.checksum()) == (1, fingerprint(palm))
    assert len(engine.run([Request("a", PROMPT, Sampling())])) == 1


def test_the_fingerprint_sees_one_bit_exchanged_rows_and_columns_and_other_formats(palm: Decoder) -> None:
    weight = palm.model.layers[0].mlp.up_proj.weight
    seen = {fingerprint(palm)}
    with torch.no_grad():
        original = weight.clone()
        weight[3, 4] = torch.nextafter(weight[3, 4], torch.tensor(9.0))
        seen.add(fingerprint(palm))
        weight.copy_(original)
        palm.model.norm.weight[31] += 1e-3
        seen.add(fingerprint(palm))
        palm.model.norm.weight[31] -= 1e-3
        for changed in (original[torch.arange(len(original) - 1, -1, -1)], original.flip(1), -original):
            weight.copy_(changed)
            seen.add(fingerprint(palm))
        weight.copy_(original)
    assert fingerprint(palm) in seen
    seen.add(fingerprint(palm.bfloat16()))
    assert len(seen) == 7
