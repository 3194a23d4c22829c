"""Norms, SwiGLU, and the two blocks: parallel (PaLM) and sequential (Llama)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palmier.model.attention import Attention, Slots
from palmier.model.config import ModelConfig


class LayerNorm(nn.Module):
    """LayerNorm with a weight and no bias."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, None, self.eps)


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def norm(config: ModelConfig) -> LayerNorm | RMSNorm:
    """The family's norm over the hidden size."""
    return (LayerNorm if config.family == "palm" else RMSNorm)(config.hidden_size, config.norm_eps)


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) · up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]  # untyped call


class ParallelBlock(nn.Module):
    """PaLM: y = x + MLP(LN(x)) + Attention(LN(x)), one norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = norm(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, turn: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.input_layernorm(x)
        return x + self.self_attn(normed, cos, sin, turn, mask) + self.mlp(normed)  # type: ignore[no-any-return]  # untyped call

    def cached(
        self, x: Tensor, cos: Tensor, sin: Tensor, turn: Tensor, keys: Tensor, values: Tensor, at: Slots
    ) -> Tensor:
        """The same through this layer's part of the cache."""
        normed = self.input_layernorm(x)
        return x + self.self_attn.cached(normed, cos, sin, turn, keys, values, at) + self.mlp(normed)  # type: ignore[no-any-return]  # untyped call


class SequentialBlock(nn.Module):
    """Llama: x + Attention(norm(x)), then + MLP(norm(·))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = norm(config)
        self.post_attention_layernorm = norm(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, turn: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, turn, mask)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]  # untyped call

    def cached(
        self, x: Tensor, cos: Tensor, sin: Tensor, turn: Tensor, keys: Tensor, values: Tensor, at: Slots
    ) -> Tensor:
        """The same through this layer's part of the cache."""
        x = x + self.self_attn.cached(self.input_layernorm(x), cos, sin, turn, keys, values, at)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]  # untyped call
