"""Causal attention with shared key/value heads and rotary positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palmier.model.config import ModelConfig


def rotary_tables(config: ModelConfig, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, each of shape (*positions, head_dim).

    Su et al. 2021 (RoFormer): pair i turns by position · theta^(-2i / head_dim). PaLM pairs
    neighbours (2i, 2i + 1), Llama pairs (i, i + head_dim / 2). Angles are made in fp32.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device) / config.head_dim
    angles = positions.float().unsqueeze(-1) * (1.0 / config.rope_theta**exponents)
    angles = angles.repeat_interleave(2, dim=-1) if config.family == "palm" else torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def quarter_turn(config: ModelConfig) -> Tensor:
    """The constant matrix M (head_dim, head_dim) for which x @ M turns every rotary pair (a, b) to (-b, a).

    As a product it is exact in every dtype (one term a sum), and its backward is a product too:
    the strided slices that it replaces scatter their gradient.
    """
    matrix = torch.zeros(config.head_dim, config.head_dim)
    half = config.head_dim // 2
    for i in range(half):
        first, second = (2 * i, 2 * i + 1) if config.family == "palm" else (i, i + half)
        matrix[second, first] = -1.0
        matrix[first, second] = 1.0
    return matrix


@dataclass
class Slots:
    """Where a step's tokens go in the cache, and what they see; made once, shared by all layers.

    ``rows`` (B·T,) are rows of the cache flattened to (slots · length); ``window`` are the slots
    read, a slice (a view) or an index (a copy); ``seen`` is how many positions are read at all;
    ``mask`` (B, 1, T, seen) is True where a query sees a key, None for a prompt from position 0.
    """

    rows: Tensor
    window: slice | Tensor
    seen: int
    mask: Tensor | None


class Attention(nn.Module):
    """Multi-head attention with ``num_kv_heads`` shared key/value heads, no biases, no dropout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, turn: Tensor, mask: Tensor | None) -> Tensor:
        """Every token sees itself and those before it, or what ``mask`` (B, 1, T, T) lets it see."""
        q, k, v = self._project(x_BTD, cos, sin, turn)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        out = F.scaled_dot_product_attention(q, self._share(k), self._share(v), attn_mask=mask, is_causal=mask is None)
        return self.o_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # nn.Module's call is untyped

    def cached(
        self, x_BTD: Tensor, cos: Tensor, sin: Tensor, turn: Tensor, keys: Tensor, values: Tensor, at: Slots
    ) -> Tensor:
        """The same, with keys and values of this layer written to and read from the cache."""
        q, k, v = self._project(x_BTD, cos, sin, turn)
        keys.flatten(0, 1).index_copy_(0, at.rows, k.flatten(0, 1))
        values.flatten(0, 1).index_copy_(0, at.rows, v.flatten(0, 1))
        if at.mask is not None:
            k, v = keys[at.window, : at.seen], values[at.window, : at.seen]
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        out = F.scaled_dot_product_attention(
            q, self._share(k), self._share(v), attn_mask=at.mask, is_causal=at.mask is None
        )
        return self.o_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # nn.Module's call is untyped

    def _project(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned by their positions, and values: (B, T, heads, head_dim) each."""
        q = self.q_proj(x_BTD).unflatten(-1, (self.heads, self.head_dim))
        k = self.k_proj(x_BTD).unflatten(-1, (self.kv_heads, self.head_dim))
        v = self.v_proj(x_BTD).unflatten(-1, (self.kv_heads, self.head_dim))
        cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
        return q * cos + (q @ turn) * sin, k * cos + (k @ turn) * sin, v

    def _share(self, x: Tensor) -> Tensor:
        """(B, kv heads, S, head_dim) as (B, heads, S, head_dim)."""
        if self.heads == self.kv_heads:
            return x
        batch, _, length, width = x.shape
        return (
            x.unsqueeze(2).expand(-1, -1, self.heads // self.kv_heads, -1, -1).reshape(batch, self.heads, length, width)
        )
