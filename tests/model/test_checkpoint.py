"""Folders: whole, mapped, and every bad file one Refusal that names file and tensor."""

from __future__ import annotations

import json
import pickle
import random
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palmier.errors import Refusal
from palmier.model import checkpoint
from palmier.model.cache import KVCache
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.heads import RewardModel
from palmier.workspace import sha256, write_whole

from .shapes import LLAMA, LLAMA_UNTIED, PALM, QWEN2, SHAPES, decoder, tokens

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(decoder(PALM), tmp_path)
    return tmp_path


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Store the folder's tensors again, with some changed or (None) left out."""
    tensors = load_file(folder / WEIGHTS) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / WEIGHTS)


@pytest.mark.parametrize("name", SHAPES)
def test_round_trip_is_bit_equal_packed_or_not(name: str, tmp_path: Path) -> None:
    module = decoder(SHAPES[name])
    with torch.no_grad():
        module(tokens(1, 3), cache=KVCache(module.config, 1, 8, torch.float32))
    with write_whole(tmp_path / "model") as partial:
        checkpoint.save(module, partial)
    again = checkpoint.load(tmp_path / "model")
    assert again.config == module.config
    assert all(parameter.requires_grad for parameter in again.parameters())
    for key, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert (tmp_path / "model" / WEIGHTS).stat().st_mode & 0o777 == (
        tmp_path / "model/config.json"
    ).stat().st_mode & 0o777


def test_weights_are_mapped_not_copied(folder: Path) -> None:
    """A tensor's memory lies in a mapping of the file."""
    module = checkpoint.load(folder)
    address = module.model.embed_tokens.weight.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if low <= address < high:
            assert line.endswith(WEIGHTS)
            return
    pytest.fail("no mapping holds the embedding")


def test_training_a_mapped_model_leaves_its_file_alone(folder: Path) -> None:
    before = sha256(folder / WEIGHTS)
    module = checkpoint.load(folder)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert sha256(folder / WEIGHTS) == before


