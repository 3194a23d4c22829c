"""The decoder: token ids in, hidden states out; logits and log-probabilities from them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palmier.errors import Refusal
from palmier.model.attention import Rotary, places, quarter_turn, rotary_tables, sight, turn
from palmier.model.cache import KVCache
from palmier.model.config import ModelConfig
from palmier.model.layers import Packed, ParallelBlock, SequentialBlock, norm
from palmier.model.logprobs import LogProbs, token_logprobs
from palmier.model.prepared import Prepared, product

SHARP = 32
"""Tokens whose logits `Decoder.sharp_logits` computes in fp32."""

SMALL = 1 << 19
"""Numbers of a last layer up to which it computes all of them so: picking some out would take longer."""

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
        self._quarter = quarter_turn(config)

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        *,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
        pages_BP: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, D) after the final norm; see Decoder.forward."""
        if cache is not None:
            if segments_BT is not None:
                raise ValueError("packed segments and a cache exclude each other: a cache holds one sequence a row")
            hidden: Tensor = self._cached(tokens_BT, positions_BT, cache, pages_BP)
            return hidden
        x_BTD = self.embed_tokens(tokens_BT)
        if positions_BT is None:
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        cos, sin = rotary_tables(self.config, positions_BT, x_BTD.dtype)
        rotary = Rotary(cos, sin, self._quarter.to(x_BTD))
        seen = sight(self.config, segments_BT, tokens_BT.shape[1], x_BTD)
        for layer in self.layers:
            x_BTD = layer(x_BTD, rotary, seen)
        hidden_BTD: Tensor = self.norm(x_BTD)
        return hidden_BTD

    # Every step has another shape, so this is never compiled: blocks that were compiled for training
    # are called by their `cached`, past the compiled forward.
    @torch.no_grad()
    def _cached(
        self, tokens_BT: Tensor, positions_BT: Tensor | None, cache: KVCache, pages_BP: Tensor | None
    ) -> Tensor:
        batch, length = tokens_BT.shape
        start = torch.arange(length, device=tokens_BT.device)
        fresh = positions_BT is None or (length > 1 and torch.equal(positions_BT, start.expand_as(positions_BT)))
        positions_BT = start.expand(batch, length) if positions_BT is None else positions_BT
        last = length - 1 if fresh else int(positions_BT.max())
        pages_BP = torch.arange(batch, device=tokens_BT.device).unsqueeze(1) if pages_BP is None else pages_BP
        held = min(cache.length, pages_BP.shape[1] * cache.page)
        if last >= held:
            raise Refusal(f"position {last} is beyond the cache's {held} positions for a sequence")
        positions_BT = positions_BT.expand(batch, length)
        at = places(self.config, positions_BT, pages_BP, cache.page, cache.keys[0], fresh)
        x_BTD = self.embed_tokens(tokens_BT)
        rotary = turn(self.config, Rotary(cache.cos[positions_BT], cache.sin[positions_BT], cache.quarter))
        layer: Any
        for index, layer in enumerate(self.layers):
            x_BTD = layer.cached(x_BTD, rotary, cache.keys[index], cache.values[index], at)
        hidden_BTD: Tensor = self.norm(x_BTD)
        return hidden_BTD


