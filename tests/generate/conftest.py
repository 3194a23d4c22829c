"""Small decoders with random weights: a PaLM, a Llama, and Llamas with what Qwen and longer contexts add."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.rope import RopeScaling

PALM = ModelConfig.palm(97, 32, 2, 4, max_positions=128)
LLAMA = replace(PALM, family="llama", num_kv_heads=2, logit_scale=1.0, tie_embeddings=False)
OTHERS = {
    "llama_linear": replace(LLAMA, rope_scaling=RopeScaling("linear", 4.0)),
    "llama_llama3": replace(LLAMA, head_dim=16, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 48)),
    "qwen2": replace(LLAMA, family="qwen2"),
    "qwen3": replace(LLAMA, family="qwen3", head_dim=16),
}


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
            if parameter.dim() == 1 and config.family.startswith("qwen"):  # biases that are not 0, norms not 1
                parameter.uniform_(0.3, 1.7, generator=torch.Generator().manual_seed(seed))
            if parameter.dim() > 1:
                parameter.mul_(3.0 if config.family == "palm" else 12.0)
        if config.family == "palm":
            decoder.model.embed_tokens.weight.mul_(0.03)
            decoder.model.norm.weight.mul_(30.0)
    return decoder
