"""Log-probabilities of tokens without ever holding the logits of a whole batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from palmier.model.decoder import Decoder

IGNORE = -100
"""A target that asks for nothing."""

CHUNK = 4 * 1024 * 1024
"""Logits held at a time: 16 MiB in fp32."""


class LogProbs(NamedTuple):
    """Of each target token, all (B, T), fp32, and 0 where the target is -100.

    ``logprobs``: ln p(target). ``logsumexp``: ln Z of the (scaled, tempered) logits.
    ``entropy``: of the distribution, in nats. All three carry gradients.
    """

    logprobs_BT: Tensor
    logsumexp_BT: Tensor
    entropy_BT: Tensor


def token_logprobs(decoder: Decoder, hidden_BTD: Tensor, targets_BT: Tensor, *, temperature: float = 1.0) -> LogProbs:
    """ln p(target) under softmax(logits / temperature), chunked over tokens, in fp32.

    ``hidden_BTD`` are the decoder's hidden states, ``targets_BT`` the ids to score at the same
    places (already shifted by the caller), -100 for places that ask for nothing: those are not
    computed at all. Backward computes each chunk's logits again.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be above 0: greedy choices have no log-probability")
    scale = decoder.config.logit_scale / temperature
    wanted = targets_BT.flatten().ne(IGNORE).nonzero().squeeze(1)
    rows = hidden_BTD.flatten(0, 1).index_select(0, wanted)
    targets = targets_BT.flatten().index_select(0, wanted)
    found: tuple[Tensor, ...] = _HeadLogProbs.apply(rows, decoder.output_weight, targets, scale)  # type: ignore[no-untyped-call]  # autograd.Function.apply is untyped
    spread = [x.new_zeros(targets_BT.numel()).index_copy(0, wanted, x).view_as(targets_BT) for x in found]
    return LogProbs(*spread)


class _HeadLogProbs(torch.autograd.Function):
    """(hidden (N, D), weight (V, D), targets (N,)) → log-probs, logsumexp, entropy, each (N,) in fp32.

    With z = scale · hidden @ weightᵀ and p = softmax(z):
    d ln p_t / dz = onehot(t) - p;  d ln Z / dz = p;  dH / dz = -p · (ln p + H).
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> tuple[Tensor, ...]:
        count = hidden.shape[0]
        logprobs, logsumexp, entropy = (hidden.new_empty(count, dtype=torch.float32) for _ in range(3))
        for part in _chunks(count, weight.shape[0]):
            z = F.linear(hidden[part], weight).float().mul_(scale)
            lse = z.logsumexp(-1)
            logprobs[part] = z.gather(1, targets[part].unsqueeze(1)).squeeze(1) - lse
            logsumexp[part] = lse
            z.sub_(lse.unsqueeze(1))
            entropy[part] = -(z.exp().mul_(z)).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, logsumexp, entropy)
        ctx.scale = scale
        return logprobs, logsumexp, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_logprobs: Tensor, d_logsumexp: Tensor, d_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, logsumexp, entropy = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=torch.float32)
        for part in _chunks(hidden.shape[0], weight.shape[0]):
            z = F.linear(hidden[part], weight).float().mul_(ctx.scale)
            z.sub_(logsumexp[part].unsqueeze(1))
            p = z.exp()
            factor = (d_logsumexp[part] - d_logprobs[part] - d_entropy[part] * entropy[part]).unsqueeze(1)
            d_z = p * (factor - z * d_entropy[part].unsqueeze(1))
            d_z.scatter_add_(1, targets[part].unsqueeze(1), d_logprobs[part].unsqueeze(1))
            d_z = d_z.mul_(ctx.scale).to(weight.dtype)
            d_hidden[part] = d_z @ weight
            d_weight += d_z.T @ hidden[part]
        return d_hidden, d_weight.to(weight.dtype), None, None


def _chunks(count: int, vocabulary: int) -> list[slice]:
    rows = max(1, CHUNK // vocabulary)
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
