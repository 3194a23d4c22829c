"""Keys and values of the tokens that were seen, in pages: a sequence's pages may lie anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from palmier.errors import Refusal
from palmier.model.attention import quarter_turn, rotary_tables
from palmier.model.config import ModelConfig


class KVCache:
    """``pages`` pages of ``page`` positions each, for every layer (Kwon et al. 2023, PagedAttention).

    ``keys[layer]`` and ``values[layer]`` are (num_kv_heads, positions, head_dim); page i holds the positions
    i · page … (i + 1) · page - 1, so that a sequence whose pages are neighbours is read as a view. One page more
    than asked for, ``nowhere``, takes what a padded batch computes past a row's end. Nothing is ever cleared: what
    a page holds beyond the positions that were written is masked by the reader.
    """

    def __init__(
        self,
        config: ModelConfig,
        pages: int,
        page: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        if pages < 1 or page < 1:
            raise Refusal(f"a cache needs at least one page of one position, not {pages} of {page}")
        if page > config.max_positions:
            raise Refusal(f"a page of {page} positions is longer than the model's {config.max_positions}")
        self.config = config
        self.pages = pages
        self.page = page
        self.nowhere = pages
        self.length = min(config.max_positions, pages * page)
        """The longest sequence that the cache can hold."""
        shape = (config.num_layers, config.num_kv_heads, (pages + 1) * page, config.head_dim)
        # Zeros, not empty memory: a masked NaN would still poison a weighted sum.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.cos, self.sin = rotary_tables(config, torch.arange(self.length, device=device), dtype)
        self.quarter = quarter_turn(config).to(self.keys)

    @property
    def dtype(self) -> torch.dtype:
        return self.keys.dtype

    @property
    def bytes(self) -> int:
        """Memory of all keys and values, in bytes."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Write what pages ``sources`` hold into pages ``targets``; every source is read before any target is written."""
        sources_N, targets_N = (torch.tensor(pages, device=self.keys.device) for pages in (sources, targets))
        for numbers in (self.keys, self.values):
            paged = numbers.view(*numbers.shape[:2], self.pages + 1, self.page, -1)
            paged.index_copy_(2, targets_N, paged.index_select(2, sources_N))


def page_bytes(config: ModelConfig, page: int, itemsize: int) -> int:
    """Memory of one page of ``page`` positions in numbers of ``itemsize`` bytes."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * page * itemsize