def test_several_files_under_an_index_are_read(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    weight_map = {name: f"model-{1 + i % 2:05d}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, folder / file)
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    again = checkpoint.load(folder)
    assert all(torch.equal(tensors[name], value) for name, value in again.state_dict().items())
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(Refusal, match=r"model-00002-of-00002\.safetensors is missing"):
        checkpoint.load(folder)


def test_a_tensor_is_read_from_the_file_that_the_index_names(folder: Path) -> None:
    """Two files hold a tensor of one name (a shard of an older save that stayed): the index decides."""
    tensors = load_file(folder / WEIGHTS)
    name = "model.layers.0.mlp.up_proj.weight"
    (folder / WEIGHTS).rename(folder / "old.safetensors")
    save_file({name: tensors[name] + 1}, folder / "a.safetensors")
    index = {"weight_map": {key: "old.safetensors" for key in tensors} | {name: "a.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(checkpoint.load(folder).state_dict()[name], tensors[name] + 1)
    index["weight_map"]["model.norm.weight"] = "a.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "a.safetensors has no tensor model.norm.weight")


def test_transformers_own_shards_are_read(tmp_path: Path) -> None:
    """Saved by transformers in pieces of 40 kB, with its own index."""
    from transformers import AutoModelForCausalLM

    checkpoint.save(decoder(QWEN2), tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="40kB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    again = checkpoint.load(tmp_path / "shards")
    assert all(torch.equal(theirs.state_dict()[name], value) for name, value in again.state_dict().items())


MEASURE = """
import sys, torch
from pathlib import Path
from palmier.model import checkpoint
def kib(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
checkpoint.load(Path(sys.argv[1]) / "small", getattr(torch, sys.argv[2]))  # torch's own code is in memory now
before = kib("VmRSS")
model = checkpoint.load(Path(sys.argv[1]), getattr(torch, sys.argv[2]))
size = sum(p.numel() * p.element_size() for p in model.parameters())
print((kib("VmHWM") - before) * 1024 / size)
"""


@pytest.mark.parametrize(("stored", "wanted", "most"), [("float32", "bfloat16", 1.4), ("bfloat16", "float32", 1.3)])
def test_memory_while_a_folder_is_converted(stored: str, wanted: str, most: float, tmp_path: Path) -> None:
    """What a process needs at most, beside what it had, as a multiple of the weights in their final format.

    The mapped file counts too: read as a whole it would add twice (fp32 → bf16) or half (bf16 → fp32) as much.
    """
    shape = ModelConfig("llama", 2000, 512, 16, 8, 2, 64, 1536, 64)  # 49 million numbers, 1 million the largest tensor
    checkpoint.save(Decoder(shape).to_empty(device="cpu"), tmp_path, getattr(torch, stored))
    (tmp_path / "small").mkdir()
    checkpoint.save(decoder(LLAMA), tmp_path / "small", getattr(torch, stored))
    done = subprocess.run([sys.executable, "-c", MEASURE, tmp_path, wanted], capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < most


def test_a_reward_model_keeps_its_head_in_float32(tmp_path: Path) -> None:
    model = RewardModel.from_decoder(decoder(PALM), seed=1)
    checkpoint.save(model, tmp_path, torch.bfloat16)
    again = checkpoint.load_reward(tmp_path, torch.bfloat16)
    assert torch.equal(again.score.weight, model.score.weight)
    assert again.score.weight.dtype == torch.float32
    assert again.model.embed_tokens.weight.dtype == torch.bfloat16
    assert again.scores(tokens(2, 5), torch.tensor([4, 2])).dtype == torch.float32


def test_a_tied_head_that_was_stored_twice_is_read_once(tmp_path: Path) -> None:
    checkpoint.save(decoder(LLAMA), tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    rewrite(tmp_path, **{"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    assert "lm_head.weight" not in checkpoint.load(tmp_path).state_dict()


def test_an_untied_decoder_gives_a_reward_model_without_its_head(tmp_path: Path) -> None:
    checkpoint.save(RewardModel.from_decoder(decoder(LLAMA_UNTIED), seed=1), tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    assert checkpoint.load_reward(tmp_path).config == LLAMA_UNTIED


def refused(folder: Path, *words: str) -> None:
    """``load`` refuses with one line that names the folder and has these words."""
    with pytest.raises(Refusal) as caught:
        checkpoint.load(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    for word in words:  # not in the folder's own name, which holds the test's
        assert word in message.replace(str(folder), ""), message


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("trap-was-sprung"),))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", WEIGHTS])
def test_a_pickle_is_never_opened(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(_Trap()))
    refused(folder, name, "pickle")
    torch.save({"model.norm.weight": torch.ones(3)}, folder / name)
    refused(folder, name, "pickle")
    assert not (folder / "trap-was-sprung").exists()


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 0x4B50])
def test_a_header_whose_length_reads_like_a_pickle_is_none(folder: Path, length: int) -> None:
    """640 is 0x0280: the file begins with the two bytes that a pickle of protocol 2 begins with."""
    whole = (folder / WEIGHTS).read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    if length < size:
        name, entry = "model.norm.weight", header["model.norm.weight"]
        text = json.dumps({name: entry}).ljust(length).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + text + whole[8 + size :])
        refused(folder, "model.embed_tokens.weight is missing")  # read, and one tensor is what it holds
    else:
        text = json.dumps(header).ljust(length).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + text + whole[8 + size :])
        assert checkpoint.load(folder).config == PALM


@pytest.mark.parametrize("keep", [0, 5, 8, 200, -4, -9000])
def test_a_file_that_was_cut_off_is_refused(folder: Path, keep: int) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:keep])
    refused(folder, WEIGHTS, "cut" if keep >= 0 else "cut short: tensor model.")


def test_a_header_that_lies_is_refused(folder: Path) -> None:
    def write(header: object) -> None:
        text = json.dumps(header).encode() if not isinstance(header, bytes) else header
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 64)

    write(b"{not json")
    refused(folder, WEIGHTS, "header is not JSON")
    write([1, 2])
    refused(folder, WEIGHTS, "no JSON object")
    entry = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    write({"model.norm.weight": entry | {"shape": [2, 5]}})
    refused(folder, WEIGHTS, "model.norm.weight", "32 bytes")
    write({"model.norm.weight": entry | {"data_offsets": [0, -32]}})
    refused(folder, WEIGHTS, "model.norm.weight")
    write({"model.norm.weight": {"shape": [2, 4]}})
    refused(folder, WEIGHTS, "model.norm.weight", "damaged entry")
    write({"model.norm.weight": entry | {"dtype": "I64", "data_offsets": [0, 64]}})
    refused(folder, WEIGHTS, "model.norm.weight", "I64")


def test_a_damaged_byte_is_read_or_refused_and_never_a_crash(folder: Path) -> None:
    """Bytes of the header at random: another error than Refusal would be a traceback in a person's face."""
    whole = (folder / WEIGHTS).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    draw = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(header)] = draw.choice((draw.randrange(256), ord('"'), ord("9"), ord("-"), ord("{")))
        (folder / WEIGHTS).write_bytes(damaged)
        try:
            checkpoint.load(folder)
            outcomes["read"] += 1
        except Refusal:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 200
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 200_000) + b"[" * 200_000)
    refused(folder, "not JSON")


