"""From scores of whole answers to one advantage a token: pure functions of tensors, fp32.

Axes and masks as in ``losses``: B answers, T positions, slot t stands for the token drawn after
t, and only slots where the mask is True are looked at. V_t is the value of the text up to and
including position t, so it has seen nothing of the token that slot t stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from palmier.train.losses import valid


@dataclass(frozen=True)
class ScoreScale:
    """Mean and deviation of the scores that the starting policy earns: what 0 and 1 mean."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, scores_B: Tensor) -> ScoreScale:
        """Of the given scores; the deviation is 1 where they do not differ."""
        deviation = float(scores_B.std(correction=0)) if len(scores_B) else 0.0
        return cls(float(scores_B.mean()) if len(scores_B) else 0.0, deviation if deviation > 1e-6 else 1.0)

    def apply(self, scores_B: Tensor, clip: float) -> Tensor:
        """(score − mean) / deviation, held within ± ``clip``."""
        return ((scores_B - self.mean) / self.deviation).clamp(-clip, clip)


def token_rewards(scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, kl_weight: float) -> Tensor:
    """−β·KL_t at every valid token, plus the answer's score at its last valid token (Stiennon et al. 2020)."""
    last_BT = mask_BT & (mask_BT.int().flip(1).cumsum(1).flip(1) == 1)
    return valid(-kl_weight * kl_BT, mask_BT) + torch.where(last_BT, scores_B[:, None], 0.0)


def generalised_advantages(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """GAE: A_t = δ_t + γλ A_t', δ_t = r_t + γ V_t' − V_t, with t' the next valid slot (Schulman et al. 2016).

    The value after the last valid slot is 0. Masked slots in between (a prompt's later turn) are
    stepped over: they change no advantage. Returns (advantages_BT, returns_BT = A + V), 0 where masked.
    """
    rewards_BT, values_BT = valid(rewards_BT, mask_BT), valid(values_BT, mask_BT)
    advantages_BT = torch.zeros_like(rewards_BT)
    next_value_B = torch.zeros_like(rewards_BT[:, 0])
    next_advantage_B = torch.zeros_like(next_value_B)
    for t in reversed(range(rewards_BT.shape[1])):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        advantage_B = delta_B + gamma * lam * next_advantage_B
        here_B = mask_BT[:, t]
        next_advantage_B = torch.where(here_B, advantage_B, next_advantage_B)
        next_value_B = torch.where(here_B, values_BT[:, t], next_value_B)
        advantages_BT[:, t] = torch.where(here_B, advantage_B, 0.0)
    return advantages_BT, valid(advantages_BT + values_BT, mask_BT)


def whiten(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the valid slots of the whole batch; all 0 where they do not differ."""
    picked_N = values_BT[mask_BT]
    if picked_N.numel() == 0:
        return torch.zeros_like(values_BT)
    mean = picked_N.mean()
    deviation = (picked_N - mean).square().mean().sqrt()
    return valid((values_BT - mean) / (deviation + 1e-8), mask_BT)


def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> float:
    """1 − Var(R − V) / Var(R) over the valid slots: 1 is a perfect critic, 0 one that knows only the mean."""
    returns_N, values_N = returns_BT[mask_BT], values_BT[mask_BT]
    if returns_N.numel() < 2:
        return 0.0
    spread = float(returns_N.var(correction=0))
    return 1.0 - float((returns_N - values_N).var(correction=0)) / max(spread, 1e-8)
