"""Causal attention with shared key/value heads and rotary positions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palmier.model.config import ModelConfig

SHORT = 512
"""Up to this many positions two plain products beat the CPU's fused attention (its backward by 3–4×)."""


class Rotary(NamedTuple):
    """What turns queries and keys: cosines and sines (…, T, head_dim), and ``quarter_turn``'s matrix."""

    cos: Tensor
    sin: Tensor
    quarter: Tensor

    def __call__(self, x_BTHd: Tensor) -> Tensor:
        """Every rotary pair of (B, T, heads, head_dim) turned by its position's angle."""
        return x_BTHd * self.cos.unsqueeze(-2) + (x_BTHd @ self.quarter) * self.sin.unsqueeze(-2)


class Rolled(NamedTuple):
    """`Rotary` of pairs (i, i + head_dim / 2) for inference: half a roll brings each number to its partner.

    ``cos`` and ``sin`` are (…, T, 1, head_dim), the sines of the first half negated. A third of
    the product's time, which is mostly the fixed cost of a product.
    """

    cos: Tensor
    sin: Tensor

    def __call__(self, x_BTHd: Tensor) -> Tensor:
        """What ``Rotary`` gives, with two roundings instead of three."""
        return torch.addcmul(x_BTHd * self.cos, x_BTHd.roll(x_BTHd.shape[-1] // 2, -1), self.sin)


def turn(config: ModelConfig, rotary: Rotary) -> Rotary | Rolled:
    """The quickest way for inference to do what ``rotary`` does; made once a step, shared by all layers."""
    if config.family == "palm":
        return rotary
    first, second = rotary.sin.chunk(2, -1)
    return Rolled(rotary.cos.unsqueeze(-2), torch.cat((-first, second), -1).unsqueeze(-2))


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
    matrix = torch.zeros(config.head_dim, config.head_dim, device="cpu")
    half = config.head_dim // 2
    for i in range(half):
        first, second = (2 * i, 2 * i + 1) if config.family == "palm" else (i, i + half)
        matrix[second, first] = -1.0
        matrix[first, second] = 1.0
    return matrix


class Sight(NamedTuple):
    """What the tokens of a forward pass see of each other; made once, shared by all layers.

    ``bias`` (1 or B · kv heads, T · group, T) is added to the scores of plain products: 0 or -inf.
    Without it the fused attention is used, with ``mask`` (B, 1, T, T), True where a query sees a
    key; None is causal.
    """

    bias: Tensor | None
    mask: Tensor | None


class Slots(NamedTuple):
    """Where a step's tokens go in the cache and what they see; made once, shared by all layers.

    ``rows`` (B · T · kv heads,) are rows of a layer's cache flattened to (slots · kv heads · length);
    ``window`` are the slots read, a slice (a view) or an index (a copy); ``seen`` is how many
    positions are read at all; ``bias`` (B, 1, T · group, seen) is 0 where a query sees a key, else
    -inf; None for whole prompts from position 0, which see each other causally.
    """

    rows: Tensor
    window: slice | Tensor
    seen: int
    bias: Tensor | None


class Attention(nn.Module):
    """Multi-head attention with ``num_kv_heads`` shared key/value heads, no biases, no dropout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.group = self.heads // self.kv_heads
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, rotary: Rotary, sight: Sight) -> Tensor:
        """(B, T, D) → (B, T, D): what every token gathers from those that it sees."""
        batch, length = x_BTD.shape[:2]
        q_BTHd = rotary(self.q_proj(x_BTD).view(batch, length, self.heads, self.head_dim))
        k_BTKd = rotary(self.k_proj(x_BTD).view(batch, length, self.kv_heads, self.head_dim))
        v_BTKd = self.v_proj(x_BTD).view(batch, length, self.kv_heads, self.head_dim)
        out: Tensor = self.o_proj(self._attend(q_BTHd, k_BTKd.transpose(1, 2), v_BTKd.transpose(1, 2), sight))
        return out

    def cached(self, qk: Tensor, v: Tensor, rotary: Rotary | Rolled, keys: Tensor, values: Tensor, at: Slots) -> Tensor:
        """The same through one layer's ``keys`` and ``values`` (slots, kv heads, length, head_dim).

        ``qk`` are queries and keys side by side, ``v`` values, as projected: (B, T, width).
        """
        batch, length = qk.shape[:2]
        # Side by side first: a product over a strided slice would run as one tiny product a token.
        qk_BTHd = rotary(qk.contiguous().view(batch, length, self.heads + self.kv_heads, self.head_dim))
        q_BTHd, k_BTKd = qk_BTHd[:, :, : self.heads], qk_BTHd[:, :, self.heads :]
        v_BTKd = v.reshape(batch, length, self.kv_heads, self.head_dim)
        keys.flatten(0, 2).index_copy_(0, at.rows, k_BTKd.flatten(0, 2))
        values.flatten(0, 2).index_copy_(0, at.rows, v_BTKd.flatten(0, 2))
        if at.bias is None:
            mixed = self._attend(q_BTHd, k_BTKd.transpose(1, 2), v_BTKd.transpose(1, 2), Sight(None, None))
        else:
            k_BKSd, v_BKSd = keys[at.window, :, : at.seen], values[at.window, :, : at.seen]
            out = F.scaled_dot_product_attention(self._fold(q_BTHd), k_BKSd, v_BKSd, attn_mask=at.bias)
            mixed = self._unfold(out, q_BTHd.shape[1])
        out_BTD: Tensor = self.o_proj(mixed)
        return out_BTD

    def _attend(self, q_BTHd: Tensor, k_BKTd: Tensor, v_BKTd: Tensor, sight: Sight) -> Tensor:
        """(B, T, heads · head_dim): the values, weighted by softmax(q kᵀ / √head_dim)."""
        if sight.bias is None:
            causal = sight.mask is None
            out_BHTd = F.scaled_dot_product_attention(
                q_BTHd.transpose(1, 2), k_BKTd, v_BKTd, attn_mask=sight.mask, is_causal=causal, enable_gqa=True
            )
            return out_BHTd.transpose(1, 2).flatten(2)
        q, k, v = self._fold(q_BTHd).flatten(0, 1), k_BKTd.flatten(0, 1), v_BKTd.flatten(0, 1)
        bias = sight.bias.expand(q.shape[0], -1, -1)
        weights = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=self.head_dim**-0.5).softmax(-1)
        return self._unfold(torch.bmm(weights, v), q_BTHd.shape[1])

    def _fold(self, q_BTHd: Tensor) -> Tensor:
        """Queries that share a key/value head side by side: (B, kv heads, T · group, head_dim)."""
        batch, length = q_BTHd.shape[:2]
        return q_BTHd.reshape(batch, length, self.kv_heads, self.group, self.head_dim).transpose(1, 2).flatten(2, 3)

    def _unfold(self, out_BKQd: Tensor, length: int) -> Tensor:
        """Back to (B, T, heads · head_dim)."""
        folded = out_BKQd.reshape(-1, self.kv_heads, length, self.group, self.head_dim)
        return folded.transpose(1, 2).flatten(2)


def sight(config: ModelConfig, segments_BT: Tensor | None, length: int, like: Tensor) -> Sight:
    """What ``length`` tokens see: themselves and those before them, of the same segment where given.

    Padding (segment 0) sees padding before it, so that no row is empty; its hidden states mean nothing.
    """
    causal = torch.ones(length, length, dtype=torch.bool, device=like.device).tril()
    short = length <= SHORT and like.device.type == "cpu"
    if segments_BT is None:
        seen = causal.unsqueeze(0) if short else None
    else:
        seen = (segments_BT.unsqueeze(-1) == segments_BT.unsqueeze(-2)) & causal
    if seen is None or not short:
        return Sight(None, None if seen is None else seen.unsqueeze(1))
    bias = _bias(seen, config.num_heads // config.num_kv_heads, like.dtype)
    if segments_BT is not None and config.num_kv_heads > 1:
        bias = bias.repeat_interleave(config.num_kv_heads, dim=0)
    return Sight(bias, None)


def slots(
    config: ModelConfig, positions_BT: Tensor, slots_B: Tensor, length: int, fresh: bool, dtype: torch.dtype
) -> Slots:
    """Where tokens at ``positions_BT`` of ``slots_B`` go in a cache of ``length`` positions, and what they see.

    ``fresh``: the positions are 0 … T - 1, so that the tokens see nothing but each other.
    """
    device = positions_BT.device
    heads_K = torch.arange(config.num_kv_heads, device=device)
    rows_BTK = (slots_B.view(-1, 1, 1) * config.num_kv_heads + heads_K) * length + positions_BT.unsqueeze(-1)
    order = slots_B.tolist()
    first, last = order[0], order[-1]
    window = slice(first, last + 1) if order == list(range(first, last + 1)) else slots_B
    if fresh:
        return Slots(rows_BTK.flatten(), window, positions_BT.shape[1], None)
    seen = int(positions_BT.max()) + 1
    bias = _bias(
        torch.arange(seen, device=device) <= positions_BT.unsqueeze(-1), config.num_heads // config.num_kv_heads, dtype
    )
    return Slots(rows_BTK.flatten(), window, seen, bias.unsqueeze(1))


def _bias(seen_BTS: Tensor, group: int, dtype: torch.dtype) -> Tensor:
    """(B, T · group, S): 0 where seen, -inf elsewhere; a query's row once for each head of its group."""
    bias = torch.zeros(seen_BTS.shape, dtype=dtype, device=seen_BTS.device).masked_fill_(~seen_BTS, -torch.inf)
    if bias.shape[1] > 1:
        return bias.repeat_interleave(group, dim=1)
    return bias  # one query a row: the group's heads share it by broadcasting
