"""The plain reference of the engine's tests: one sample at a time, the whole text again for every token, no cache."""

from __future__ import annotations

import pytest
import torch

from palmier.generate.engine import Engine
from palmier.generate.requests import Completion, Event, Request
from palmier.generate.sampling import Rows, sample, sample_seed
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(1000 * seed + length)
    return tuple(torch.randint(0, 97, (length,), generator=generator).tolist())


DRAWN: dict[tuple[ModelConfig, Request, int, int], Completion] = {}
"""What was drawn by hand already: the decoders of these tests are the same in each."""


def by_hand(decoder: Decoder, request: Request, index: int = 0, context: int = 128) -> Completion:
    """One sample, drawn the slow way: the whole sequence again for every token, no cache."""
    key = (decoder.config, request, index, context)
    if key not in DRAWN:
        DRAWN[key] = draw_by_hand(decoder, request, index, context)
    return DRAWN[key]


@torch.no_grad()
def draw_by_hand(decoder: Decoder, request: Request, index: int, context: int) -> Completion:
    tokens = list(request.prompt)
    seeds = [sample_seed(request.sampling.seed, index)]
    rows = Rows([request.sampling], seeds, [(request.prompt, ())])
    logprobs: list[float] = []
    while True:
        logits_BV = decoder.logits(decoder(torch.tensor([tokens]))[:, -1])
        token_B, logprob_B, _ = sample(logits_BV, rows, [len(logprobs)])
        tokens.append(int(token_B))
        logprobs.append(float(logprob_B))
        stopped = tokens[-1] in request.stop_ids
        if stopped or len(logprobs) == request.sampling.max_tokens or len(tokens) == context:
            finish = "stop" if stopped else "length"
            return Completion(tuple(tokens[len(request.prompt) :]), tuple(logprobs), finish)


def check(decoder: Decoder, requests: list[Request], answers: list[list[Completion]]) -> None:
    for request, completions in zip(requests, answers, strict=True):
        assert len(completions) == request.n
        for index, completion in enumerate(completions):
            expected = by_hand(decoder, request, index)
            assert completion.tokens == expected.tokens
            assert completion.finish == expected.finish
            assert completion.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def drain(engine: Engine) -> list[Event]:
    events = []
    while engine.busy:
        events += engine.step()
    return events
