"""llama.cpp, given our GGUF, makes the ids that our tokenizers make; and the metadata's own refusals."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from palmier.data.template import Template
from palmier.data.tokenizer import SPECIALS, Tokenizer
from palmier.errors import Refusal
from palmier.model import checkpoint, gguf_tokenizer
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.gguf import packaged_file
from palmier.model.gguf_export import export_gguf

from .conftest import LINES
from .llama_cpp import LlamaCpp

ALPHABETS = (
    "abcXYZ '",
    " \t\n\r\u00a0\u3000",
    "0123456789²½Ⅷ٣",
    "éßñÄПривет日本語한국",
    "🦙🌴👨\u200d👩",
    "'s'LL'd're.,;!?-—„“()[]{}<|>_#",
)


def texts(count: int, seed: int) -> list[str]:
    """Random mixtures of several scripts, white space and numerals."""
    draw = random.Random(seed)
    pieces = ["".join(draw.choices(draw.choice(ALPHABETS), k=draw.randint(1, 4))) for _ in range(count * 6)]
    return ["".join(pieces[6 * i : 6 * i + 6]) for i in range(count)]


def in_llama_cpp(folder: Path, rows: int, out: Path) -> LlamaCpp:
    """A smallest model around the folder's tokenizer, exported and opened."""
    checkpoint.save(Decoder.create(ModelConfig("llama", rows, 32, 1, 1, 1, 32, 32, 64), 0), folder)
    export_gguf(folder, out, "f16")
    return LlamaCpp(out)


def pre_name(path: Path) -> str:
    return str(gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents())


def test_our_own_tokenizer(own: Tokenizer, tmp_path: Path) -> None:
    own.save(tmp_path)
    theirs = in_llama_cpp(tmp_path, own.size + 3, tmp_path / "own.gguf")
    assert pre_name(tmp_path / "own.gguf") == "command-r"
    for text in (*LINES, *texts(400, 0)):
        assert theirs.tokenize(text) == own.encode(text), repr(text)
        assert theirs.tokenize(text, start=True) == own.encode(text), "a start token was added"
    for typed in SPECIALS:
        assert theirs.tokenize(f"x {typed} y") == own.encode(f"x {typed} y"), "what a person types is plain text"
    assert theirs.tokenize("<|im_start|>user\nHi<|im_end|>", special=True)[0] == own.id("<|im_start|>")
    talk = [
        {"role": "user", "content": "Hi 12"},
        {"role": "assistant", "content": "Yo"},
        {"role": "user", "content": "?"},
    ]
    prompt = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in talk)
    assert theirs.chat(talk) == prompt + "<|im_start|>assistant\n"
    # Without one llama.cpp takes ChatML too, so that the prompt alone shows nothing.
    template = gguf.GGUFReader(tmp_path / "own.gguf").fields["tokenizer.chat_template"].contents()
    assert template == own.config["chat_template"]


@pytest.mark.long
def test_gpt2s_vocabulary_and_llama_cpps_own_cases(real_data: Path, tmp_path: Path) -> None:
    """The 46 inputs and ids that llama.cpp tests itself with, by our reading of its file and by its reading of ours."""
    source = real_data / "tokenizers" / "ggml-vocab-gpt-2.gguf"
    values = {name: field.contents() for name, field in gguf.GGUFReader(source).fields.items()}
    ours = gguf_tokenizer.build(values, 50257)
    ours.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(gguf_tokenizer.settings(values, 1024)))
    theirs = in_llama_cpp(tmp_path, 50257, tmp_path / "gpt2.gguf")
    assert pre_name(tmp_path / "gpt2.gguf") == "gpt-2"
    inputs = source.with_suffix(".gguf.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")[:-1]
    outputs = source.with_suffix(".gguf.out").read_text("utf-8").splitlines()
    assert len(inputs) == len(outputs) == 46
    for text, line in zip(inputs, outputs, strict=True):
        expected = [int(number) for number in line.split()]
        assert ours.encode(text, add_special_tokens=False).ids == expected, repr(text)
        assert theirs.tokenize(text) == expected, repr(text)
    for text in texts(100, 1):
        assert theirs.tokenize(text) == ours.encode(text, add_special_tokens=False).ids, repr(text)


