"""Formulas of the losses: pure functions of tensors, fp32, no model, no state.

Axes: B answers, T token positions, G prompts, K answers of one prompt. Position t stands for
the token drawn after t, so that log-probs, values, advantages and masks line up. Every
function that takes a mask looks at the slots where it is True and at nothing else: whatever
stands in the others, NaN included, changes neither the result nor a gradient.
Sums, not means, so that a batch gives the same gradient however it is cut into micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are held within ± this before they are exponentiated: exp(20) = 4.9e8 is finite in fp32."""


def valid(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` where ``mask``, and a constant 0 elsewhere that lets no gradient through."""
    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))


def cross_entropy(logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the valid tokens of −log p, in nats."""
    return -valid(logprobs_BT, mask_BT).sum()


def z_loss(logsumexp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the valid tokens of (log Z)², which keeps the logits from drifting (PaLM, section 5)."""
    return valid(logsumexp_BT, mask_BT).square().sum()


def kl_k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """log π − log π_ref of tokens drawn from π: unbiased for KL(π‖π_ref), any sign (Schulman's k1).

    This one belongs into the reward: then the policy gradient is the gradient of the KL.
    """
    return logprobs - reference


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """(r − 1) − log r with r = π_ref/π: unbiased, never negative, less noisy (Schulman's k3).

    For looking at and for stopping only: as a loss its gradient is not that of the KL.
    """
    log_ratio = (reference - logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return torch.expm1(log_ratio) - log_ratio


@dataclass(frozen=True)
class PairLoss:
    """Sums over all pairs, each times its weight."""

    loss: Tensor
    right: Tensor
    margin: Tensor


def pairwise(scores_GK: Tensor, weights_GKK: Tensor) -> PairLoss:
    """−Σ w_ij log σ(r_i − r_j) over the pairs of every prompt (InstructGPT, equation 1).

    ``weights_GKK[g, i, j]`` is the weight of "answer i of prompt g stands above answer j", 0 where
    it does not, where the two are tied, or where there is no such answer. InstructGPT's are
    1/(number of the prompt's pairs), so that each prompt counts once whatever its K.
    ``right`` is the weight of the pairs in the right order (equal scores count half), ``margin``
    the weighted sum of r_i − r_j.
    """
    counts_GKK = weights_GKK > 0
    scores_GK = valid(scores_GK, counts_GKK.any(2) | counts_GKK.any(1))
    margin_GKK = scores_GK[:, :, None] - scores_GK[:, None, :]
    right_GKK = (margin_GKK > 0).float() + 0.5 * (margin_GKK == 0).float()
    return PairLoss(
        loss=-(weights_GKK * F.logsigmoid(margin_GKK)).sum(),
        right=(weights_GKK * right_GKK).sum(),
        margin=(weights_GKK * margin_GKK.detach()).sum(),
    )


def implicit_reward(logprobs: Tensor, reference: Tensor, beta: float) -> Tensor:
    """β · (log π(y|x) − log π_ref(y|x)), the reward whose best policy is π (Rafailov et al. 2023, equation 5).

    DPO's sigmoid loss is ``pairwise`` of these rewards.
    """
    return beta * (logprobs - reference)


@dataclass(frozen=True)
class PolicyLoss:
    """``loss`` and the figures beside it are sums over the valid tokens."""

    loss: Tensor
    clipped: Tensor
    moved: Tensor


def clipped_policy(
    logprobs_BT: Tensor, old_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, clip: float
) -> PolicyLoss:
    """−Σ min(ρA, clip(ρ, 1 ± ε)A) with ρ = π/π_old (Schulman et al. 2017, equation 7).

    ``clipped`` counts tokens whose gradient the clip removed; ``moved`` sums the k3 estimate of
    KL(π_old‖π), exactly 0 before the first step.
    """
    log_ratio_BT = valid(logprobs_BT, mask_BT) - valid(old_BT, mask_BT)
    ratio_BT = log_ratio_BT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    advantages_BT = valid(advantages_BT, mask_BT)
    plain_BT = ratio_BT * advantages_BT
    held_BT = ratio_BT.clamp(1 - clip, 1 + clip) * advantages_BT
    moved_BT = kl_k3(valid(old_BT, mask_BT), valid(logprobs_BT, mask_BT)).detach()
    return PolicyLoss(
        loss=-torch.minimum(plain_BT, held_BT).sum(),
        clipped=(held_BT < plain_BT).sum().float(),
        moved=moved_BT.sum(),
    )


def clipped_value(values_BT: Tensor, old_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor, clip: float) -> Tensor:
    """½ Σ max((V − R)², (V_old + clip(V − V_old, ± ε) − R)²) over the valid tokens.

    The clip holds a value near the one that the advantages were computed with.
    """
    values_BT, old_BT = valid(values_BT, mask_BT), valid(old_BT, mask_BT)
    returns_BT = valid(returns_BT, mask_BT)
    held_BT = old_BT + (values_BT - old_BT).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_BT - returns_BT).square(), (held_BT - returns_BT).square()).sum()
