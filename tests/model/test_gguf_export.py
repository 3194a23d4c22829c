"""GGUF both ways, against llama.cpp: the same tokens, near log-probs, and the same bits back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf as library
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.model import checkpoint, gguf
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.gguf_export import export_gguf
from palmier.model.rope import RopeScaling
from palmier.records import Sampling

from .llama_cpp import LlamaCpp

Write = Callable[[ModelConfig, int], Path]

ROWS = 400
PALM = ModelConfig.palm(ROWS, 64, 2, 4, max_positions=256)
LLAMA = ModelConfig("llama", ROWS, 64, 2, 4, 2, 16, 96, 256, tie_embeddings=False)
SHAPES = {
    "palm": PALM,
    "llama": LLAMA,
    "llama_linear": replace(LLAMA, rope_scaling=RopeScaling("linear", 4.0)),
    "llama_llama3": replace(LLAMA, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 48)),
    "qwen2": replace(LLAMA, family="qwen2", tie_embeddings=True),
    "qwen3": replace(LLAMA, family="qwen3", head_dim=32, rope_theta=1e6, norm_eps=1e-6),
}
MORE = SHAPES | {"palm_linear": replace(PALM, rope_scaling=RopeScaling("linear", 4.0))}
SEEDS = {"palm": 120, "llama": 122, "llama_linear": 135, "llama_llama3": 87, "qwen2": 27, "qwen3": 51}
"""Where over 64 greedy tokens the two best are never closer than MARGIN: fp16's rounding decides nothing."""
MARGIN = 0.05
PROMPT = [5, 9, 100, 33]


def greedy(decoder: Decoder) -> list[int]:
    """64 tokens by the engine, after PROMPT."""
    request = Request("g", tuple(PROMPT), Sampling(0.0, max_tokens=64))
    return list(Engine(decoder, context=128).run([request])[0][0].tokens)


@torch.no_grad()
def logprobs(decoder: Decoder, ids: list[int]) -> torch.Tensor:
    return decoder.logits(decoder(torch.tensor([ids]))[0]).log_softmax(-1)


@pytest.mark.parametrize("name", SHAPES)
def test_f16_in_llama_cpp_gives_the_same_64_greedy_tokens(name: str, folder_of: Write, tmp_path: Path) -> None:
    folder = folder_of(SHAPES[name], SEEDS[name])
    ours = checkpoint.load(folder)
    answer = greedy(ours)
    assert len(set(answer)) > 20, "an answer that repeats itself shows little"
    log_p = logprobs(ours, PROMPT + answer)
    best = log_p[len(PROMPT) - 1 : -1].topk(2).values
    assert (best[:, 0] - best[:, 1]).min() > MARGIN
    made = export_gguf(folder, tmp_path / "model.gguf", "f16")
    assert made.parameters == sum(parameter.numel() for parameter in ours.parameters())
    assert made.bytes == (tmp_path / "model.gguf").stat().st_size
    theirs = LlamaCpp(tmp_path / "model.gguf")
    assert theirs.greedy(PROMPT, 64) == answer
    for length in (1, 17, 50):  # fp16 also rounds what the matrices are multiplied by: not 1e-4
        found = theirs.logprobs((PROMPT + answer)[:length], ROWS)
        torch.testing.assert_close(found, log_p[length - 1], atol=0.06, rtol=0)


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize(("kind", "largest", "mean", "agree"), [("bf16", 0.6, 0.06, 0.9), ("q8_0", 1.5, 0.15, 0.8)])
def test_the_narrower_types_stay_near(
    name: str, kind: str, largest: float, mean: float, agree: float, folder_of: Write, tmp_path: Path
) -> None:
    """Log-probs against our fp32, and how often the best token is the same, over 40 places of a wandering text."""
    folder = folder_of(MORE[name], SEEDS.get(name, 0))
    ours = checkpoint.load(folder)
    ids = PROMPT + greedy(ours)
    log_p = logprobs(ours, ids)
    export_gguf(folder, tmp_path / "model.gguf", kind)
    theirs = LlamaCpp(tmp_path / "model.gguf")
    lengths = range(10, 50)
    found = torch.stack([theirs.logprobs(ids[:length], ROWS) for length in lengths])
    expected = log_p[9:49]
    assert (found - expected).abs().max() < largest
    assert (found - expected).abs().mean() < mean
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() >= agree
    # And they are the file's own numbers: read back into our decoder, they are nearer still.
    gguf.import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    back = logprobs(checkpoint.load(tmp_path / "back", torch.float32), ids)[9:49]
    assert (found - back).abs().mean() <= (found - expected).abs().mean() + 0.005


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("name", SHAPES)
def test_out_and_in_again_keeps_every_bit(name: str, kind: str, folder_of: Write, tmp_path: Path) -> None:
    config = replace(SHAPES[name], eos_id=2)
    folder = folder_of(config, 1)
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[kind]
    ours = checkpoint.load(folder).to(dtype)
    checkpoint.save(ours, folder)
    export_gguf(folder, tmp_path / "model.gguf", kind)
    gguf.import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    back = checkpoint.load(tmp_path / "back")
    assert back.config == replace(config, bos_id=back.config.bos_id, pad_id=back.config.pad_id)
    for key, value in ours.state_dict().items():
        found = back.state_dict()[key]
        assert found.dtype == dtype
        assert torch.equal(found, value), key
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype=torch.float32).eval()
    expected = logprobs(checkpoint.load(tmp_path / "back", torch.float32), PROMPT)
    with torch.no_grad():
        torch.testing.assert_close(
            theirs(torch.tensor([PROMPT])).logits[0].log_softmax(-1), expected, atol=1e-4, rtol=0
        )


