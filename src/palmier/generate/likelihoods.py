"""How likely the tokens of a prompt are: what is told of text that is there already."""

from __future__ import annotations

import torch
from torch import Tensor

from palmier.errors import Refusal
from palmier.generate.requests import Likelihood
from palmier.model.decoder import Decoder

ROWS = 128
"""Places whose logits are held at a time; with fewer, a product reads a large vocabulary's weights too often."""


def likelihoods(decoder: Decoder, hidden_ND: Tensor, targets: list[int], top: int) -> list[Likelihood]:
    """Of each target, the token that follows its hidden state, with the ``top`` likeliest in its place.

    Natural log-softmax of the fp32 logits, at temperature 1. Raises Refusal where they are not finite.
    """
    found: list[Likelihood] = []
    for start in range(0, len(targets), ROWS):
        targets_B = torch.tensor(targets[start : start + ROWS], device=hidden_ND.device)
        logits_BV = decoder.sharp_logits(hidden_ND[start : start + ROWS], targets_B)
        logprobs_BV = logits_BV.log_softmax(-1)
        chosen = logprobs_BV.gather(1, targets_B[:, None])[:, 0].tolist()
        best = logprobs_BV.topk(min(top, logprobs_BV.shape[1]), dim=-1)
        for logprob, tokens, values in zip(chosen, best.indices.tolist(), best.values.tolist(), strict=True):
            if not logprob > float("-inf"):
                raise Refusal("the model's logits are not finite: its weights are damaged or its training ran away")
            found.append(Likelihood(logprob, tuple(zip(tokens, values, strict=True))))
    return found
