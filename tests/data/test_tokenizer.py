"""Text to ids and back without loss, as other programs do it, and never a special token out of a text."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import regex
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from palmier.data.template import Template
from palmier.data.tokenizer import SPECIALS, Stream, Tokenizer, pre_tokenization, train
from palmier.errors import Refusal
from palmier.records import Document

WHITE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
GPT2 = regex.compile(
    rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^{WHITE}\p{{L}}\p{{N}}]+|[{WHITE}]+(?![^{WHITE}])|[{WHITE}]+"
)
texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\t'sdt0123½²x🦙é<|>_")), max_size=60)


def long_known(text: str) -> str:
    """The characters that Unicode 3.2 has: for later ones, tables of different age differ."""
    return "".join(c for c in text if unicodedata.ucd_3_2_0.category(c) != "Cn")


def command_r(text: str) -> list[str]:
    """llama.cpp's two passes, slowly: cut out every \\p{N}, then GPT-2's pattern in each piece."""
    pieces = [piece for piece in regex.split(r"(\p{N})", text) if piece]
    return [word for piece in pieces for word in GPT2.findall(piece)]


def byte_pairs(word: bytes, rank: dict[tuple[bytes, bytes], int]) -> list[bytes]:
    """BPE as it is defined: merge the pair of the lowest rank until there is none."""
    parts = [word[i : i + 1] for i in range(len(word))]
    while True:
        found = [(rank[pair], i) for i, pair in enumerate(itertools.pairwise(parts)) if pair in rank]
        if not found:
            return parts
        place = min(found)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def saved(tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    tokenizer.save(folder)
    whole: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    return whole


@settings(max_examples=400, deadline=None)
@given(texts)
def test_words_are_cut_as_llama_cpp_cuts_them_for_command_r(text: str) -> None:
    known = long_known(text)
    fast = [known[start:end] for _, (start, end) in pre_tokenization().pre_tokenize_str(known)]
    assert fast == command_r(known)


@pytest.fixture(scope="session")
def slow_bpe(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    whole = saved(tokenizer, tmp_path_factory.mktemp("slow"))
    of = {token: tokenizer.token_bytes(number) for token, number in whole["model"]["vocab"].items()}
    ids = {of[token]: number for token, number in whole["model"]["vocab"].items() if of[token]}
    rank = {(of[a], of[b]): place for place, (a, b) in enumerate(whole["model"]["merges"])}
    return lambda text: [ids[part] for word in command_r(text) for part in byte_pairs(word.encode(), rank)]


@settings(max_examples=200, deadline=None)
@given(texts)
def test_ids_are_those_of_the_definition(tokenizer: Tokenizer, slow_bpe: Any, text: str) -> None:
    known = long_known(text)
    assert tokenizer.encode(known) == slow_bpe(known)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_bytes(token) for token in tokenizer.encode("2026")] == [b"2", b"0", b"2", b"6"]


@given(st.lists(st.one_of(st.sampled_from(SPECIALS), st.text(max_size=8)), max_size=8).map("".join))
def test_a_typed_special_token_is_plain_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not {tokenizer.id(special) for special in SPECIALS} & set(ids)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_many([text]) == [ids]


def test_special_tokens_are_the_first_ids_and_are_not_spoken(tokenizer: Tokenizer) -> None:
    assert [tokenizer.id(special) for special in SPECIALS] == [0, 1, 2]
    assert tokenizer.decode([1, *tokenizer.encode("Hi"), 2, 0, tokenizer.size + 5, -1]) == "Hi"
    with pytest.raises(Refusal, match="no token <\\|tool\\|>"):
        tokenizer.id("<|tool|>")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_stream_never_breaks_a_character_and_adds_up(tokenizer: Tokenizer, data: st.DataObject) -> None:
    whole = tokenizer.encode(data.draw(st.text(st.sampled_from("aé🦙 \n世"), max_size=20)))
    noise = st.integers(0, tokenizer.size - 1)
    ids = data.draw(st.one_of(st.just(whole), st.lists(noise, max_size=30)))
    stream = Stream(tokenizer)
    pieces = [stream.push(token) for token in ids] + [stream.flush()]
    assert "".join(pieces) == tokenizer.decode(ids)
    if ids is whole:
        assert "\ufffd" not in "".join(pieces)


def test_lone_surrogates_become_replacement_characters(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83e\udd99")) == "🦙"
    train([Document("fine \udfff text", "x")], 300)


def test_training_is_deterministic_whatever_the_threads(documents: list[Document], tokenizer: Tokenizer) -> None:
    code = (
        "import sys, json; from palmier.records import Document; from palmier.data.tokenizer import train\n"
        "print(train([Document(t, '') for t in json.load(sys.stdin)], 500).fingerprint)"
    )
    for threads in ("1", "3"):
        environment = {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true", "PYTHONHASHSEED": threads}
        told = json.dumps([document.text for document in documents])
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, input=told, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == tokenizer.fingerprint


def test_the_fingerprint_is_of_what_decides_ids(
    tokenizer: Tokenizer, documents: list[Document], tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == tokenizer.fingerprint
    assert train(documents, 400).fingerprint != tokenizer.fingerprint


def test_a_small_text_gives_a_small_vocabulary_and_no_text_is_refused() -> None:
    assert train([Document("ab ab", "x")], 1000).size == 260 + 1  # the bytes, three specials, "ab" and " ab"
    with pytest.raises(Refusal, match="no text"):
        train([Document("  \n", "x")], 1000)
    with pytest.raises(Refusal, match="259"):
        train([Document("ab", "x")], 258)


def test_transformers_reads_the_folder_and_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer.save(tmp_path)
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path, local_files_only=True)
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (2, 0, None)
    assert len(theirs) == tokenizer.size
    for text in ("I'll pay 350 euros.\n\n  Ada", "  Привет 🦙 <b>3½</b>\t\n", "naïve\r\n", "x <|im_end|> y", ""):
        assert theirs.encode(text, split_special_tokens=True, add_special_tokens=False) == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    theirs.save_pretrained(tmp_path / "theirs")
    back = Tokenizer.load(tmp_path / "theirs")
    assert back.fingerprint == tokenizer.fingerprint
    assert Template(back).system == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "1.0"}', '{"model": {"type": "Unigram"}}'])
def test_a_file_that_is_no_tokenizer_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(Refusal, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_files_that_are_not_utf_8_or_of_another_shape_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"{% for \xe9 %}")
    with pytest.raises(Refusal, match=r"chat_template\.jinja is not UTF-8: .* at byte 7"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(Refusal, match=r"tokenizer_config\.json is no JSON object"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_bytes(b'{"eos_token": "\xff"}')
    with pytest.raises(Refusal, match=r"tokenizer_config\.json is not JSON: .*utf-8"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b'{"version": "\xff"}')
    with pytest.raises(Refusal, match=r"tokenizer\.json is no tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_vocabulary_larger_than_the_embedding_beside_it_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A token without a row ends a run at its first use."""
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": tokenizer.size}))
    assert Tokenizer.load(tmp_path).size == tokenizer.size
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": tokenizer.size - 1}))
    with pytest.raises(Refusal, match=rf"ids up to {tokenizer.size - 1}, but the model's embedding ends at"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    backend = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    for decoder in (None, decoders.ByteLevel()):
        if decoder is not None:
            backend.decoder = decoder
        backend.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(Refusal, match="not byte-level BPE"):
            Tokenizer.load(tmp_path)


def test_gpt2s_own_cases(real_data: Path) -> None:
    """llama.cpp's 46 inputs for GPT-2: its pattern is ours wherever no digit stands."""
    reader = pytest.importorskip("gguf").GGUFReader(real_data / "tokenizers" / "ggml-vocab-gpt-2.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items() if "ggml" in name}
    vocabulary = {token: number for number, token in enumerate(fields["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    folder = real_data / "tokenizers"
    inputs = (folder / "ggml-vocab-gpt-2.gguf.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")[:-1]
    outputs = (folder / "ggml-vocab-gpt-2.gguf.out").read_text("utf-8").splitlines()
    cases = [(text, [int(n) for n in line.split()]) for text, line in zip(inputs, outputs, strict=True)]
    assert len(cases) == 46
    ours = 0
    for text, expected in cases:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        assert backend.encode(text).ids == expected
        if not regex.search(r"\p{N}", text):
            backend.pre_tokenizer = pre_tokenization()
            assert backend.encode(text).ids == expected
            ours += 1
    assert ours >= 30