def test_norms_that_fp16_does_not_hold_make_a_folder_in_float32(folder_of: Write, tmp_path: Path) -> None:
    folder = folder_of(LLAMA, 0)
    export_gguf(folder, tmp_path / "model.gguf", "f16")
    gguf.import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    ours, back = checkpoint.load(folder), checkpoint.load(tmp_path / "back")
    assert {str(value.dtype) for value in back.state_dict().values()} == {"torch.float32"}
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in ours.state_dict().items())


def test_q8_0_is_what_the_reference_dequantises(folder_of: Write, tmp_path: Path) -> None:
    """Rows that are no multiple of 32 stay f16; the others are off by half a step, and the rounding of a step to fp16."""
    config = replace(LLAMA, hidden_size=72, head_dim=20, tie_embeddings=True)
    folder = folder_of(config, 0)
    made = export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    reader = library.GGUFReader(tmp_path / "model.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert made.narrow == [name for name, kind in kinds.items() if kind == "F16"]
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # 96 wide
    assert kinds["blk.0.attn_output.weight"] == "F16"  # 80 wide
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    gguf.import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    key = "model.layers.0.mlp.down_proj.weight"
    before = checkpoint.load(folder).state_dict()[key].reshape(-1, 32)
    after = checkpoint.load(tmp_path / "back").state_dict()[key].reshape(-1, 32)
    assert ((before - after).abs() <= 0.57 * before.abs().amax(1, keepdim=True) / 127).all()
    assert LlamaCpp(tmp_path / "model.gguf").greedy(PROMPT, 4)


def test_rope_factors_are_those_of_llama_3_1(folder_of: Write, tmp_path: Path) -> None:
    """Published settings, from the tensor alone, as llama.cpp's own converter leaves it."""
    scaling = RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)
    config = replace(LLAMA, head_dim=64, rope_theta=500000.0, max_positions=131072, rope_scaling=scaling)
    export_gguf(folder_of(config, 0), tmp_path / "model.gguf", "f16")
    reader = library.GGUFReader(tmp_path / "model.gguf")
    factors = next(tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight")
    assert (factors.min(), factors.max()) == (1.0, 32.0)
    assert 1.0 < np.median(factors) < 32.0 or len(set(factors.tolist())) > 2
    gguf.import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    assert checkpoint.load_config(tmp_path / "back").rope_scaling == scaling


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(PALM, tie_embeddings=False), "an untied PaLM has no GGUF"),
        (replace(PALM, num_layers=64), "64 blocks or more"),
        (replace(PALM, rope_scaling=RopeScaling("llama3", 8.0)), "the llama3 way in a Llama alone"),
    ],
)
def test_what_llama_cpp_has_not_is_refused(config: ModelConfig, words: str, folder_of: Write, tmp_path: Path) -> None:
    folder = folder_of(config, 0)
    with pytest.raises(Refusal, match=words):
        export_gguf(folder, tmp_path / "model.gguf", "f16")
    assert not (tmp_path / "model.gguf").exists()


def test_values_beyond_fp16_are_refused_and_leave_no_file(folder_of: Write, tmp_path: Path) -> None:
    folder = folder_of(LLAMA, 0)
    ours = checkpoint.load(folder)
    with torch.no_grad():
        ours.model.layers[1].mlp.up_proj.weight[0, 0] = 7e4
    checkpoint.save(ours, folder)
    with pytest.raises(Refusal, match=r"up_proj\.weight holds values beyond F16's 65504: export it as bf16"):
        export_gguf(folder, tmp_path / "model.gguf", "f16")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    export_gguf(folder, tmp_path / "model.gguf", "bf16")
