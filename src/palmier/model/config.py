"""The shape of a network, and its config.json in Hugging Face's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palmier.errors import Refusal
from palmier.model.rope import RopeScaling

Family = Literal["palm", "llama", "qwen2", "qwen3"]

_MODEL_TYPES: dict[str, Family] = {"cohere": "palm", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_CLASSES = {
    "palm": "CohereForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_NEVER = {
    "attention_bias": False,
    "mlp_bias": False,
    "use_qk_norm": False,
    "use_sliding_window": False,
    "quantization_config": None,
}
"""What a config.json may ask for and the Decoder has not; the value is the one that asks for nothing."""


@dataclass(frozen=True)
class ModelConfig:
    """A decoder's shape.

    ``palm``: parallel block, bias-free LayerNorm, interleaved rotary pairs (Chowdhery et al. 2022).
    ``llama``: sequential block, RMSNorm, rotary pairs (i, i + head_dim / 2). ``qwen2`` is a Llama with biases
    on queries, keys and values; ``qwen3`` one with an RMSNorm over every head's query and key.
    All have SwiGLU and ``num_kv_heads`` key/value heads, each shared by
    ``num_heads / num_kv_heads`` query heads.
    """

    family: Family
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_positions: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    logit_scale: float = 1.0
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        if self.family not in _CLASSES:
            raise Refusal(f"model family {self.family!r} is unknown: known are {', '.join(_CLASSES)}")
        sizes = ("vocab_size", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "intermediate_size")
        for name in (*sizes, "num_layers", "max_positions"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise Refusal(f"{name} must be a whole number from 1, not {value!r}")
        for name in ("bos_id", "eos_id"):  # a padding id is never read, and often lies outside
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocab_size:
                raise Refusal(f"{name} {token} is outside the vocabulary of {self.vocab_size}")
        if self.num_heads % self.num_kv_heads:
            raise Refusal(f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_dim % 2:
            raise Refusal(f"head_dim {self.head_dim} must be even: rotary positions turn pairs")

    @property
    def qkv_bias(self) -> bool:
        """Whether the projections to queries, keys and values have biases."""
        return self.family == "qwen2"

    @property
    def qk_norm(self) -> bool:
        """Whether every head's query and key is normed before it is turned."""
        return self.family == "qwen3"

    @classmethod
    def palm(
        cls,
        vocab_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        *,
        num_kv_heads: int = 1,
        head_dim: int | None = None,
        intermediate_size: int | None = None,
        max_positions: int = 2048,
        eos_id: int | None = None,
    ) -> ModelConfig:
        """PaLM as published: multi-query attention, feed-forward 4·d, tied, logits scaled by d**-0.5."""
        if head_dim is None and hidden_size % num_heads:
            raise Refusal(f"hidden_size {hidden_size} is no multiple of num_heads {num_heads}: give head_dim too")
        return cls(
            family="palm",
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim or hidden_size // num_heads,
            intermediate_size=intermediate_size or 4 * hidden_size,
            max_positions=max_positions,
            logit_scale=hidden_size**-0.5,
            eos_id=eos_id,
        )

    @classmethod
    def from_hf(cls, value: Mapping[str, Any]) -> ModelConfig:
        """Read the content of a config.json; raises Refusal where the Decoder could not honour it."""
        kind = value.get("model_type")
        if not isinstance(kind, str) or kind not in _MODEL_TYPES:
            known = ", ".join(sorted(_MODEL_TYPES))
            raise Refusal(f"model_type {kind!r} is unknown: Palmier reads {known} (cohere is how PaLM is written)")
        _refuse_what_we_lack(value)
        family = _MODEL_TYPES[kind]
        heads = _number(value, "num_attention_heads")
        hidden = _number(value, "hidden_size")
        eps = _real(value, "layer_norm_eps", 1e-5) if family == "palm" else _real(value, "rms_norm_eps", 1e-6)
        return cls(
            family=family,
            vocab_size=_number(value, "vocab_size"),
            hidden_size=hidden,
            num_layers=_number(value, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=value.get("num_key_value_heads") or heads,
            head_dim=value.get("head_dim") or (128 if family == "qwen3" else hidden // heads),
            intermediate_size=_number(value, "intermediate_size"),
            max_positions=_number(value, "max_position_embeddings"),
            rope_theta=_rope_theta(value, family),
            norm_eps=eps,
            tie_embeddings=bool(value.get("tie_word_embeddings", family == "palm")),
            logit_scale=_real(value, "logit_scale", 0.0625) if family == "palm" else 1.0,
            bos_id=_token_id(value, "bos_token_id"),
            eos_id=_token_id(value, "eos_token_id"),
            pad_id=_token_id(value, "pad_token_id"),
            rope_scaling=RopeScaling.from_hf(value),
        )

    def to_hf(self) -> dict[str, Any]:
        """The content of config.json for CohereForCausalLM (palm), LlamaForCausalLM or Qwen's."""
        scaling = {"rope_type": "default"} if self.rope_scaling is None else self.rope_scaling.to_hf()
        value: dict[str, Any] = {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_positions,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "tie_word_embeddings": self.tie_embeddings,
            # Readers before transformers 5 look for rope_theta at the top.
            "rope_theta": self.rope_theta,
            "rope_parameters": scaling | {"rope_theta": self.rope_theta},
            "bos_token_id": self.bos_id,
            "eos_token_id": self.eos_id,
            "pad_token_id": self.pad_id,
        }
        if self.rope_scaling is not None:
            value["rope_scaling"] = scaling  # for the same older readers
        mine: dict[str, Any] = {"rms_norm_eps": self.norm_eps}
        if self.family == "palm":
            mine = {"logit_scale": self.logit_scale, "layer_norm_eps": self.norm_eps, "use_qk_norm": False}
        elif self.family == "llama":
            mine |= {"mlp_bias": False}
        if self.family != "qwen2":  # whose biases are part of the class
            mine |= {"attention_bias": False}
        kind = next(name for name, family in _MODEL_TYPES.items() if family == self.family)
        return {"architectures": [_CLASSES[self.family]], "model_type": kind} | value | mine


def _refuse_what_we_lack(value: Mapping[str, Any]) -> None:
    for name, harmless in _NEVER.items():
        if value.get(name, harmless) not in (harmless, None):
            raise Refusal(f"config.json asks for {name}={value[name]!r}, which Palmier's decoder does not have")
    if value.get("hidden_act", "silu") not in ("silu", "swish"):
        raise Refusal(f"config.json asks for hidden_act={value['hidden_act']!r}: Palmier's decoder has silu alone")
    kinds = value.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise Refusal(f"config.json asks for layer_types={kinds!r}: Palmier's decoder has full attention alone")


def _rope_theta(value: Mapping[str, Any], family: Family) -> float:
    rope = value.get("rope_parameters") or {}
    return _real(rope if "rope_theta" in rope else value, "rope_theta", 500000.0 if family == "palm" else 10000.0)


def _real(value: Mapping[str, Any], name: str, default: float) -> float:
    """A number; ``default`` is what transformers takes where the key is absent."""
    number = value.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not number > 0:
        raise Refusal(f"config.json's {name} must be a number above 0, not {number!r}")
    return float(number)


def _number(value: Mapping[str, Any], name: str) -> int:
    number = value.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise Refusal(f"config.json must have a whole number from 1 for {name}, not {number!r}")
    return number


def _token_id(value: Mapping[str, Any], name: str) -> int | None:
    """A token id; of several ends the first, the others are the chat template's business."""
    token = value.get(name)
    if isinstance(token, list):
        token = token[0] if token else None
    if token is not None and not isinstance(token, int):
        raise Refusal(f"config.json's {name} is no token id, but {token!r}")
    # transformers writes -1 where a model has none.
    return None if token is None or token < 0 else token
