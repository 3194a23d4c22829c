"""Perplexity of a text, by sliding windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from palmier.errors import Refusal
from palmier.model.decoder import Decoder, token_logprobs
from palmier.model.logprobs import IGNORE

ANSWERS_AT_ONCE = 8


@dataclass(frozen=True)
class Perplexity:
    """``nats`` is the mean −ln p of ``tokens`` tokens."""

    nats: float
    tokens: int

    @property
    def value(self) -> float:
        """exp(nats): as if each token were one of so many equally likely ones."""
        return math.exp(self.nats)


def perplexity(
    decoder: Decoder,
    ids: Sequence[int],
    length: int,
    *,
    stride: int | None = None,
    batch: int = 4,
    progress: Callable[[int], None] | None = None,
) -> Perplexity:
    """How well ``decoder`` predicts ``ids``: every token but the first, each exactly once.

    Windows of ``length`` tokens move on by ``stride`` (half a length where not given); of each
    only what the window before did not reach is scored, so that a token has at least
    ``length - stride`` tokens before it, the first window aside. ``progress`` is told how many
    tokens were scored. Raises Refusal where there is nothing to predict or ``length`` exceeds
    the model's positions.
    """
    stride = stride or max(1, length // 2)
    if not 2 <= length <= decoder.config.max_positions:
        raise Refusal(f"windows of {length} tokens: from 2 to the model's {decoder.config.max_positions} are possible")
    if not 1 <= stride < length:
        raise Refusal(f"a stride of {stride} must be from 1 to below the window's {length} tokens")
    if len(ids) < 2:
        raise Refusal("perplexity needs a text of at least 2 tokens")
    device = decoder.output_weight.device
    windows = _windows(len(ids), length, stride)
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(windows), batch):
            some = windows[start : start + batch]
            width = max(end - begin for begin, _, end in some) - 1
            tokens_BT = torch.zeros(len(some), width, dtype=torch.long, device=device)
            targets_BT = torch.full((len(some), width), IGNORE, device=device)
            for row, (begin, scored, end) in enumerate(some):
                tokens_BT[row, : end - begin - 1] = torch.tensor(ids[begin : end - 1])
                targets_BT[row, scored - begin - 1 : end - begin - 1] = torch.tensor(ids[scored:end])
            found = token_logprobs(decoder, decoder(tokens_BT), targets_BT)
            total -= float(found.logprobs_BT.double().sum())
            if progress is not None:
                progress(sum(end - scored for _, scored, end in some))
    return Perplexity(total / (len(ids) - 1), len(ids) - 1)


def _windows(count: int, length: int, stride: int) -> list[tuple[int, int, int]]:
    """(begin, first scored, end) of each window; the scored parts are 1 … count, each once."""
    windows = []
    begin, scored = 0, 1
    while scored < count:
        end = min(begin + length, count)
        windows.append((begin, scored, end))
        begin, scored = begin + stride, end
    return windows


def answer_loss(decoder: Decoder, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> float:
    """The mean −ln p a token (nats) of ``answers``, each after its prompt, at temperature 1."""
    device = decoder.output_weight.device
    rows = sorted(zip(prompts, answers, strict=True), key=lambda row: len(row[0]) + len(row[1]))
    total, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(rows), ANSWERS_AT_ONCE):
            some = rows[start : start + ANSWERS_AT_ONCE]
            width = max(len(prompt) + len(answer) for prompt, answer in some) - 1
            tokens_BT = torch.zeros(len(some), width, dtype=torch.long, device=device)
            targets_BT = torch.full((len(some), width), IGNORE, device=device)
            for row, (prompt, answer) in enumerate(some):
                ids, first = [*prompt, *answer], len(prompt) - 1
                tokens_BT[row, : len(ids) - 1] = torch.tensor(ids[:-1])
                targets_BT[row, first : len(ids) - 1] = torch.tensor(ids[first + 1 :])
                count += len(answer)
            total -= float(token_logprobs(decoder, decoder(tokens_BT), targets_BT).logprobs_BT.double().sum())
    if not count:
        raise Refusal("the answers hold no token, so there is nothing to predict")
    return total / count
