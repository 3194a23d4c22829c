"""GGUF files that are damaged, or hold what the decoder has not: one line that names the file, and no folder."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as library
import numpy as np
import pytest

from palmier.errors import Refusal
from palmier.model import checkpoint, gguf
from palmier.model.config import ModelConfig
from palmier.model.gguf_export import _write_values, export_gguf

Write = Callable[[ModelConfig, int], Path]

LLAMA = ModelConfig("llama", 400, 32, 2, 2, 1, 16, 48, 64, tie_embeddings=False)


@pytest.fixture
def good(folder_of: Write, tmp_path: Path) -> Path:
    export_gguf(folder_of(LLAMA, 0), tmp_path / "good.gguf", "f16")
    return tmp_path / "good.gguf"


def rewrite(
    good: Path,
    values: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray[Any, Any] | None] | None = None,
    architecture: str = "llama",
    endian: library.GGUFEndian = library.GGUFEndian.LITTLE,
) -> Path:
    """The file again, with some metadata and tensors changed or (None) left out."""
    reader = library.GGUFReader(good)
    before = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    kept = {key: value for key, value in (before | (values or {})).items() if value is not None}
    del kept["general.architecture"]
    all_tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors} | (tensors or {})
    path = good.with_name("bad.gguf")
    writer = library.GGUFWriter(path, architecture, endianess=endian)
    _write_values(writer, kept)
    for name, data in all_tensors.items():
        if data is not None:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def refused(path: Path, *words: str) -> None:
    target = path.parent / "folder"
    with pytest.raises(Refusal) as caught:
        gguf.import_gguf(path, target)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert not target.exists()


def test_a_file_that_was_rewritten_unchanged_is_read(good: Path) -> None:
    """Else the refusals below would show nothing."""
    gguf.import_gguf(rewrite(good), good.parent / "folder")
    config = checkpoint.load(good.parent / "folder").config
    assert (config.family, config.num_heads, config.eos_id) == ("llama", 2, 2)


def told(value: bytes, keys: int = 1, tensors: int = 0) -> bytes:
    """A file of one key, "a.b", whose value, with its type before it, is ``value``."""
    return b"GGUF" + struct.pack("<IQQQ", 3, tensors, keys, 3) + b"a.b" + value


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (told(struct.pack("<IQ", 8, 1 << 60)), "has 47 bytes and tells of more"),
        (told(struct.pack("<IIQ", 9, 0, 1 << 60)), "tells of more"),
        (told(struct.pack("<IIQ", 9, 8, 1 << 60)), "tells of more"),
        (told(struct.pack("<IB", 0, 1), keys=1 << 60), "tells of more"),
        (told(struct.pack("<IB", 0, 1), tensors=1 << 60), "tells of more"),
        (told(struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000), "recursion"),
    ],
    ids=["a text", "numbers", "texts", "keys", "tensors", "lists in lists"],
)
def test_a_short_file_that_tells_of_much_is_refused_at_once(tmp_path: Path, content: bytes, reason: str) -> None:
    """The library's reader goes on past the end, for as long as it was told."""
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    refused(path, "is damaged or no GGUF file", reason)


@pytest.mark.parametrize("keep", [0, 3, 23, 500, 9000, -1])
def test_a_file_that_was_cut_off(good: Path, keep: int) -> None:
    path = good.with_name("bad.gguf")
    path.write_bytes(good.read_bytes()[:keep])
    refused(path, "is damaged or no GGUF file")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "rotary positions are scaled by 'yarn'"),
        ({"llama.rope.scaling.type": "longrope"}, "'longrope'"),
        ({"llama.attention.sliding_window": 16}, "slides over 16 tokens"),
        ({"llama.attention.head_count_kv": [1, 2]}, "head_count_kv differs by layer"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count is 8 and the heads are 16 wide"),
        ({"llama.attention.value_length": 32}, "value_length is 32"),
        ({"llama.block_count": 3}, "tensor blk.2.attn_q.weight is missing"),
        ({"llama.block_count": 4_000_000_000}, "21 tensors for 4000000000 blocks"),
        ({"llama.block_count": 1}, "tensor blk.1.attn_q.weight is unknown to a llama"),
        ({"llama.embedding_length": None}, "embedding_length"),
        ({"llama.embedding_length": "wide"}, "damaged"),
        (
            {"llama.feed_forward_length": 64},
            "tensor blk.0.ffn_gate.weight is (48, 32), the model's shape asks for (64, 32)",
        ),
        ({"llama.attention.head_count": 0}, "bad.gguf"),
        ({"split.count": 3}, "one of 3 parts"),
        ({"tokenizer.ggml.model": "llama"}, "SentencePiece"),
        ({"tokenizer.ggml.model": None}, "of kind None"),
        ({"tokenizer.ggml.pre": "tekken"}, "cuts words as 'tekken'"),
        (
            {"tokenizer.ggml.tokens": [f"t{i}" for i in range(401)], "tokenizer.ggml.token_type": [1] * 401},
            "401 tokens",
        ),
        ({"tokenizer.ggml.eos_token_id": 5000}, "eos_id 5000 is outside the vocabulary"),
        ({"tokenizer.ggml.merges": None}, "merges"),
    ],
)
def test_metadata(good: Path, values: dict[str, Any], words: str) -> None:
    refused(rewrite(good, values), words)


