"""Causal attention with shared key/value heads and rotary positions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palmier.model.config import ModelConfig
from palmier.model.rope import divisors

SHORT = 512
"""Up to this many positions two plain products beat the CPU's fused attention (its backward by 3–4×)."""

FAR = 256
"""From so many positions a row, gathering fp32 keys and values costs the CPU more than a call for every row."""


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
    neighbours (2i, 2i + 1), Llama pairs (i, i + head_dim / 2). Scaled positions turn pair i more slowly
    (``rope.divisors``). Angles are made in fp32.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    if config.rope_scaling is not None:
        slower = divisors(config.rope_scaling, config.head_dim, config.rope_theta)
        frequencies /= torch.tensor(slower, dtype=torch.float32, device=positions.device)
    angles = positions.float().unsqueeze(-1) * frequencies
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


class Gathered(NamedTuple):
    """Page numbers (B, n) of which ``length`` positions are read, and where a layer's keys and values are put together.

    The room (2, kv heads, B · n, page · head_dim) is made once a step and used by every layer: memory that is fresh
    from the system costs more than the copy.
    """

    pages_BP: Tensor
    length: int
    room: Tensor


class Places(NamedTuple):
    """Where a step's tokens go in the cache and what they see; made once, shared by all layers.

    ``rows`` (B · T · kv heads,) are rows of a layer's cache flattened to (kv heads · positions).
    ``windows`` are what is read, one for all sequences or one for each: positions as a slice, where there is one
    sequence and its pages are neighbours (a view), or pages to be gathered; none for whole prompts from position 0,
    which read nothing and see each other causally. ``bias`` (B, T · group or 1, positions read) is 0 where a query
    sees a key, else -inf; without it every query sees everything that is read.
    """

    rows: Tensor
    windows: list[slice | Gathered]
    bias: Tensor | None


