"""A model's folder: config.json and safetensors in Hugging Face's layout, read by memory mapping.

Never pickle. Whatever is wrong with a file is one Refusal that names the file and the tensor.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from palmier.errors import Refusal
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.heads import RewardModel
from palmier.model.int8 import is_int8
from palmier.workspace import read_json, write_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SCORE = "score.weight"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""Of a zip, which is how torch packs a pickle, and of pickle's protocols 2 to 5."""
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def save(module: Decoder | RewardModel, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write config.json and model.safetensors into ``folder``, which ``write_whole`` gave.

    Weights are stored as ``dtype``, or as they are; a reward head always in fp32, as it is used.
    """
    if is_int8(module):
        raise Refusal(f"{folder}: a model with int8 weights is not saved, they are made again when it is loaded")
    config = module.config.to_hf()
    if isinstance(module, RewardModel):
        stem = config["architectures"][0].removesuffix("ForCausalLM")
        config |= {"architectures": [f"{stem}ForSequenceClassification"], "num_labels": 1, "id2label": {"0": "score"}}
        config |= {"label2id": {"score": 0}}
    tensors = {
        name: tensor.detach().to("cpu", torch.float32 if name == SCORE else dtype or tensor.dtype).contiguous()
        for name, tensor in module.state_dict().items()
    }
    stored = str(tensors["model.embed_tokens.weight"].dtype).removeprefix("torch.")
    write_json(folder / "config.json", config | {"dtype": stored})
    try:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:
        raise Refusal(f"could not write {folder / WEIGHTS}: {error}") from error
    # safetensors writes for its owner alone; a model is as readable as the file beside it.
    (folder / WEIGHTS).chmod((folder / "config.json").stat().st_mode)


def load(folder: Path, dtype: torch.dtype | None = None) -> Decoder:
    """The decoder in a Hugging Face folder; its weights stay mapped to the file unless ``dtype`` differs."""
    config = load_config(folder)
    stored = _stored(folder)
    if SCORE in stored:
        raise Refusal(f"{folder} holds a reward model ({SCORE}), not a language model: give the model it judges")
    if config.tie_embeddings:
        # Older writers store the tied head a second time; the embedding is what counts.
        stored.pop("lm_head.weight", None)
    decoder = Decoder(config)
    _fill(decoder, stored, folder, dtype)
    return decoder


def load_reward(folder: Path, dtype: torch.dtype | None = None) -> RewardModel:
    """The reward model in a folder that ``save`` wrote; its head stays in fp32."""
    config = load_config(folder)
    stored = _stored(folder)
    if SCORE not in stored:
        raise Refusal(f"{folder} is no reward model: it has no tensor {SCORE}; `palmier reward train` makes one")
    model = RewardModel(Decoder(config))
    _fill(model, stored, folder, dtype)
    return model


def load_config(folder: Path) -> ModelConfig:
    """The shape that a folder's config.json describes; raises Refusal naming the file."""
    path = folder / "config.json"
    value = read_json(path)
    if not isinstance(value, dict):
        raise Refusal(f"{path} is no JSON object")
    try:
        return ModelConfig.from_hf(value)
    except Refusal as error:
        raise Refusal(f"{path}: {error}") from None


def _fill(module: nn.Module, stored: dict[str, _Stored], folder: Path, dtype: torch.dtype | None) -> None:
    """Let the module's parameters be the stored tensors; every name and shape must agree before one is read."""
    wanted = module.state_dict()
    for name, parameter in wanted.items():
        if name not in stored:
            raise Refusal(f"{folder}: tensor {name} is missing")
        shape, expected = stored[name].shape, tuple(parameter.shape)
        if shape != expected:
            raise Refusal(f"{folder}: tensor {name} has shape {shape}, but config.json makes it {expected}")
    unknown = sorted(set(stored) - set(wanted))
    if unknown:
        raise Refusal(f"{folder}: tensor {unknown[0]} is unknown to this model ({len(unknown)} unknown in all)")
    mapped: dict[Path, Any] = {}
    tensors = {name: _read(stored[name], name, torch.float32 if name == SCORE else dtype, mapped) for name in wanted}
    module.load_state_dict(tensors, assign=True)


class _Stored(NamedTuple):
    """Where a tensor lies, and what its file's header says of it."""

    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


def _read(stored: _Stored, name: str, dtype: torch.dtype | None, mapped: dict[Path, Any]) -> Tensor:
    """A tensor mapped to its file, which ``mapped`` keeps open, or, where the dtype differs, a converted copy.

    A tensor to be converted gets a mapping of its own, which ends with it: the pages that were read would
    else stay in memory beside the copies, until the whole model lies there twice.
    """
    try:
        if dtype is None or dtype == stored.dtype:
            if stored.path not in mapped:
                mapped[stored.path] = safe_open(stored.path, framework="pt", device="cpu")
            tensor: Tensor = mapped[stored.path].get_tensor(name)
            return tensor
        with safe_open(stored.path, framework="pt", device="cpu") as file:
            converted: Tensor = file.get_tensor(name).to(dtype)
            return converted
    except (SafetensorError, OSError) as error:
        raise Refusal(f"{stored.path} cannot be read: {error}") from None


def _stored(folder: Path) -> dict[str, _Stored]:
    """Every tensor of a folder by name, from the headers of its safetensors files; none is read yet."""
    if (folder / WEIGHTS).exists():
        found = _check_header(folder / WEIGHTS)
    elif (folder / INDEX).exists():
        found = _by_index(folder)
    else:
        pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
        if pickles:
            raise Refusal(
                f"{folder / pickles[0]} is a pickle, which can run code when it is opened, and is never read: "
                f"convert it to {WEIGHTS}"
            )
        raise Refusal(f"{folder} has no weights: {WEIGHTS} is missing")
    # Buffers that Llama checkpoints of 2023 carried; the angles follow from config.json.
    return {name: one for name, one in found.items() if not name.endswith("rotary_emb.inv_freq")}


def _by_index(folder: Path) -> dict[str, _Stored]:
    """The tensors of a model in several files, each from the file that the index names."""
    index = read_json(folder / INDEX)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise Refusal(f"{folder / INDEX} has no weight_map")
    # Names alone: a path in an index that somebody else wrote must not lead out of the folder.
    files = {name: Path(str(file)).name for name, file in names.items()}
    headers = {file: _check_header(folder / file) for file in sorted(set(files.values()))}
    for name, file in files.items():
        if name not in headers[file]:
            raise Refusal(f"{folder / file} has no tensor {name}, which {INDEX} says it holds: fetch it again")
    return {name: headers[file][name] for name, file in files.items()}


def _check_header(path: Path) -> dict[str, _Stored]:
    """The tensors of a safetensors file; raises Refusal where it is none, is cut short, or holds what no weight is.

    The format: 8 bytes header length, little-endian; a JSON header; the tensors' bytes.
    """
    if not path.is_file():
        raise Refusal(f"{path} is missing")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        # A header of 640 bytes begins with a pickle's first two as well, but its length fits and a { follows.
        if start[:2] in PICKLE_STARTS and (length > size - 8 or file.read(1) != b"{"):
            raise Refusal(f"{path} is a pickle under another name, and is never read: convert it to safetensors")
        file.seek(8)
        if len(start) < 8 or length > size - 8:
            raise Refusal(f"{path} is no whole safetensors file: its header is cut off ({size} bytes in all)")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise Refusal(f"{path} is no safetensors file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise Refusal(f"{path} is no safetensors file: its header is no JSON object")
    header.pop("__metadata__", None)
    return {name: _check_entry(path, name, entry, size - 8 - length) for name, entry in header.items()}


def _check_entry(path: Path, name: str, entry: Any, available: int) -> _Stored:
    try:
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = math.prod(shape) * (DTYPES[kind].itemsize if kind in DTYPES else 0) == end - begin
    except (TypeError, KeyError, ValueError):
        raise Refusal(f"{path}: tensor {name} has a damaged entry in the header") from None
    if kind not in DTYPES:
        raise Refusal(f"{path}: tensor {name} is stored as {kind}: Palmier reads {', '.join(DTYPES)}")
    if not whole:
        raise Refusal(f"{path}: tensor {name} has {end - begin} bytes, which is not its shape {shape} in {kind}")
    if end > available:
        raise Refusal(f"{path} is cut short: tensor {name} ends at byte {end} of {available}; fetch or save it again")
    return _Stored(path, tuple(shape), DTYPES[kind])
