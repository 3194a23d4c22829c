"""config.json: both ways without loss; what the decoder has not is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from palmier.errors import Refusal
from palmier.model.config import ModelConfig
from palmier.model.rope import RopeScaling

from .shapes import LLAMA, PALM, QWEN3, SHAPES


@pytest.mark.parametrize("name", SHAPES)
def test_round_trip(name: str) -> None:
    assert ModelConfig.from_hf(SHAPES[name].to_hf()) == SHAPES[name]


def test_palm_fills_in_what_was_published() -> None:
    config = ModelConfig.palm(256000, 4096, 32, 16)
    assert (config.num_kv_heads, config.head_dim, config.intermediate_size) == (1, 256, 16384)
    assert config.logit_scale == 4096**-0.5
    assert config.tie_embeddings


def test_older_and_newer_places_of_rope_theta_are_read() -> None:
    value = LLAMA.to_hf()
    del value["rope_parameters"]
    assert ModelConfig.from_hf(value | {"rope_theta": 5e5}).rope_theta == 5e5
    value.pop("rope_theta")
    assert (
        ModelConfig.from_hf(value | {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}).rope_theta == 7.0
    )


def test_of_several_end_tokens_the_first_is_the_models() -> None:
    assert ModelConfig.from_hf(LLAMA.to_hf() | {"eos_token_id": [7, 9]}).eos_id == 7


def test_what_transformers_leaves_out_has_its_defaults() -> None:
    """Old Llama folders have no num_key_value_heads, head_dim or tie_word_embeddings."""
    value = LLAMA.to_hf()
    for key in ("num_key_value_heads", "head_dim", "tie_word_embeddings", "rms_norm_eps"):
        del value[key]
    config = ModelConfig.from_hf(value)
    assert (config.num_kv_heads, config.head_dim, config.tie_embeddings) == (6, 8, False)
    assert config.norm_eps == 1e-6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is unknown"),
        ({"model_type": None}, "model_type None is unknown"),
        ({"model_type": ["llama"]}, "is unknown"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "of type 'yarn'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "of type 'dynamic'"),
        ({"rope_scaling": {"type": ["linear"], "factor": 2.0}}, "rope_scaling of type"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling must have a number above 0 for factor"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor must be a number from 1"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 4.0,
                    "high_freq_factor": 1.0,
                    "original_max_position_embeddings": 32,
                }
            },
            "low_freq_factor 4.0 must lie between 0 and its high_freq_factor 1.0",
        ),
        ({"use_sliding_window": True}, "use_sliding_window=True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "full attention alone"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_key_value_heads": 4}, "num_heads 6 is no multiple of num_kv_heads 4"),
        ({"head_dim": 7}, "head_dim 7 must be even"),
        ({"vocab_size": 0}, "whole number from 1 for vocab_size"),
        ({"vocab_size": True}, "vocab_size"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"rope_parameters": "default"}, "rope_parameters"),
        ({"eos_token_id": "</s>"}, "eos_token_id"),
        ({"eos_token_id": 97}, "eos_id 97 is outside the vocabulary"),
    ],
)
def test_what_cannot_be_honoured_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        ModelConfig.from_hf(LLAMA.to_hf() | change)


def test_older_folders_call_it_rope_scaling() -> None:
    """Llama 2's long-context fine-tunes, and Llama 3.1's own first config.json."""
    value = LLAMA.to_hf() | {"rope_theta": 5e5}
    del value["rope_parameters"]
    linear = ModelConfig.from_hf(value | {"rope_scaling": {"type": "linear", "factor": 4.0}})
    assert (linear.rope_scaling, linear.rope_theta) == (RopeScaling("linear", 4.0), 5e5)
    published = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"}
    found = ModelConfig.from_hf(value | {"rope_scaling": published | {"original_max_position_embeddings": 8192}})
    assert found.rope_scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)
    assert ModelConfig.from_hf(value | {"rope_scaling": published}).rope_scaling.original_positions == 64
    assert ModelConfig.from_hf(value | {"rope_scaling": None}).rope_scaling is None


def test_qwen3s_heads_are_128_wide_where_its_folder_does_not_say() -> None:
    value = QWEN3.to_hf()
    del value["head_dim"]
    assert ModelConfig.from_hf(value).head_dim == 128


def test_a_padding_id_outside_the_vocabulary_is_kept() -> None:
    """Old Llama fine-tunes pad with an id that has no embedding; nothing here ever reads it."""
    assert ModelConfig.from_hf(LLAMA.to_hf() | {"pad_token_id": 97}).to_hf()["pad_token_id"] == 97


def test_cohere_with_normed_queries_is_refused() -> None:
    with pytest.raises(Refusal, match="use_qk_norm"):
        ModelConfig.from_hf(PALM.to_hf() | {"use_qk_norm": True})


def test_a_width_that_no_head_divides_is_refused() -> None:
    with pytest.raises(Refusal, match="give head_dim"):
        ModelConfig.palm(97, 50, 2, 4)


def test_a_config_is_frozen_and_checked_when_replaced() -> None:
    with pytest.raises(Refusal, match="num_layers"):
        replace(PALM, num_layers=0)
