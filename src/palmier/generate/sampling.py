"""Drawing the next token of every row of a batch at once.

A draw is the inverse of the cumulative distribution at one uniform number, and that number is
a hash of (seed, sample, position in the answer). So a row's draw depends on nothing but its own
distribution and its own seed: not on its neighbours, nor on how many draws were made before.

Order, as everywhere in the field: logit_bias → penalties → temperature → top-k → top-p → min-p.

- ``logit_bias`` is added to the logits of the tokens that it names.
- ``repetition_penalty`` r (Keskar et al. 2019, CTRL, arXiv 1909.05858, with transformers' sign rule): the logit of
  a token that stands in prompt or answer is divided by r where it is positive and multiplied by r where not.
- ``presence_penalty`` a and ``frequency_penalty`` b (OpenAI's API): the logit of a token that stands c times in the
  answer is lowered by a + b · c where c > 0.
- top-k keeps the k largest; top-p (nucleus, Holtzman et al. 2020, arXiv 1904.09751) the fewest largest that hold p
  of what top-k has left; min-p (Nguyen et al. 2024, arXiv 2407.01082) those of at least min-p times the largest.

Tokens that tie with the last one kept are kept too, so a cut never depends on the order in which a sort leaves equal
logits. The log-probs that are told are the model's own at the temperature, before bias, penalties and cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palmier.errors import Refusal
from palmier.generate.penalties import Penalties, Text
from palmier.records import Sampling

BLOCK = 128
"""Tokens of a block in `_invert`."""

_SHORT = 4096
"""Tokens of a vocabulary that `_invert` sums up as a whole. Never the batch's size: a draw depends on its own row alone."""

_WORD = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def sample_seed(seed: int, index: int) -> int:
    """Return the seed that reproduces sample ``index`` of a request alone; sample 0's is ``seed``.

    Below 2**53, so that it survives JSON in a browser.
    """
    if index == 0:
        return seed
    return _mix_number(_mix_number(seed) + index * _GAMMA) >> 11


def prompt_seed(seed: int, index: int) -> int:
    """Return the seed of prompt ``index`` of many that share one ``seed``; unrelated to any `sample_seed` of it."""
    return _mix_number(_mix_number(~seed) + (index + 1) * _GAMMA) >> 11


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return one number in [0, 1) for each (seed, position): SplitMix64 as a counter-based generator.

    The stream of a seed starts at the seed's own hash (Steele, Lea and Flood 2014, "Fast
    splittable pseudorandom number generators"), so that seeds 0, 1, 2 … share no numbers.
    """
    state = _mix_array(seeds + np.uint64(_GAMMA)) + (positions + np.uint64(1)) * np.uint64(_GAMMA)
    # 52 bits: the product with a total stays below the total, so the draw always finds a token.
    return (_mix_array(state) >> np.uint64(12)).astype(np.float64) * 2.0**-52


class Rows:
    """The sampling settings of a batch's rows as arrays; built again only when the rows change."""

    def __init__(
        self,
        samplings: Sequence[Sampling],
        seeds: Sequence[int],
        texts: Sequence[Text] | None = None,
        tops: Sequence[int] | None = None,
    ) -> None:
        """``seeds[row]`` is the row's own seed (see `sample_seed`); any integer will do.

        ``texts`` are what penalties count (none so far where not given; `sample` adds what it draws), ``tops`` how
        many of the likeliest tokens each row wants to hear of.
        """
        self.seeds_B = np.array([seed & _WORD for seed in seeds], dtype=np.uint64)
        temperature_B = torch.tensor([s.temperature for s in samplings], dtype=torch.float32)
        self.greedy_B = temperature_B == 0
        self.all_greedy = bool(self.greedy_B.all())
        self.any_greedy = bool(self.greedy_B.any())
        # A greedy token's log-prob is the one at temperature 1.
        self.temperature_B = torch.where(self.greedy_B, 1.0, temperature_B)
        self.plain = bool((self.temperature_B == 1).all())
        cut = [i for i, s in enumerate(samplings) if s.temperature > 0 and (s.top_k > 0 or s.top_p < 1 or s.min_p > 0)]
        self.cut_C = torch.tensor(cut, dtype=torch.long)
        if cut:
            self.top_k_C = torch.tensor([samplings[i].top_k for i in cut], dtype=torch.long)
            self.top_p_C = torch.tensor([samplings[i].top_p for i in cut], dtype=torch.float64)
            self.min_p_C = torch.tensor([samplings[i].min_p for i in cut], dtype=torch.float32)
        self.penalties = Penalties(samplings, [((), ())] * len(samplings) if texts is None else texts)
        self.tops = [0] * len(samplings) if tops is None else list(tops)