class Decoder(nn.Module):
    """A causal language model. Parameters carry Hugging Face's names.

    ``Decoder(config)`` is the shape alone: its parameters lie on the meta device until
    ``Decoder.create`` draws them or ``checkpoint.load`` reads them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._prepared_head: Prepared | None = None
        self._wide_head: tuple[Tensor, Prepared | None] | None = None
        with torch.device("meta"):
            self.model = Backbone(config)
            if not config.tie_embeddings:
                self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @classmethod
    def create(cls, config: ModelConfig, seed: int) -> Decoder:
        """A decoder with fresh fp32 weights, the same for the same seed.

        PaLM as published: embeddings N(0, 1), kernels N(0, 1 / fan-in). Llama and Qwen: N(0, 0.02²).
        Norms start at 1, biases at 0.
        """
        decoder = cls(config).to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in decoder.named_parameters():
                if parameter.dim() == 1:
                    parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                elif config.family != "palm":
                    parameter.normal_(0.0, 0.02, generator=generator)
                else:
                    std = 1.0 if name == "model.embed_tokens.weight" else parameter.shape[1] ** -0.5
                    parameter.normal_(0.0, std, generator=generator)
        return decoder

    @property
    def dtype(self) -> torch.dtype:
        """The number format of hidden states, keys and values."""
        return self.model.norm.weight.dtype

    @property
    def precision(self) -> str:
        """How the weights are held, in a word: fp32, bf16, fp16; int8 is ``Int8Decoder``'s."""
        return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}.get(self.dtype, str(self.dtype))

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
        pages_BP: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, D) after the final norm.

        ``positions_BT`` are 0, 1, … where not given. Without a cache a token sees itself and the
        tokens before it; ``segments_BT`` (0 = padding) keeps packed texts apart; right padding
        needs nothing. With a cache, keys and values are written at ``positions_BT`` of each row's pages,
        ``pages_BP`` (one page a row, 0 … B - 1, where not given), and a token sees its row's positions
        up to its own.
        """
        hidden: Tensor = self.model(tokens_BT, positions_BT, segments_BT=segments_BT, cache=cache, pages_BP=pages_BP)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 logits (…, V) of hidden states (…, D), scaled as the family does."""
        return F.linear(hidden, self.output_weight).float() * self.config.logit_scale

    def prepare(self) -> None:
        """Make decoding quicker with the weights as they are now; again after every change of them.

        Training and whatever goes without a cache read the weights themselves, prepared or not.
        """
        block: Any
        for block in self.model.layers:
            for packed in vars(block).values():
                if isinstance(packed, Packed):
                    packed.prepare()
        self._prepared_head = Prepared.of(self.output_weight)
        self._wide_head = None
        if self._is_small:
            head_VD = self.head_rows(slice(None)).detach()
            self._wide_head = (head_VD, Prepared.of(head_VD))

    @property
    def _is_small(self) -> bool:
        """Whether the last layer is computed in fp32 as a whole, though the others are not."""
        return self._rounds_logits and self.config.vocab_size * self.config.hidden_size <= SMALL

    @property
    def _rounds_logits(self) -> bool:
        """Whether the last layer's product rounds each logit to less than fp32."""
        return self.dtype != torch.float32

    def head_rows(self, tokens: Tensor | slice) -> Tensor:
        """The head's fp32 rows (…, D) of some tokens (…)."""
        return self.output_weight[tokens].float()

    def sharp_logits(self, hidden_BD: Tensor, named_B: Tensor | None = None) -> Tensor:
        """``logits`` (B, V) of which the likeliest of each row, and the token named of it, come from an fp32 product.

        In bf16 the product rounds each logit to 8 bits, an error of hundredths of a nat. An fp32 product of the
        whole last layer would take several times as long; the ``SHARP`` likeliest tokens are what log-probs are
        told of, and they hold most of the sum over the vocabulary, over whose rest the errors average out.
        """
        if self._is_small:
            kept = self._prepared_head is not None and self._prepared_head.holds(self.output_weight)
            head_VD, prepared = (kept and self._wide_head) or (self.head_rows(slice(None)), None)
            return product(hidden_BD.float(), head_VD, None, prepared) * self.config.logit_scale
        if self._prepared_head is None:
            logits_BV = self.logits(hidden_BD)
        else:
            rounded_BV = product(hidden_BD, self.output_weight, None, self._prepared_head)
            logits_BV = rounded_BV.float() * self.config.logit_scale
        if not self._rounds_logits:
            return logits_BV
        best_BK = logits_BV.topk(min(SHARP, logits_BV.shape[1]), dim=-1, sorted=False).indices
        if named_B is not None:
            best_BK = torch.cat((best_BK, named_B[:, None]), dim=1)
        exact_BK = torch.bmm(self.head_rows(best_BK), hidden_BD.float().unsqueeze(-1)).squeeze(-1)
        return logits_BV.scatter_(1, best_BK, exact_BK * self.config.logit_scale)
