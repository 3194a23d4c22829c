"""Scaled rotary positions: what lets a model read further than it was first trained to.

Only the frequencies change, and never with the length of a text, so a cache stays valid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palmier.errors import Refusal

Kind = Literal["linear", "llama3"]


@dataclass(frozen=True)
class RopeScaling:
    """How much slower each rotary pair turns.

    ``linear`` (Chen et al. 2023): every pair by ``factor``. ``llama3`` (Llama 3.1): pairs whose wave is
    longer than ``original_positions / low_freq_factor`` by ``factor``, those whose wave is shorter than
    ``original_positions / high_freq_factor`` not at all, and in between a blend of the two frequencies.
    """

    kind: Kind
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_positions: int = 8192

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise Refusal(f"the rope scaling's factor must be a number from 1, not {self.factor!r}")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise Refusal(
                f"the rope scaling's low_freq_factor {self.low_freq_factor!r} must lie between 0 and its "
                f"high_freq_factor {self.high_freq_factor!r}"
            )

    @classmethod
    def from_hf(cls, value: Mapping[str, Any]) -> RopeScaling | None:
        """What a config.json's ``rope_parameters`` (or ``rope_scaling``, its older name) asks for, None for nothing.

        Raises Refusal for the kinds that the Decoder has not, such as dynamic and yarn.
        """
        found = None
        for name in ("rope_parameters", "rope_scaling"):
            rope = value.get(name) or {}
            if not isinstance(rope, Mapping):
                raise Refusal(f"config.json's {name} is no object, but {rope!r}")
            kind = rope.get("rope_type", rope.get("type", "default"))
            if kind == "default":
                continue
            if kind not in ("linear", "llama3"):
                raise Refusal(f"config.json asks for {name} of type {kind!r}: Palmier's decoder has linear and llama3")
            factor = _number(rope, name, "factor")
            if kind == "linear":
                found = cls("linear", factor)
            else:
                low, high = _number(rope, name, "low_freq_factor"), _number(rope, name, "high_freq_factor")
                # Where it is left out, transformers takes the length that the model has now.
                key = "original_max_position_embeddings"
                original = rope if key in rope else {key: value.get("max_position_embeddings")}
                found = cls("llama3", factor, low, high, int(_number(original, name, key)))
        return found

    def to_hf(self) -> dict[str, Any]:
        """The part of ``rope_parameters`` that says it."""
        if self.kind == "linear":
            return {"rope_type": "linear", "factor": self.factor}
        return {
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "original_max_position_embeddings": self.original_positions,
        }


def divisors(scaling: RopeScaling | None, head_dim: int, theta: float) -> list[float]:
    """By what each of the head_dim / 2 frequencies theta^(-2i / head_dim) is divided; all 1 without scaling."""
    if scaling is None:
        return [1.0] * (head_dim // 2)
    if scaling.kind == "linear":
        return [scaling.factor] * (head_dim // 2)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    found = []
    for i in range(head_dim // 2):
        wave = 2 * math.pi * theta ** (2 * i / head_dim)
        share = (scaling.original_positions / wave - low) / (high - low)  # of the frequency that stays as it was
        share = min(1.0, max(0.0, share))
        found.append(1.0 / (share + (1.0 - share) / scaling.factor))
    return found


def _number(rope: Mapping[str, Any], name: str, key: str) -> float:
    number = rope.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        raise Refusal(f"config.json's {name} must have a number above 0 for {key}, not {number!r}")
    return float(number)