class Attention(nn.Module):
    """Multi-head attention with ``num_kv_heads`` shared key/value heads; biases (Qwen2) and q/k norms (Qwen3)
    where the family has them, no dropout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.group = self.heads // self.kv_heads
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.head_dim, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=config.qkv_bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=False)
        self.qk_norm = config.qk_norm
        self.q_norm = nn.RMSNorm(self.head_dim, config.norm_eps) if self.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(self.head_dim, config.norm_eps) if self.qk_norm else nn.Identity()

    def forward(self, x_BTD: Tensor, rotary: Rotary, sight: Sight) -> Tensor:
        """(B, T, D) → (B, T, D): what every token gathers from those that it sees."""
        batch, length = x_BTD.shape[:2]
        q_BTHd = rotary(self.q_norm(self.q_proj(x_BTD).view(batch, length, self.heads, self.head_dim)))
        k_BTKd = rotary(self.k_norm(self.k_proj(x_BTD).view(batch, length, self.kv_heads, self.head_dim)))
        v_BTKd = self.v_proj(x_BTD).view(batch, length, self.kv_heads, self.head_dim)
        out: Tensor = self.o_proj(self._attend(q_BTHd, k_BTKd.transpose(1, 2), v_BTKd.transpose(1, 2), sight))
        return out

    def cached(
        self, qk: Tensor, v: Tensor, rotary: Rotary | Rolled, keys: Tensor, values: Tensor, at: Places
    ) -> Tensor:
        """The same through one layer's ``keys`` and ``values`` (kv heads, positions, head_dim), before ``o_proj``.

        ``qk`` are queries and keys side by side, ``v`` values, as projected: (B, T, width).
        """
        batch, length = qk.shape[:2]
        q_BTHd, k_BTKd = self._queries_and_keys(qk, rotary)
        v_BTKd = v.reshape(batch, length, self.kv_heads, self.head_dim)
        keys.flatten(0, 1).index_copy_(0, at.rows, k_BTKd.flatten(0, 2))
        values.flatten(0, 1).index_copy_(0, at.rows, v_BTKd.flatten(0, 2))
        if not at.windows:
            return self._attend(q_BTHd, k_BTKd.transpose(1, 2), v_BTKd.transpose(1, 2), Sight(None, None))
        if len(at.windows) == 1:
            return self._look_back(q_BTHd, _read(keys, values, at.windows[0]), at.bias)
        rows = [
            self._look_back(q_BTHd[row : row + 1], _read(keys, values, window), None)
            for row, window in enumerate(at.windows)
        ]
        return torch.cat(rows)

    def _queries_and_keys(self, qk: Tensor, rotary: Rotary | Rolled) -> tuple[Tensor, Tensor]:
        """Queries (B, T, heads, head_dim) and keys (B, T, kv heads, head_dim), normed and turned, of ``cached``'s qk."""
        # Side by side first: a product over a strided slice would run as one tiny product a token.
        qk_BTHd = qk.contiguous().view(*qk.shape[:2], self.heads + self.kv_heads, self.head_dim)
        if self.qk_norm:
            q_BTHd, k_BTKd = qk_BTHd[:, :, : self.heads], qk_BTHd[:, :, self.heads :]
            qk_BTHd = torch.cat((self.q_norm(q_BTHd), self.k_norm(k_BTKd)), dim=2)
        qk_BTHd = rotary(qk_BTHd)
        return qk_BTHd[:, :, : self.heads], qk_BTHd[:, :, self.heads :]

    def _look_back(self, q_BTHd: Tensor, read: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
        """(B, T, heads · head_dim): what queries gather from keys and values that were read from the cache."""
        k_KBSd, v_KBSd = read
        batch, length = q_BTHd.shape[:2]
        if length > 1 or (batch == 1 and k_KBSd.dtype != torch.float32):
            mask = None if bias is None else bias.unsqueeze(1)
            k_BKSd, v_BKSd = k_KBSd.transpose(0, 1), v_KBSd.transpose(0, 1)
            out = F.scaled_dot_product_attention(self._fold(q_BTHd), k_BKSd, v_BKSd, attn_mask=mask)
            return self._unfold(out, length)
        # One query a row: two plain products over (kv heads · B) beat the CPU's fused attention, but for one row
        # in bf16, whose view they would copy.
        q = q_BTHd.view(batch, self.kv_heads, self.group, self.head_dim).transpose(0, 1).flatten(0, 1)
        scores = torch.bmm(q * self.head_dim**-0.5, k_KBSd.flatten(0, 1).transpose(1, 2))
        if bias is not None:
            scores.view(self.kv_heads, batch, self.group, -1).add_(bias)
        out = torch.bmm(scores.softmax(-1), v_KBSd.flatten(0, 1))
        return out.view(self.kv_heads, batch, -1).transpose(0, 1).reshape(batch, 1, -1)

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


def places(
    config: ModelConfig, positions_BT: Tensor, pages_BP: Tensor, page: int, stored: Tensor, fresh: bool
) -> Places:
    """Where tokens at ``positions_BT`` go in a cache whose layers look like ``stored``, and what they see.

    Row b's pages, in the order of its positions, are ``pages_BP[b]``. ``fresh``: the positions are 0 … T - 1, so
    that the tokens see nothing but each other.
    """
    heads, total, _ = stored.shape
    places_BT = pages_BP.gather(1, positions_BT // page) * page + positions_BT % page
    heads_K = torch.arange(heads, device=stored.device)
    rows = (places_BT.unsqueeze(-1) + heads_K * total).flatten()
    if fresh:
        return Places(rows, [], None)
    lengths = (positions_BT.amax(1) + 1).tolist()
    single = positions_BT.shape[1] == 1
    if single and stored.dtype == torch.float32 and stored.device.type == "cpu" and sum(lengths) >= FAR * len(lengths):
        # Row by row each reads its own positions as a view.
        return Places(rows, [_window(pages_BP[row : row + 1], page, n, stored) for row, n in enumerate(lengths)], None)
    seen = max(lengths)
    window = _window(pages_BP, page, seen, stored)
    if isinstance(window, Gathered):
        seen = -(-seen // page) * page  # whole pages: a product over a part of them would copy it in bf16
        window = window._replace(length=seen)
    if single and min(lengths) == seen:
        return Places(rows, [window], None)
    sees = torch.arange(seen, device=stored.device) <= positions_BT.unsqueeze(-1)
    return Places(rows, [window], _bias(sees, config.num_heads // config.num_kv_heads, stored.dtype))


def _window(pages_BP: Tensor, page: int, length: int, stored: Tensor) -> slice | Gathered:
    """What holds the first ``length`` positions of the sequences with these pages."""
    read_BP = pages_BP[:, : -(-length // page)]
    numbers = read_BP.flatten().tolist()
    if len(pages_BP) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return slice(numbers[0] * page, numbers[0] * page + length)
    heads, _, width = stored.shape
    return Gathered(read_BP, length, stored.new_empty(2, heads, len(numbers), page * width))


def _read(keys: Tensor, values: Tensor, window: slice | Gathered) -> tuple[Tensor, Tensor]:
    """Keys and values (kv heads, B, positions read, head_dim) of a layer's (kv heads, positions, head_dim)."""
    if isinstance(window, slice):
        return keys[:, window].unsqueeze(1), values[:, window].unsqueeze(1)
    heads, _, width = keys.shape
    numbers, room = window.pages_BP.flatten(), window.room
    for stored, copy in ((keys, room[0]), (values, room[1])):
        torch.index_select(stored.view(heads, -1, copy.shape[-1]), 1, numbers, out=copy)
    both = room.view(2, heads, len(window.pages_BP), -1, width)[:, :, :, : window.length]
    return both[0], both[1]


def _bias(seen_BTS: Tensor, group: int, dtype: torch.dtype) -> Tensor:
    """(B, T · group, S): 0 where seen, -inf elsewhere; a query's row once for each head of its group."""
    bias = torch.zeros(seen_BTS.shape, dtype=dtype, device=seen_BTS.device).masked_fill_(~seen_BTS, -torch.inf)
    if bias.shape[1] > 1:
        return bias.repeat_interleave(group, dim=1)
    return bias  # one query a row: the group's heads share it by broadcasting
