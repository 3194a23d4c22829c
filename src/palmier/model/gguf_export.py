"""GGUF out: a PaLM, Llama or Qwen as one file that llama.cpp, and what is built on it, runs.

One tensor is in memory at a time, beside the mapped folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quant
from torch import Tensor

from palmier.errors import Refusal
from palmier.model import gguf_tokenizer
from palmier.model.checkpoint import load
from palmier.model.config import ModelConfig
from palmier.model.gguf import Progress
from palmier.model.gguf_layout import ARCHITECTURES, ROPE_FACTORS, gguf_name, metadata, rope_factors, rows_to_gguf
from palmier.workspace import clear_leftovers, write_file_whole

Kind = Literal["f16", "bf16", "q8_0"]

_QUANTS = {"f16": Quant.F16, "bf16": Quant.BF16, "q8_0": Quant.Q8_0}
_FILE_TYPES = {
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


class Exported(NamedTuple):
    """What was written."""

    architecture: str
    parameters: int
    bytes: int
    narrow: list[str]
    """Tensors that stayed F16 because their rows are no multiple of Q8_0's block."""


class _Part(NamedTuple):
    """One tensor of the file: its shape and how it is stored."""

    name: str
    shape: tuple[int, ...]
    quant: Quant

    @property
    def bytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.quant]
        return int(np.prod(self.shape)) // block * size


def export_gguf(folder: Path, out: Path, kind: Kind, progress: Progress | None = None) -> Exported:
    """Write the model in a Hugging Face folder as a GGUF, whole or not at all.

    Matrices are stored as ``kind``, norms and biases in fp32 as llama.cpp wants them. Raises Refusal for a
    model or a tokenizer that llama.cpp has not.
    """
    decoder = load(folder)
    config, tensors = decoder.config, decoder.state_dict()
    values = metadata(config)
    about = gguf_tokenizer.describe(folder, config.vocab_size)
    architecture = next(name for name, family in ARCHITECTURES.items() if family == config.family)
    parts = {name: _part(name, tuple(tensor.shape), kind) for name, tensor in tensors.items()}
    total = len(parts) + (rope_factors(config) is not None)
    clear_leftovers(out.parent)
    with write_file_whole(out) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        try:
            writer.add_name(out.stem)  # a run's folder would be called step-N
            writer.add_file_type(_FILE_TYPES[kind])
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            _write_values(writer, {f"{architecture}.{key}": value for key, value in values.items()} | about)
            for done, data in enumerate(_tensors(writer, config, tensors, parts)):
                writer.write_tensor_data(data)
                if progress is not None:
                    progress(done + 1, total)
        finally:
            writer.close()
        size = os.path.getsize(partial)
    narrow = [part.name for part in parts.values() if kind == "q8_0" and part.quant == Quant.F16]
    return Exported(architecture, sum(tensor.numel() for tensor in tensors.values()), size, narrow)


def _part(name: str, shape: tuple[int, ...], kind: Kind) -> _Part:
    quant = _QUANTS[kind] if len(shape) > 1 else Quant.F32
    if quant == Quant.Q8_0 and shape[-1] % gguf.GGML_QUANT_SIZES[quant][0]:
        quant = Quant.F16
    return _Part(gguf_name(name), shape, quant)


def _tensors(
    writer: gguf.GGUFWriter, config: ModelConfig, tensors: Mapping[str, Tensor], parts: Mapping[str, _Part]
) -> Iterator[np.ndarray[Any, Any]]:
    """Write all that stands before the tensors' data, then give the data one by one."""
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes, Quant.F32)
    for part in parts.values():
        writer.add_tensor_info(part.name, part.shape, np.dtype(np.float32), part.bytes, part.quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        yield factors
    for name, part in parts.items():
        weights = rows_to_gguf(tensors[name].float().numpy(), name, config)
        if part.quant == Quant.F16 and np.abs(weights).max() > np.finfo(np.float16).max:
            raise Refusal(f"tensor {name} holds values beyond F16's 65504: export it as bf16")
        yield gguf.quantize(weights, part.quant)


def _write_values(writer: gguf.GGUFWriter, values: Mapping[str, Any]) -> None:
    """Metadata by the types that llama.cpp reads them as: whole numbers as uint32, others as fp32."""
    for key, value in values.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
