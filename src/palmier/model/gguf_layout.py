"""What GGUF calls things: each family's architecture, tensors, row order and metadata, both ways.

The names are llama.cpp's (gguf-py/gguf/constants.py). A PaLM is its ``command-r``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from palmier.errors import Refusal
from palmier.model.config import Family, ModelConfig
from palmier.model.rope import RopeScaling, divisors

ARCHITECTURES: dict[str, Family] = {"command-r": "palm", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BACK = {name: short for short, name in _NAMES.items()}

ROPE_FACTORS = "rope_freqs.weight"
"""By what each rotary frequency is divided: how a Llama 3.1's scaled positions are stored."""


def hf_name(name: str) -> str | None:
    """``blk.0.attn_q.weight`` → ``model.layers.0.self_attn.q_proj.weight``; None for a tensor that no family has."""
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if match is None or match[2] not in _NAMES:
        return None
    layer = "" if match[1] is None else f"model.layers.{match[1]}."
    return f"{layer}{_NAMES[match[2]]}.{match[3]}"


def gguf_name(name: str) -> str:
    """The way back; raises KeyError for a name that the Decoder has not."""
    match = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)", name)
    if match is None:
        raise KeyError(name)
    layer = "" if match[1] is None else f"blk.{match[1]}."
    return f"{layer}{_BACK[match[2]]}.{match[3]}"


