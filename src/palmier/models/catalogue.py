"""What can be had: small models that the decoder reads and whose chat is ChatML, by short names, with size and licence.

The shapes are those of the published config.json; a test counts the parameters with transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from palmier.errors import Refusal
from palmier.model.config import ModelConfig


@dataclass(frozen=True)
class Entry:
    """One model: its short name, its repository on the hub, and what a person asks before having it.

    ``shape`` is the part of config.json that decides whether the decoder reads it.
    """

    name: str
    repository: str
    parameters: int
    licence: str
    shape: Mapping[str, Any] = field(repr=False)
    embedded: str = ""
    """Its folder's name in the home, where it comes out of a Python package and needs no network."""

    @property
    def folder(self) -> str:
        """Its name in the home's ``models``."""
        return self.embedded or self.name

    @property
    def memory(self) -> int:
        """Bytes of the weights in bf16."""
        return 2 * self.parameters

    @property
    def note(self) -> str:
        """What stands between a person and the model; "" where nothing does."""
        try:
            ModelConfig.from_hf(self.shape)
        except Refusal:
            return f"not read by this version ({self.shape['model_type']})"
        if self.embedded:
            return "embedded, 4-bit: needs no network"
        return ""


def _shape(kind: str, hidden: int, layers: int, heads: int, kv_heads: int, wide: int, vocab: int, **more: Any) -> Any:
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": wide,
        "vocab_size": vocab,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    } | more


_SMOL_135M = _shape("llama", 576, 30, 9, 3, 1536, 49152)
CATALOGUE = (
    Entry(
        "smollm2",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        134_515_008,
        "Apache-2.0",
        _SMOL_135M,
        embedded="smollm2-135m-instruct",
    ),
    Entry("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008, "Apache-2.0", _SMOL_135M),
    Entry(
        "smollm2-360m",
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        361_821_120,
        "Apache-2.0",
        _shape("llama", 960, 32, 15, 5, 2560, 49152),
    ),
    Entry(
        "smollm2-1.7b",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        1_711_376_384,
        "Apache-2.0",
        _shape("llama", 2048, 24, 32, 32, 8192, 49152),
    ),
    Entry(
        "qwen2.5-0.5b",
        "Qwen/Qwen2.5-0.5B-Instruct",
        494_032_768,
        "Apache-2.0",
        _shape("qwen2", 896, 24, 14, 2, 4864, 151936),
    ),
    Entry(
        "qwen3-0.6b",
        "Qwen/Qwen3-0.6B",
        596_049_920,
        "Apache-2.0",
        _shape("qwen3", 1024, 28, 16, 8, 3072, 151936, head_dim=128),
    ),
)


def find(name: str) -> Entry | None:
    """The entry of a short name, a folder's name or a repository; capitals do not matter."""
    wanted = name.lower()
    for entry in CATALOGUE:
        if wanted in (entry.name, entry.folder) or (wanted == entry.repository.lower() and not entry.embedded):
            return entry
    return None
