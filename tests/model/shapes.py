"""The shapes that the model's tests run over: every family, shared heads, odd head widths, tied and not."""

from __future__ import annotations

from dataclasses import replace

import torch

from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.rope import RopeScaling

PALM = ModelConfig.palm(97, 48, 2, 4, max_positions=64, eos_id=1)
PALM_WIDE = ModelConfig.palm(97, 48, 2, 4, num_kv_heads=2, head_dim=20, intermediate_size=80, max_positions=64)
LLAMA = ModelConfig("llama", 97, 48, 2, 6, 2, 8, 96, 64, eos_id=2)
LLAMA_UNTIED = ModelConfig("llama", 97, 48, 2, 4, 2, 20, 80, 64, 1e5, 1e-6, tie_embeddings=False)
LINEAR = replace(LLAMA, rope_scaling=RopeScaling("linear", 4.0))
# Waves of 6, 20, 63, … positions: the first pair is left alone, the second blended, the others slowed down.
LLAMA3 = replace(LLAMA, num_heads=3, num_kv_heads=1, head_dim=16, rope_scaling=RopeScaling("llama3", 8.0, 1, 4, 48))
QWEN2 = replace(LLAMA, family="qwen2")
QWEN3 = replace(LLAMA_UNTIED, family="qwen3")
SHAPES = {
    "palm": PALM,
    "palm_wide": PALM_WIDE,
    "palm_linear": replace(PALM, rope_scaling=RopeScaling("linear", 4.0)),
    "llama": LLAMA,
    "llama_untied": LLAMA_UNTIED,
    "llama_linear": LINEAR,
    "llama_llama3": LLAMA3,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
}


def decoder(config: ModelConfig, seed: int = 0) -> Decoder:
    """A decoder whose norms are not all ones and biases not 0, so that a forgotten one shows."""
    module = Decoder.create(config, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif config.family != "palm":
                parameter.mul_(6.0)  # at 0.02 attention is nearly uniform and hides mistakes
    return module


def tokens(*shape: int, vocabulary: int = 97, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, vocabulary, shape, generator=torch.Generator().manual_seed(seed))