def rows_to_gguf(weights: np.ndarray[Any, Any], name: str, config: ModelConfig) -> np.ndarray[Any, Any]:
    """A tensor's rows as llama.cpp wants them.

    Its Llama pairs neighbours in its rotary positions, Hugging Face's the two halves of a head: row
    j · head_dim / 2 + i of a head here is its row 2i + j. PaLM and Qwen have one order in both.
    """
    heads = _turned_heads(name, config)
    if not heads:
        return weights
    split = weights.reshape(heads, 2, config.head_dim // 2, -1)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(weights.shape))


def rows_from_gguf(weights: np.ndarray[Any, Any], name: str, config: ModelConfig) -> np.ndarray[Any, Any]:
    """The way back, to Hugging Face's order; ``name`` is Hugging Face's in both."""
    heads = _turned_heads(name, config)
    if not heads:
        return weights
    split = weights.reshape(heads, config.head_dim // 2, 2, -1)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(weights.shape))


def _turned_heads(name: str, config: ModelConfig) -> int:
    if config.family != "llama":
        return 0
    heads = {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}
    return heads.get(name.split(".")[-2], 0)


def metadata(config: ModelConfig) -> dict[str, int | float | str]:
    """What a file says of the model's shape, without the architecture's prefix.

    Raises Refusal for a shape that llama.cpp has not.
    """
    _refuse_what_llama_cpp_lacks(config)
    eps = "layer_norm_epsilon" if config.family == "palm" else "layer_norm_rms_epsilon"
    values: dict[str, int | float | str] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_positions,
        "embedding_length": config.hidden_size,
        "block_count": config.num_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        f"attention.{eps}": config.norm_eps,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": config.rope_theta,
    }
    if config.family == "palm":
        values |= {"logit_scale": config.logit_scale, "rope.scaling.type": "none"}
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "linear":
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": scaling.factor}
    elif scaling is not None:
        # The factors are a tensor; this is for the way back, llama.cpp reads it for yarn alone.
        values |= {"rope.scaling.original_context_length": scaling.original_positions}
    return values


def config_from(values: Mapping[str, Any], rows: int, tied: bool, factors: np.ndarray[Any, Any] | None) -> ModelConfig:
    """The shape that a file's metadata describe; ``rows`` are those of its embedding, ``factors`` ROPE_FACTORS.

    Raises Refusal for what the Decoder has not, KeyError for metadata that are missing.
    """
    kind = values["general.architecture"]
    if kind not in ARCHITECTURES:
        raise Refusal(f"architecture {kind!r} is unknown: Palmier reads {', '.join(ARCHITECTURES)}")
    family = ARCHITECTURES[kind]
    own = {key.removeprefix(f"{kind}."): value for key, value in values.items() if key.startswith(f"{kind}.")}
    heads, hidden, positions = own["attention.head_count"], own["embedding_length"], own["context_length"]
    for key in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        if isinstance(own.get(key), list):
            raise Refusal(f"{kind}.{key} differs by layer, which Palmier's decoder has not")
    head_dim = own.get("attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if own.get(key, head_dim) != head_dim:
            raise Refusal(
                f"{kind}.{key} is {own[key]} and the heads are {head_dim} wide: Palmier's decoder has one width"
            )
    if own.get("attention.sliding_window", positions) < positions:
        raise Refusal(
            f"attention slides over {own['attention.sliding_window']} tokens, which Palmier's decoder has not"
        )
    theta = own.get("rope.freq_base", 10000.0)
    eps = "layer_norm_epsilon" if family == "palm" else "layer_norm_rms_epsilon"
    return ModelConfig(
        family=family,
        vocab_size=rows,
        hidden_size=hidden,
        num_layers=own["block_count"],
        num_heads=heads,
        num_kv_heads=own.get("attention.head_count_kv", heads),
        head_dim=head_dim,
        intermediate_size=own["feed_forward_length"],
        max_positions=positions,
        rope_theta=theta,
        norm_eps=_as_written(own[f"attention.{eps}"]),
        tie_embeddings=tied,
        logit_scale=_as_written(own.get("logit_scale", 1.0), hidden**-0.5) if family == "palm" else 1.0,
        bos_id=values.get("tokenizer.ggml.bos_token_id"),
        eos_id=values.get("tokenizer.ggml.eos_token_id"),
        pad_id=values.get("tokenizer.ggml.padding_token_id"),
        rope_scaling=_rope_scaling(own, head_dim, theta, factors),
    )


def rope_factors(config: ModelConfig) -> np.ndarray[Any, Any] | None:
    """The tensor ROPE_FACTORS of a Llama whose positions are scaled the llama3 way, else None."""
    if config.rope_scaling is None or config.rope_scaling.kind != "llama3":
        return None
    return np.array(divisors(config.rope_scaling, config.head_dim, config.rope_theta), np.float32)


def _refuse_what_llama_cpp_lacks(config: ModelConfig) -> None:
    if config.family == "palm" and not config.tie_embeddings:
        raise Refusal("llama.cpp's command-r has one embedding for input and output: an untied PaLM has no GGUF")
    if config.family == "palm" and config.num_layers >= 64:
        raise Refusal("llama.cpp takes a command-r of 64 blocks or more for another network: there is no GGUF for it")
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "llama3" and config.family != "llama":
        raise Refusal(f"llama.cpp scales rotary positions the llama3 way in a Llama alone, not in a {config.family}")


def _rope_scaling(
    own: Mapping[str, Any], head_dim: int, theta: float, factors: np.ndarray[Any, Any] | None
) -> RopeScaling | None:
    kind = own.get("rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise Refusal(f"rotary positions are scaled by {kind!r}: Palmier's decoder has linear and llama3")
    factor = own.get("rope.scaling.factor", own.get("rope.scale_linear", 1.0))
    linear = RopeScaling("linear", _as_written(factor)) if factor not in (0.0, 1.0) else None
    if factors is None:
        return linear
    # The tensor says what the settings come to, not what they were: those that were published come first.
    if linear is None and len(factors) == head_dim // 2:
        for original in (8192, own.get("rope.scaling.original_context_length", 8192)):
            found = RopeScaling("llama3", max(1.0, _as_written(factors.max())), original_positions=original)
            if np.allclose(divisors(found, head_dim, theta), factors, rtol=1e-5):
                return found
    raise Refusal(f"{ROPE_FACTORS} is not how Llama 3.1 scales its positions, the one way that Palmier reads")


def _as_written(value: float, exact: float | None = None) -> float:
    """A number that was stored as fp32: ``exact`` where it rounds to it, else the shortest decimal that does."""
    if exact is not None and np.float32(exact) == np.float32(value):
        return exact
    return float(str(np.float32(value)))