def test_missing_misshapen_and_unknown_tensors_are_named(folder: Path) -> None:
    good = load_file(folder / WEIGHTS)
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(folder, **{name: None})
    refused(folder, f"tensor {name} is missing")
    rewrite(folder, **{name: torch.ones(3, 48)})
    refused(folder, name, "(3, 48)", "(192, 48)")
    rewrite(folder, **{name: good[name], "model.layers.2.mlp.up_proj.weight": good[name].clone()})
    refused(folder, "model.layers.2.mlp.up_proj.weight is unknown")


def test_bad_or_absent_configs_are_named(folder: Path) -> None:
    value = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(value | {"model_type": "mamba"}))
    refused(folder, "config.json", "mamba")
    (folder / "config.json").write_text("[]")
    refused(folder, "config.json", "no JSON object")
    (folder / "config.json").write_text("{")
    refused(folder, "config.json", "not JSON")
    (folder / "config.json").write_bytes(b'{"model_type": "\xff"}')
    refused(folder, "config.json", "not JSON", "utf-8")
    (folder / "config.json").unlink()
    refused(folder, "config.json", "missing")


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    refused(folder, WEIGHTS, "missing")


def test_a_reward_model_is_no_language_model_and_the_reverse(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"no reward model.*score\.weight"):
        checkpoint.load_reward(folder)
    other = tmp_path / "reward"
    other.mkdir()
    checkpoint.save(RewardModel.from_decoder(decoder(PALM), seed=0), other)
    refused(other, "reward model", "score.weight")


def test_a_full_disk_is_one_sentence_and_leaves_what_was(tmp_path: Path) -> None:
    """The first save stays as it was when the second finds no room for its weights."""
    target = tmp_path / "model"

    def save(seed: int) -> None:
        with write_whole(target) as partial:
            checkpoint.save(decoder(PALM, seed), partial)

    save(1)
    before = sha256(target / WEIGHTS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # no file may grow larger: the kernel's own error
    try:
        with pytest.raises(Refusal, match="could not write"):
            save(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sha256(target / WEIGHTS) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_unknown_family_in_python_is_refused() -> None:
    with pytest.raises(Refusal, match="family 'gpt'"):
        ModelConfig("gpt", 9, 8, 1, 2, 2, 4, 16, 8)  # type: ignore[arg-type]  # that is the point