def test_smollm2s_tokenizer(real_data: Path, tmp_path: Path) -> None:
    """Read out of the embedded GGUF, written again, and llama.cpp's reading of both files: the same ids."""
    try:
        source = packaged_file()
    except Refusal as missing:
        pytest.skip(str(missing))
    values = {name: field.contents() for name, field in gguf.GGUFReader(source).fields.items()}
    ours = gguf_tokenizer.build(values, 49152)
    ours.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(gguf_tokenizer.settings(values, 2048)))
    theirs, again = LlamaCpp(source), in_llama_cpp(tmp_path, 49152, tmp_path / "again.gguf")
    inputs = (real_data / "tokenizers" / "ggml-vocab-gpt-2.gguf.inp").read_text("utf-8")
    for text in (*inputs.split("\n__ggml_vocab_test__\n")[:-1], *texts(100, 2)):
        assert theirs.tokenize(text) == ours.encode(text, add_special_tokens=False).ids, repr(text)
        assert again.tokenize(text) == theirs.tokenize(text), repr(text)
    talk = [{"role": "user", "content": "Hi"}]
    assert again.chat(talk) == theirs.chat(talk)
    assert Template.load(tmp_path).system == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


PUBLISHED = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""As the tokenizer.json of Llama 3 and of Qwen2 write them."""


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2"])
def test_the_patterns_of_llama3_and_qwen(pre: str, tmp_path: Path) -> None:
    """Merges learnt over words cut by the pattern; digits by threes are Llama 3's, one by one Qwen's."""
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    split = pre_tokenizers.Split(Regex(PUBLISHED[pre]), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Sequence([split, byte_level]), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([*LINES, *texts(200, 4)], trainer)
    backend.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    Tokenizer(backend, {"eos_token": "<|im_end|>"}).save(tmp_path)
    theirs = in_llama_cpp(tmp_path, 700, tmp_path / "pattern.gguf")
    assert pre_name(tmp_path / "pattern.gguf") == pre
    ours = Tokenizer.load(tmp_path)
    for text in (*LINES, "1234567 12 1", "a<tool>b", "<|im_end|>", *texts(300, 5)):
        assert theirs.tokenize(text) == ours.encode(text), repr(text)
    values = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "pattern.gguf").fields.items()}
    back = Tokenizer(gguf_tokenizer.build(values, 700), {})
    for text in (*LINES, "a<tool>b", *texts(50, 6)):
        assert back.encode(text) == ours.encode(text), repr(text)
    assert back.size == ours.size  # rows without a token became none


def test_a_word_that_is_a_token_is_taken_whole_by_llama3_alone(tmp_path: Path) -> None:
    """ "abc" is a token that no merge leads to: b and c are merged first."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "bc", "abc", "<|im_end|>"]
    merges, kinds = ["b c", "a b"], [1] * 259 + [3]
    for pre, expected in (("llama-bpe", [258]), ("qwen2", [tokens.index("a"), 257])):
        values = {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": kinds, "merges": merges}
        values = {f"tokenizer.ggml.{key}": value for key, value in values.items()} | {
            "tokenizer.ggml.eos_token_id": 259
        }
        built = gguf_tokenizer.build(values, 260)
        assert built.encode("abc").ids == expected
        folder = tmp_path / pre
        folder.mkdir()
        built.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(gguf_tokenizer.settings(values, 64)))
        theirs = in_llama_cpp(folder, 260, tmp_path / f"{pre}.gguf")
        assert theirs.tokenize("abc") == expected
        assert pre_name(tmp_path / f"{pre}.gguf") == pre