def test_an_unknown_family(good: Path) -> None:
    refused(rewrite(good, architecture="gemma3"), "architecture 'gemma3' is unknown: Palmier reads command-r, llama")


def test_tensors(good: Path) -> None:
    refused(rewrite(good, tensors={"blk.1.attn_v.weight": None}), "tensor blk.1.attn_v.weight is missing")
    refused(rewrite(good, tensors={"token_embd.weight": None}), "token_embd.weight is missing: it holds a vocabulary")
    wrong = np.zeros((16, 31), np.float16)
    refused(rewrite(good, tensors={"blk.1.attn_v.weight": wrong}), "attn_v.weight is (16, 31)", "(16, 32)")
    more = np.zeros((4, 4), np.float16)
    refused(rewrite(good, tensors={"blk.0.ffn_gate_exps.weight": more}), "ffn_gate_exps.weight is unknown to a llama")
    refused(rewrite(good, tensors={"blk.0.attn_q.bias": more[0]}), "blk.0.attn_q.bias is unknown to a llama")
    refused(rewrite(good, tensors={"rope_freqs.weight": np.arange(1, 9, dtype=np.float32)}), "not how Llama 3.1 scales")
    refused(
        rewrite(good, tensors={"blk.1.attn_v.weight": np.zeros((16, 32), np.int8)}), "stored as I8, which is not read"
    )


def test_another_processors_order_of_bytes(good: Path) -> None:
    refused(rewrite(good, endian=library.GGUFEndian.BIG), "the other order")


def test_text_that_is_not_utf_8(good: Path) -> None:
    whole = good.read_bytes()
    template = whole.index(b"{% for message")
    path = good.with_name("bad.gguf")
    path.write_bytes(whole[:template] + b"\xff" + whole[template + 1 :])
    refused(path, "is damaged", "utf-8")


def test_no_gguf_at_all(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    refused(path, "is damaged or no GGUF file")
    with pytest.raises(Refusal, match="missing"):
        gguf.import_gguf(tmp_path / "none.gguf", tmp_path / "folder")
    with pytest.raises(Refusal, match="missing"):
        gguf.import_gguf(tmp_path, tmp_path / "folder")


def test_a_damaged_byte_is_read_or_refused_and_never_a_crash(good: Path) -> None:
    """Bytes of the metadata and of the tensors' list at random; counts are kept small, so that none fills memory."""
    whole = good.read_bytes()
    reader = library.GGUFReader(good)
    begin = reader.fields["tokenizer.ggml.model"].offset
    listed = reader.tensors[0].field.offset
    path, draw = good.with_name("bad.gguf"), random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for turn in range(120):
        damaged = bytearray(whole)
        low, high = ((24, begin), (listed, reader.data_offset))[turn % 2]
        for _ in range(draw.randint(1, 2)):
            damaged[draw.randrange(low, high)] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            gguf.import_gguf(path, good.parent / "folder")
            outcomes["read"] += 1
        except Refusal:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 60


def test_a_version_of_the_format_that_is_unknown(good: Path) -> None:
    whole = good.read_bytes()
    path = good.with_name("bad.gguf")
    path.write_bytes(whole[:4] + struct.pack("<I", 77) + whole[8:])
    refused(path, "damaged or no GGUF", "77")
