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

TILE = 512 * 1024
"""Logits held at a time: 2 MiB in fp32, what stays in a core's cache between one pass and the next."""

COLUMNS, ROWS = 512, 1024
"""A tile of backward."""


class LogProbs(NamedTuple):
    """Of each target token, all (B, T), fp32, and 0 where the target is -100.

    ``logprobs``: ln p(target). ``logsumexp``: ln Z of the (scaled, tempered) logits.
    ``entropy``: of the distribution, in nats. All three carry gradients.
    """

    logprobs_BT: Tensor
    logsumexp_BT: Tensor
    entropy_BT: Tensor


def token_logprobs(decoder: Decoder, hidden_BTD: Tensor, targets_BT: Tensor, *, temperature: float = 1.0) -> LogProbs:
    """ln p(target) under softmax(logits / temperature), a tile at a time, in fp32.

    ``hidden_BTD`` are the decoder's hidden states, ``targets_BT`` the ids to score at the same
    places (already shifted by the caller), -100 for places that ask for nothing: those are not
    computed at all. Backward computes each tile's logits again.
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
        count, vocabulary = hidden.shape[0], weight.shape[0]
        logprobs, logsumexp, entropy = (hidden.new_empty(count, dtype=torch.float32) for _ in range(3))
        # At least 128 rows: with fewer, a product reads a large vocabulary's weights too often.
        for part in _parts(count, max(128, TILE // vocabulary)):
            target = targets[part].unsqueeze(1)
            z = F.linear(hidden[part], weight).float().mul_(scale)
            log_p = z.log_softmax(-1)
            chosen = log_p.gather(1, target).squeeze(1)
            logprobs[part] = chosen
            logsumexp[part] = z.gather(1, target).squeeze(1) - chosen
            entropy[part] = -torch.linalg.vecdot(torch.exp(log_p, out=z), log_p)
        ctx.save_for_backward(hidden, weight, targets, logsumexp, entropy)
        ctx.scale = scale
        ctx.set_materialize_grads(False)
        return logprobs, logsumexp, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, d_logprobs: Tensor | None, d_logsumexp: Tensor | None, d_entropy: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, logsumexp, entropy = ctx.saved_tensors
        # dz = p · (factor - (z - ln Z) · d_entropy) + onehot · d_logprobs, all times the scale.
        factor = torch.zeros_like(logsumexp)
        factor = factor if d_logsumexp is None else factor + d_logsumexp
        factor = factor if d_logprobs is None else factor - d_logprobs
        factor = factor if d_entropy is None else factor - d_entropy * entropy
        gradients = _Gradients(factor * ctx.scale, _scaled(d_logprobs, ctx.scale), _scaled(d_entropy, ctx.scale))
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        d_weight = torch.empty_like(weight)
        # ln Z is known by now, so that the vocabulary can be tiled too: each tile of weights gets
        # its gradient once, however large the vocabulary is.
        for columns in _parts(weight.shape[0], COLUMNS):
            d_tile = torch.zeros_like(weight[columns], dtype=torch.float32)
            for rows in _parts(hidden.shape[0], ROWS):
                log_p = F.linear(hidden[rows], weight[columns]).float().mul_(ctx.scale)
                log_p.sub_(logsumexp[rows].unsqueeze(1))
                d_z = gradients.of_logits(log_p, targets[rows] - columns.start, rows).to(weight.dtype)
                d_hidden[rows] += d_z @ weight[columns]
                d_tile += d_z.T @ hidden[rows]
            d_weight[columns] = d_tile
        return d_hidden.to(hidden.dtype), d_weight, None, None


class _Gradients(NamedTuple):
    """Of the rows' results, already times the scale: see _HeadLogProbs.backward."""

    factor: Tensor
    logprobs: Tensor | None
    entropy: Tensor | None

    def of_logits(self, log_p: Tensor, targets: Tensor, rows: slice) -> Tensor:
        """The gradient of a tile of logits; ``targets`` count from the tile's first column."""
        factor = self.factor[rows].unsqueeze(1)
        if self.entropy is None:
            d_z = log_p.exp_().mul_(factor)
        else:
            d_z = log_p.exp() * (factor - log_p * self.entropy[rows].unsqueeze(1))
        if self.logprobs is not None:
            width = d_z.shape[1]
            inside = (targets >= 0) & (targets < width)
            d_chosen = self.logprobs[rows] * inside
            d_z.scatter_add_(1, targets.clamp(0, width - 1).unsqueeze(1), d_chosen.unsqueeze(1))
        return d_z


def _scaled(gradient: Tensor | None, scale: float) -> Tensor | None:
    return None if gradient is None else gradient * scale


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
