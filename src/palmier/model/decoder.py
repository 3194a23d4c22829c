"""The decoder: token ids in, hidden states out; logits and log-probabilities from them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palmier.errors import Refusal
from palmier.model.attention import Slots, quarter_turn, rotary_tables
from palmier.model.cache import KVCache
from palmier.model.config import ModelConfig
from palmier.model.layers import ParallelBlock, SequentialBlock, norm
from palmier.model.logprobs import LogProbs, token_logprobs

__all__ = ["Backbone", "Decoder", "LogProbs", "token_logprobs"]


class Backbone(nn.Module):
    """Embedding, blocks and the final norm: what a Decoder and a RewardModel have in common."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        block = ParallelBlock if config.family == "palm" else SequentialBlock
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(block(config) for _ in range(config.num_layers))
        self.norm = norm(config)
        self._turns: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        *,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
        slots_B: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, D) after the final norm; see Decoder.forward."""
        if cache is not None:
            if segments_BT is not None:
                raise ValueError("packed segments and a cache exclude each other: a slot holds one sequence")
            hidden: Tensor = self._cached(tokens_BT, positions_BT, cache, slots_B)
            return hidden
        x_BTD = self.embed_tokens(tokens_BT)
        if positions_BT is None:
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        cos, sin = rotary_tables(self.config, positions_BT, x_BTD.dtype)
        turn = self._turn(x_BTD)
        mask = None if segments_BT is None else packing_mask(segments_BT)
        for layer in self.layers:
            x_BTD = layer(x_BTD, cos, sin, turn, mask)
        hidden_BTD: Tensor = self.norm(x_BTD)
        return hidden_BTD

    # The slots' bookkeeping is host work, and every step has another shape.
    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it untyped
    def _cached(self, tokens_BT: Tensor, positions_BT: Tensor | None, cache: KVCache, slots_B: Tensor | None) -> Tensor:
        at, positions_BT = place(tokens_BT, positions_BT, cache, slots_B)
        x_BTD = self.embed_tokens(tokens_BT)
        cos, sin = cache.cos[positions_BT], cache.sin[positions_BT]
        turn = self._turn(x_BTD)
        layer: Any
        for index, layer in enumerate(self.layers):
            x_BTD = layer.cached(x_BTD, cos, sin, turn, cache.keys[index], cache.values[index], at)
        hidden_BTD: Tensor = self.norm(x_BTD)
        return hidden_BTD

    def _turn(self, like: Tensor) -> Tensor:
        key = (like.dtype, like.device)
        if key not in self._turns:
            self._turns[key] = quarter_turn(self.config).to(like)
        return self._turns[key]


class Decoder(nn.Module):
    """A causal language model. Parameters carry Hugging Face's names.

    ``Decoder(config)`` is the shape alone: its parameters lie on the meta device until
    ``Decoder.create`` draws them or ``checkpoint.load`` reads them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.model = Backbone(config)
            if not config.tie_embeddings:
                self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @classmethod
    def create(cls, config: ModelConfig, seed: int) -> Decoder:
        """A decoder with fresh fp32 weights, the same for the same seed.

        PaLM as published: embeddings N(0, 1), kernels N(0, 1 / fan-in). Llama: N(0, 0.02²).
        Norms start at 1.
        """
        decoder = cls(config).to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in decoder.named_parameters():
                if parameter.dim() == 1:
                    parameter.fill_(1.0)
                elif config.family == "llama":
                    parameter.normal_(0.0, 0.02, generator=generator)
                else:
                    std = 1.0 if name == "model.embed_tokens.weight" else parameter.shape[1] ** -0.5
                    parameter.normal_(0.0, std, generator=generator)
        return decoder

    @property
    def output_weight(self) -> Tensor:
        """The (V, D) matrix of the head: the embedding where they are tied."""
        return self.model.embed_tokens.weight if self.config.tie_embeddings else self.lm_head.weight

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        *,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
        slots_B: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, D) after the final norm.

        ``positions_BT`` are 0, 1, … where not given. Without a cache a token sees itself and the
        tokens before it; ``segments_BT`` (0 = padding) keeps packed texts apart; right padding
        needs nothing. With a cache, keys and values are written at ``positions_BT`` of
        ``slots_B`` (0 … B - 1 where not given), and a token sees its slot's positions up to its own.
        """
        hidden: Tensor = self.model(tokens_BT, positions_BT, segments_BT=segments_BT, cache=cache, slots_B=slots_B)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 logits (…, V) of hidden states (…, D), scaled as the family does."""
        return F.linear(hidden, self.output_weight).float() * self.config.logit_scale


def packing_mask(segments_BT: Tensor) -> Tensor:
    """(B, 1, T, T), True where a query sees a key: not later, and of the same segment.

    Padding (segment 0) sees padding before it, so that no row is empty; its hidden states mean nothing.
    """
    length = segments_BT.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments_BT.device).tril()
    same = segments_BT.unsqueeze(-1) == segments_BT.unsqueeze(-2)
    return (same & causal).unsqueeze(1)


def place(
    tokens_BT: Tensor, positions_BT: Tensor | None, cache: KVCache, slots_B: Tensor | None
) -> tuple[Slots, Tensor]:
    """Where the tokens of one step go in the cache and what they see; and their positions."""
    batch, length = tokens_BT.shape
    device = tokens_BT.device
    if slots_B is None:
        slots_B = torch.arange(batch, device=device)
    fresh = positions_BT is None
    if positions_BT is None:
        positions_BT = torch.arange(length, device=device).expand(batch, length)
    seen = int(positions_BT.max()) + 1
    if seen > cache.length:
        raise Refusal(f"position {seen - 1} is beyond the cache's {cache.length} positions")
    rows = (slots_B.unsqueeze(1) * cache.length + positions_BT).flatten()
    mask = None
    if not fresh:
        mask = (torch.arange(seen, device=device) <= positions_BT.unsqueeze(-1)).unsqueeze(1)
    return Slots(rows, _window(slots_B), seen, mask), positions_BT


def _window(slots_B: Tensor) -> slice | Tensor:
    slots = slots_B.tolist()
    if slots == list(range(slots[0], slots[0] + len(slots))):
        return slice(slots[0], slots[0] + len(slots))
    return slots_B
