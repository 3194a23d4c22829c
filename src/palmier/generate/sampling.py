"""Drawing the next token of every row of a batch at once.

A draw is a race: every token takes an exponential time with its weight as the rate, and the first one home is drawn
(the exponential form of the Gumbel-max trick, Maddison et al. 2014, arXiv 1411.0030). The times come from hashes of
(seed, sample, position in the answer), so a row's draw depends on nothing but its own distribution and its own seed:
not on its neighbours, nor on how many draws were made before. And where rounding moves the distribution a little, as
bf16's does between one company and another, the draw seldom moves: about as often as the two distributions differ. The
inverse of a running sum would move far more often: each of its borders shifts with everything before it.

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
"""Tokens of a block: they race after their block has won, so that a row takes some hundred numbers, not the vocabulary's."""

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


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """Return ``count`` numbers in (0, 1) for each (seed, position): SplitMix64 as a counter-based generator.

    The stream of a seed starts at the seed's own hash (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators"), so that seeds 0, 1, 2 … share no numbers; the stream of a position within it likewise.
    """
    streams = _mix_array(_mix_array(seeds + np.uint64(_GAMMA)) + (positions + np.uint64(1)) * np.uint64(_GAMMA))
    states = streams[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    # The middle of 2**52 steps: a time is never 0 nor infinite.
    return ((_mix_array(states) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


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
        tokens_B = _race(weights_BV, rows.seeds_B, np.array(positions, dtype=np.uint64))
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


def _race(weights_BV: Tensor, seeds_B: NDArray[np.uint64], positions_B: NDArray[np.uint64]) -> Tensor:
    """Return the winner of each row's race: first among blocks of tokens, then among the tokens of that block."""
    if short := -weights_BV.shape[1] % BLOCK:
        weights_BV = torch.nn.functional.pad(weights_BV, (0, short))
    blocks_BNK = weights_BV.view(len(weights_BV), -1, BLOCK)
    blocks_BN = blocks_BNK.sum(dim=-1, dtype=torch.float64)
    count = blocks_BN.shape[1]
    times_BJ = -np.log(uniforms(seeds_B, positions_B, count + BLOCK))
    block_B = (blocks_BN / torch.from_numpy(times_BJ[:, :count])).argmax(dim=-1)
    inside_BK = blocks_BNK[torch.arange(len(block_B)), block_B]
    return block_B * BLOCK + (inside_BK / torch.from_numpy(times_BJ[:, count:])).argmax(dim=-1)


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
