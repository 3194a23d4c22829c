"""Keys and values of the tokens that were seen: one row of positions a slot."""

from __future__ import annotations

import torch

from palmier.errors import Refusal
from palmier.model.attention import quarter_turn, rotary_tables
from palmier.model.config import ModelConfig


class KVCache:
    """Keys and values of ``slots`` sequences of up to ``length`` positions, for every layer.

    ``keys[layer]`` and ``values[layer]`` are (slots, num_kv_heads, length, head_dim). Nothing is
    ever cleared: what a slot holds beyond the positions that were written is masked by the reader.
    """

    def __init__(
        self,
        config: ModelConfig,
        slots: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        if slots < 1 or length < 1:
            raise Refusal(f"a cache needs at least one slot and one position, not {slots} and {length}")
        if length > config.max_positions:
            raise Refusal(f"a cache of {length} positions is longer than the model's {config.max_positions}")
        self.config = config
        self.slots = slots
        self.length = length
        shape = (config.num_layers, slots, config.num_kv_heads, length, config.head_dim)
        # Zeros, not empty memory: a masked NaN would still poison a weighted sum.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        positions = torch.arange(length, device=device)
        self.cos, self.sin = rotary_tables(config, positions, dtype)
        self.quarter = quarter_turn(config).to(self.keys)

    @property
    def dtype(self) -> torch.dtype:
        return self.keys.dtype

    @property
    def bytes(self) -> int:
        """Memory of all keys and values, in bytes."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def copy(self, source: int, targets: list[int], length: int) -> None:
        """Let slots ``targets`` hold the first ``length`` positions of slot ``source`` too."""
        others = [slot for slot in targets if slot != source]
        if others and length:
            for stored in (self.keys, self.values):
                stored[:, others, :, :length] = stored[:, source : source + 1, :, :length]