class Drawn(NamedTuple):
    """One token a row: ids (int64), natural log-probs (fp32), and each row's likeliest (token, log-prob)."""

    tokens_B: Tensor
    logprobs_B: Tensor
    top: list[tuple[tuple[int, float], ...]]


def sample(logits_BV: Tensor, rows: Rows, positions: Sequence[int]) -> Drawn:
    """Draw one token a row.

    ``logits_BV`` is fp32; ``positions[row]`` is the index of the token within its answer.
    The log-prob is that of the model's distribution at the row's temperature (for a greedy row,
    at temperature 1). Raises Refusal where a row's logits are not finite.
    """
    peak_B = logits_BV.amax(dim=-1)
    scaled_BV = logits_BV - peak_B[:, None]
    if not rows.plain:
        scaled_BV /= rows.temperature_B[:, None]
    weights_BV = scaled_BV.exp()
    logsumexp_B = weights_BV.sum(dim=-1).log()
    if not bool(torch.isfinite(logsumexp_B).all()):
        raise Refusal("the model's logits are not finite: its weights are damaged or its training ran away")
    best_B = logits_BV.argmax(dim=-1) if rows.any_greedy else torch.zeros(len(logits_BV), dtype=torch.long)
    penalised_C = rows.penalties.rows_C
    if len(rows.penalties):
        logits_CV = rows.penalties.apply(logits_BV[penalised_C])
        peak_C, best_B[penalised_C] = logits_CV.max(dim=-1)
        weights_BV[penalised_C] = ((logits_CV - peak_C[:, None]) / rows.temperature_B[penalised_C, None]).exp()
    if rows.all_greedy:
        tokens_B = best_B
    else:
        _cut(weights_BV, rows)
        tokens_B = _invert(weights_BV, uniforms(rows.seeds_B, np.array(positions, dtype=np.uint64)))
        if rows.any_greedy:
            tokens_B = torch.where(rows.greedy_B, best_B, tokens_B)
    if len(rows.penalties):
        rows.penalties.note(tokens_B[penalised_C])
    logprobs_B = scaled_BV.gather(1, tokens_B[:, None])[:, 0] - logsumexp_B
    return Drawn(tokens_B, logprobs_B, _top(scaled_BV, logsumexp_B, rows.tops))


def _top(scaled_BV: Tensor, logsumexp_B: Tensor, tops: Sequence[int]) -> list[tuple[tuple[int, float], ...]]:
    """The likeliest tokens of each row that wants to hear of them with their log-probs, the likeliest first."""
    found: list[tuple[tuple[int, float], ...]] = [()] * len(tops)
    for row, count in enumerate(tops):
        if count:
            values, tokens = scaled_BV[row].topk(min(count, scaled_BV.shape[1]))
            values = values - logsumexp_B[row]
            found[row] = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
    return found


def _invert(weights_BV: Tensor, uniforms_B: NDArray[np.float64]) -> Tensor:
    """Return the first index whose cumulative weight exceeds the row's uniform share of the total."""
    if weights_BV.shape[1] <= _SHORT:
        cumulative_BV = weights_BV.cumsum(dim=-1, dtype=torch.float64)
        target_B1 = torch.from_numpy(uniforms_B)[:, None] * cumulative_BV[:, -1:]
        return torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]
    # In two steps, the block of tokens and the token within it: a running sum over a long vocabulary is slow.
    whole = weights_BV.shape[1] // BLOCK * BLOCK
    blocks_BN = weights_BV[:, :whole].reshape(len(weights_BV), -1, BLOCK).sum(dim=-1, dtype=torch.float64)
    rest_B1 = weights_BV[:, whole:].sum(dim=-1, keepdim=True, dtype=torch.float64)
    cumulative_BN = torch.cat((blocks_BN, rest_B1), dim=1).cumsum(dim=-1)
    target_B1 = torch.from_numpy(uniforms_B)[:, None] * cumulative_BN[:, -1:]
    block_B1 = torch.searchsorted(cumulative_BN, target_B1, right=True)
    before_B1 = torch.where(block_B1 > 0, cumulative_BN.gather(1, (block_B1 - 1).clamp(min=0)), 0.0)
    tokens_BK = block_B1 * BLOCK + torch.arange(BLOCK)
    inside_BK = tokens_BK < weights_BV.shape[1]
    weights_BK = weights_BV.gather(1, tokens_BK.clamp(max=weights_BV.shape[1] - 1)).where(inside_BK, 0.0)
    within_BK = before_B1 + weights_BK.cumsum(dim=-1, dtype=torch.float64)
    drawn_B = torch.searchsorted(within_BK, target_B1, right=True)[:, 0]
    # The two sums round apart: a target at the block's very end is its last token that has any weight.
    last_B = (BLOCK - 1) - (weights_BK > 0).flip(1).byte().argmax(1)
    return block_B1[:, 0] * BLOCK + torch.minimum(drawn_B, last_B)