def test_a_start_token_that_the_tokenizer_adds_is_added_there(own: Tokenizer, tmp_path: Path) -> None:
    from tokenizers import processors

    own.save(tmp_path)
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    start = "<|endoftext|>"
    backend.post_processor = processors.TemplateProcessing(single=[start, "$A"], special_tokens=[(start, 0)])
    backend.save(str(tmp_path / "tokenizer.json"))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"bos_token": {"content": start}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = in_llama_cpp(tmp_path, own.size, tmp_path / "start.gguf")
    assert theirs.tokenize("Hi", start=True) == [0, *own.encode("Hi")] == backend.encode("Hi").ids
    values = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "start.gguf").fields.items()}
    assert gguf_tokenizer.build(values, own.size).encode("Hi").ids == backend.encode("Hi").ids


GOOD: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "command-r",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "<|im_end|>"],
    "tokenizer.ggml.token_type": [1, 1, 1, 3],
    "tokenizer.ggml.merges": ["a b"],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "llama"}, "SentencePiece"),
        ({"model": "bert"}, "of kind 'bert'"),
        ({"model": None}, "of kind None"),
        ({"pre": "deepseek-llm"}, "cuts words as 'deepseek-llm': Palmier knows gpt-2, command-r"),
        ({"pre": None}, "cuts words as None"),
        ({"token_type": [1, 1]}, "4 tokens and 2 token types"),
        ({"tokens": ["a", "b", "a", "<|im_end|>"]}, "two tokens of the same text"),
        ({"tokens": ["a", "b", "ab", "c", "<|im_end|>"], "token_type": [1] * 5}, "5 tokens and the embedding 4 rows"),
        ({"merges": ["a c"]}, "merges do not fit"),
    ],
)
def test_metadata_that_are_no_byte_level_bpe_are_refused(change: dict[str, Any], words: str) -> None:
    assert gguf_tokenizer.build(GOOD, 4).encode("ab", add_special_tokens=False).ids == [2]
    with pytest.raises(Refusal, match=words):
        gguf_tokenizer.build(GOOD | {f"tokenizer.ggml.{key}": value for key, value in change.items()}, 4)


def test_a_special_token_that_is_none_of_the_tokens_is_refused() -> None:
    with pytest.raises(Refusal, match="eos_token 9 is none of its 4 tokens"):
        gguf_tokenizer.settings(GOOD | {"tokenizer.ggml.eos_token_id": 9}, 64)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("pre_tokenizer", {"type": "Whitespace"}, "cuts words as no pre-tokenizer of llama.cpp"),
        ("normalizer", {"type": "Lowercase"}, "changes texts before it cuts them"),
        ("decoder", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}, "not byte-level BPE"),
    ],
)
def test_what_llama_cpp_would_read_otherwise_is_not_exported(
    own: Tokenizer, tmp_path: Path, part: str, value: dict[str, Any], words: str
) -> None:
    own.save(tmp_path)
    stored = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored | {part: value}), "utf-8")
    with pytest.raises(Refusal, match=words):
        gguf_tokenizer.describe(tmp_path, own.size)


def test_bad_files_of_a_tokenizer_are_named(own: Tokenizer, tmp_path: Path) -> None:
    own.save(tmp_path)
    with pytest.raises(Refusal, match=rf"ids up to {own.size - 1}, and the model's embedding {own.size - 1} rows"):
        gguf_tokenizer.describe(tmp_path, own.size - 1)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(Refusal, match=r"chat_template\.jinja is not UTF-8: invalid start byte at byte 0"):
        gguf_tokenizer.describe(tmp_path, own.size)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(Refusal, match="names no eos_token"):
        gguf_tokenizer.describe(tmp_path, own.size)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(Refusal, match=r"tokenizer_config\.json is no JSON object"):
        gguf_tokenizer.describe(tmp_path, own.size)
    (tmp_path / "tokenizer.json").write_bytes(b'{"version": "\xff"}')
    with pytest.raises(Refusal, match=r"tokenizer\.json is no tokenizer"):
        gguf_tokenizer.describe(tmp_path, own.size)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(Refusal, match=r"tokenizer\.json is missing"):
        gguf_tokenizer.describe(tmp_path, own.size)
