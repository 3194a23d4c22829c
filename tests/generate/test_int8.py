"""The engine over int8 weights: it answers like any other, and no trainer may hold it."""

from __future__ import annotations

import pytest
import torch

from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.generate.fingerprint import fingerprint
from palmier.generate.requests import Request
from palmier.model.decoder import Decoder
from palmier.model.int8 import Int8Decoder, to_int8
from palmier.records import Sampling

PROMPT = tuple(range(5, 40))


def continued(decoder: Decoder, tokens: list[int], count: int) -> list[int]:
    """Greedy tokens without any cache."""
    tokens = list(tokens)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(int(decoder.logits(decoder(torch.tensor([tokens]))[0, -1]).argmax()))
    return tokens[-count:]


@pytest.fixture
def exact(decoder: Decoder) -> Int8Decoder:
    """Computing in fp32, so that the engine's tokens can be told exactly."""
    return to_int8(decoder, torch.float32, torch.float32)


def test_greedy_tokens_are_those_without_a_cache(exact: Int8Decoder) -> None:
    engine = Engine(exact)
    requests = [Request(str(i), PROMPT[i:], Sampling(0.0, max_tokens=16)) for i in range(3)]
    answers = engine.run(requests)
    for request, (answer,) in zip(requests, answers, strict=True):
        assert list(answer.tokens) == continued(exact, list(request.prompt), 16)


def test_the_cache_is_bf16_and_the_checksum_reads_the_int8_weights(palm: Decoder) -> None:
    decoder = to_int8(palm)
    engine = Engine(decoder)
    assert engine._cache.dtype == torch.bfloat16
    (answer,) = engine.run([Request("a", PROMPT, Sampling(0.0, max_tokens=8))])[0]
    assert len(answer.tokens) == 8
    decoder.model.layers[0].mlp.down_proj.weight[3, 4] += 1
    assert fingerprint(decoder) != engine.checksum()
    with pytest.raises(RuntimeError, match="weights were changed"):
        engine.run([Request("b", PROMPT, Sampling(0.0, max_tokens=8))])


def test_new_weights_are_refused(palm: Decoder) -> None:
    """A trained policy's engine is told of new weights after every step; int8 ones never are new."""
    engine = Engine(to_int8(palm))
    with pytest.raises(Refusal, match="int8 weights never change"):
        engine.weights_changed()
    assert engine.weights_version == 0