def _cut(weights_BV: Tensor, rows: Rows) -> None:
    """Set the weights that top-k, top-p and min-p cut to zero, in place."""
    if not len(rows.cut_C):
        return
    cut_all = len(rows.cut_C) == len(weights_BV)
    weights_CV = weights_BV if cut_all else weights_BV[rows.cut_C]
    floor_C = _top_k_floor(weights_CV, rows.top_k_C)
    floor_C = torch.maximum(floor_C, _top_p_floor(weights_CV, floor_C, rows.top_p_C))
    # The largest weight of a row is exp(0) = 1.
    floor_C = torch.maximum(floor_C, rows.min_p_C)
    kept_CV = torch.where(weights_CV >= floor_C[:, None], weights_CV, 0.0)
    if cut_all:
        weights_BV.copy_(kept_CV)
    else:
        weights_BV[rows.cut_C] = kept_CV


def _top_k_floor(weights_CV: Tensor, top_k_C: Tensor) -> Tensor:
    """Return the k-th largest weight of each row; 0 where top-k is off."""
    widest = min(int(top_k_C.max()), weights_CV.shape[1])
    if widest == 0:
        return torch.zeros(len(weights_CV))
    largest_CK = weights_CV.topk(widest, dim=-1).values
    floor_C = largest_CK.gather(1, (top_k_C - 1).clamp(0, widest - 1)[:, None])[:, 0]
    return torch.where(top_k_C > 0, floor_C, 0.0)


def _top_p_floor(weights_CV: Tensor, floor_C: Tensor, top_p_C: Tensor) -> Tensor:
    """Return the smallest weight of the nucleus: the fewest largest tokens that hold ``top_p`` of the mass.

    The mass is what top-k has left (weights ≥ ``floor_C``). Only tokens that could belong to the
    nucleus are sorted: all those lighter than (1 - top_p) · mass / vocabulary weigh less than
    1 - top_p together, so the nucleus is full without them.
    """
    floors_C = torch.zeros_like(floor_C)
    mass_C = torch.where(weights_CV >= floor_C[:, None], weights_CV, 0.0).sum(dim=-1, dtype=torch.float64)
    # Half of the bound, so that rounding cannot cost the nucleus a token.
    bound_C = ((1 - top_p_C) * mass_C / (2 * weights_CV.shape[1])).float()
    wanted_C = top_p_C * mass_C
    for row in (top_p_C < 1).nonzero()[:, 0].tolist():
        weights_V = weights_CV[row]
        sorted_K = weights_V[weights_V >= torch.maximum(bound_C[row], floor_C[row])].sort(descending=True).values
        last = int(torch.searchsorted(sorted_K.cumsum(0, dtype=torch.float64), wanted_C[row]))
        floors_C[row] = sorted_K[min(last, len(sorted_K) - 1)]
    return floors_C


def _mix_number(number: int) -> int:
    """SplitMix64's finaliser for one Python integer (taken modulo 2**64)."""
    number = (number + _GAMMA) & _WORD
    number = ((number ^ (number >> 30)) * _MIX[0]) & _WORD
    number = ((number ^ (number >> 27)) * _MIX[1]) & _WORD
    return number ^ (number >> 31)


def _mix_array(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser for an array; products wrap modulo 2**64."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(_MIX[0])
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(_MIX[1])
    return numbers ^ (numbers >> np.uint64(31))
