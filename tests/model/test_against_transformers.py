"""The decoder is transformers' Cohere (PaLM), Llama, Qwen2 and Qwen3, in numbers and on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    CohereConfig,
    CohereForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from palmier.model import checkpoint
from palmier.model.config import ModelConfig
from palmier.model.heads import RewardModel

from .shapes import LLAMA, SHAPES, decoder, tokens

THEIRS = {
    "palm": (CohereForCausalLM, CohereConfig),
    "llama": (LlamaForCausalLM, LlamaConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
}


def theirs_of(config: ModelConfig) -> torch.nn.Module:
    """transformers' model with its own random weights, from its own configuration class."""
    torch.manual_seed(3)
    value = {key: item for key, item in config.to_hf().items() if key not in ("architectures", "model_type")}
    module, settings = THEIRS[config.family]
    return module(settings(**value)).eval()


def strengthen(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5) if parameter.dim() == 1 else parameter.mul_(6.0)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_saved_here_and_loaded_there_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    ours = decoder(SHAPES[name])
    checkpoint.save(ours, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = tokens(3, 40)
    expected = theirs(ids).logits
    assert expected.std() > 0.3
    torch.testing.assert_close(ours.logits(ours(ids)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_saved_there_and_loaded_here_gives_the_same_logits_and_bits(name: str, tmp_path: Path) -> None:
    theirs = theirs_of(SHAPES[name])
    strengthen(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = checkpoint.load(tmp_path / "theirs")
    assert ours.config == SHAPES[name]
    ids = tokens(2, 33)
    torch.testing.assert_close(ours.logits(ours(ids)), theirs(ids).logits, atol=1e-4, rtol=0)
    (tmp_path / "ours").mkdir()
    checkpoint.save(ours, tmp_path / "ours")
    before = load_file(tmp_path / "theirs" / "model.safetensors")
    after = load_file(tmp_path / "ours" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_greedy_tokens_agree_with_transformers(name: str, tmp_path: Path) -> None:
    ours = decoder(SHAPES[name])
    checkpoint.save(ours, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = tokens(1, 5)
    expected = theirs.generate(ids, max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0)
    for _ in range(40):
        ids = torch.cat((ids, ours.logits(ours(ids)[:, -1:]).argmax(-1)), dim=1)
    assert ids.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
@torch.no_grad()
def test_a_llama_or_qwen_reward_model_is_sequence_classification(name: str, tmp_path: Path) -> None:
    ours = RewardModel.from_decoder(decoder(SHAPES[name]), seed=5)
    checkpoint.save(ours, tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    ids = tokens(2, 12)
    scores = ours.scores(ids, torch.tensor([11, 11]))
    for row, score in zip(ids, scores, strict=True):  # one at a time: a batch would need a padding token there
        torch.testing.assert_close(theirs(row.unsqueeze(0)).logits.squeeze(), score, atol=1e-5, rtol=0)
    kind = json.loads((tmp_path / "config.json").read_text())["architectures"]
    assert kind == [f"{name.capitalize()}ForSequenceClassification"] == [type(theirs).__name__]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_folder_says_how_its_weights_are_stored(dtype: torch.dtype, tmp_path: Path) -> None:
    ours = decoder(LLAMA)
    checkpoint.save(ours, tmp_path, dtype)
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").dtype == dtype
    again = checkpoint.load(tmp_path, torch.float32)
    for (name, parameter), (_, kept) in zip(ours.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(parameter.to(dtype).float(), kept), name
