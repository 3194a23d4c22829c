"""Two small decoders with random weights, one a family."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder

PALM = ModelConfig.palm(97, 32, 2, 4, max_positions=128)
LLAMA = replace(PALM, family="llama", num_kv_heads=2, logit_scale=1.0, tie_embeddings=False)


@pytest.fixture(params=[PALM, LLAMA], ids=["palm", "llama"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    """A fresh fp32 decoder whose distributions are neither flat nor certain."""
    return small(request.param)


@pytest.fixture
def palm() -> Decoder:
    return small(PALM)


@pytest.fixture
def toy() -> Decoder:
    """A vocabulary of five: every expectation can be enumerated."""
    return small(replace(PALM, vocab_size=5))


def small(config: ModelConfig, seed: int = 0) -> Decoder:
    """Random weights, scaled so that greedy answers wander instead of repeating one token."""
    decoder = Decoder.create(config, seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12.0 if config.family == "llama" else 3.0)
        if config.family == "palm":
            decoder.model.embed_tokens.weight.mul_(0.03)
            decoder.model.norm.weight.mul_(30.0)
    return decoder
