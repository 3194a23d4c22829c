"""What goes into the engine and what comes out of it: token ids and numbers, no text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from palmier.errors import Refusal
from palmier.records import Finish, Sampling


class QueueFull(Refusal):
    """The engine's queue holds as many requests as it may; ask again later (HTTP 429)."""


@dataclass(frozen=True)
class Request:
    """One prompt and how many answers to draw from it.

    ``id`` is the caller's name for it and must be unique among the unfinished requests.
    Sample ``i`` of ``n`` draws as a request of one sample with the seed
    ``sampling.sample_seed(seed, i)`` would. Drawing one of ``stop_ids`` ends a sample; that
    token is part of the answer. Each event tells the ``top_logprobs`` likeliest tokens too.

    ``prompt_logprobs``, where it is not None, asks how likely the prompt's own tokens are, each with so many of
    the likeliest in its place; sample 0 tells it. ``prompt_only`` draws nothing: every sample ends with the prompt.
    """

    id: str
    prompt: tuple[int, ...]
    sampling: Sampling
    stop_ids: tuple[int, ...] = ()
    n: int = 1
    top_logprobs: int = 0
    prompt_logprobs: int | None = None
    prompt_only: bool = False

    def __post_init__(self) -> None:
        if not self.prompt:
            raise Refusal(f"{self.id}: the prompt holds no token")
        if self.n < 1:
            raise Refusal(f"{self.id}: n is {self.n}, ask for at least one answer")
        if self.top_logprobs < 0:
            raise Refusal(f"{self.id}: top_logprobs is {self.top_logprobs}: 0 asks for none")
        if self.prompt_logprobs is not None and self.prompt_logprobs < 0:
            raise Refusal(f"{self.id}: prompt_logprobs is {self.prompt_logprobs}: 0 tells of the prompt's tokens alone")


class Likelihood(NamedTuple):
    """How likely the model finds a token of a prompt after those before it, as natural logarithms at temperature 1.

    ``top`` are (token, log-prob) of the likeliest in its place, the likeliest first.
    """

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One token of sample ``index`` of request ``id``, or the news that it was cancelled.

    ``token`` is None where ``finish`` is "cancelled", and where nothing was to be drawn. ``logprob`` is a natural logarithm
    under the model's distribution at the sampling temperature, before bias, penalties and cuts;
    ``top`` are (token, log-prob) of the likeliest tokens under it, the likeliest first.
    ``finish`` is set on a sample's last event. ``prompt`` comes with the first event of sample 0, where it was asked
    for: the likelihoods of the prompt's tokens from the second on (before the first there is nothing to tell it from).
    """

    id: str
    index: int
    token: int | None
    logprob: float
    finish: Finish | None
    top: tuple[tuple[int, float], ...] = ()
    prompt: tuple[Likelihood, ...] | None = None


@dataclass(frozen=True)
class Completion:
    """One finished sample: its tokens (with the stop token), their log-probs, and why it ended."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
