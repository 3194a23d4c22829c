"""64 greedy tokens equal transformers', alone and in a mixed batch of 8 with cancels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.model.decoder import Decoder
from palmier.records import Sampling

TOKENS = 64
CLOSE = 1e-4
"""Where the two best logits are closer than this, either may be taken (rounding differs with the batch)."""


def theirs(decoder: Decoder) -> Any:
    transformers = pytest.importorskip("transformers")
    value = decoder.config.to_hf()
    kind = getattr(transformers, value["architectures"][0])
    model = kind(kind.config_class(**value)).eval()
    missing, unexpected = model.load_state_dict(decoder.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    return model


def check(model: Any, requests: list[Request], answers: dict[str, list[int]]) -> None:
    for request in requests:
        tokens_1T = torch.tensor([request.prompt])
        ones = torch.ones_like(tokens_1T)
        out = model.generate(
            tokens_1T, attention_mask=ones, max_new_tokens=TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        expected = out[0, len(request.prompt) :].tolist()
        mine = answers[request.id]
        assert len(mine) == TOKENS
        if mine != expected:
            first = next(i for i in range(TOKENS) if mine[i] != expected[i])
            with torch.no_grad():
                best = model(torch.tensor([[*request.prompt, *mine[:first]]])).logits[0, -1].topk(2).values
            assert best[0] - best[1] < CLOSE, f"{request.id}: token {first} is {mine[first]}, not {expected[first]}"


def prompts(vocab: int) -> list[Request]:
    generator = torch.Generator().manual_seed(0)
    lengths = (1, 2, 5, 9, 17, 33, 50, 60)
    made = [tuple(torch.randint(0, vocab, (length,), generator=generator).tolist()) for length in lengths]
    return [Request(str(i), made[i], Sampling(0.0, max_tokens=TOKENS)) for i in range(8)]


def test_alone(decoder: Decoder) -> None:
    requests = prompts(decoder.config.vocab_size)
    engine = Engine(decoder)
    answers = {request.id: list(engine.run([request])[0][0].tokens) for request in requests}
    check(theirs(decoder), requests, answers)
    assert len({tuple(tokens) for tokens in answers.values()}) >= 6, "the answers do not depend on the prompt"
    assert sum(len(set(tokens)) > 8 for tokens in answers.values()) >= 4, "the answers repeat one token"


def test_in_a_mixed_batch_of_8_with_cancels(decoder: Decoder) -> None:
    requests = prompts(decoder.config.vocab_size)
    engine = Engine(decoder, slots=8)
    for request in requests[:4]:
        engine.add(request)
    doomed = [Request(f"x{i}", (3, i, 5 * i), Sampling(1.0, max_tokens=100, seed=i)) for i in range(4)]
    for request in doomed:
        engine.add(request)
    answers: dict[str, list[int]] = {}
    for step in range(10_000):
        if not engine.busy:
            break
        if step in (0, 3, 11, 20):
            engine.cancel(doomed[(0, 3, 11, 20).index(step)].id)
            engine.add(requests[4 + (0, 3, 11, 20).index(step)])
        for event in engine.step():
            if event.token is not None:
                answers.setdefault(event.id, []).append(event.token)
    check(theirs(decoder), requests, answers)
