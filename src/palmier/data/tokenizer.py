"""Byte-level BPE: text in, token ids out, and back without loss.

Pre-tokenisation splits off every digit and then applies GPT-2's pattern (Radford et al.
2019), the pair that llama.cpp calls ``command-r``: digits one by one are PaLM's rule.
Special tokens are never read out of text: a ``<|im_end|>`` that somebody typed is encoded
as the characters that it is made of.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from palmier.errors import Refusal
from palmier.records import Document
from palmier.workspace import read_json, write_json, write_text

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIALS = (END_OF_TEXT, TURN_START, TURN_END)
"""In this order they are the ids 0, 1 and 2 of a trained tokenizer (and of SmolLM2's)."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The chat template that is written beside a trained tokenizer, for other programs to use."""

FILES = ("tokenizer.json", "tokenizer_config.json")
"""What ``Tokenizer.save`` writes."""

SMALLEST = 256 + len(SPECIALS)


class Tokenizer:
    """A byte-level BPE tokenizer and what its folder says about it.

    ``config`` is the content of tokenizer_config.json, kept as it was found.
    """

    def __init__(self, backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
        self._backend = backend
        self.config = config
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self._bytes = _token_bytes(backend)
        self.start = _start(backend)
        """Ids that stand before plain text, as transformers puts them there: a start token where the folder asks for one."""
        self.fingerprint = _fingerprint(backend)
        """Hash of what turns text into ids: equal fingerprints, equal ids for every text."""

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json and tokenizer_config.json; raises Refusal where they are not usable."""
        path = Path(folder) / FILES[0]
        if not path.is_file():
            raise Refusal(f"{path} is missing")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001  # the library raises bare Exception for a bad file
            raise Refusal(f"{path} is no tokenizer: {error}") from None
        if not isinstance(backend.decoder, decoders.ByteLevel) or not isinstance(backend.model, models.BPE):
            raise Refusal(f"{path} is not byte-level BPE (as GPT-2's and SmolLM2's are), the one kind Palmier reads")
        config = read_json(Path(folder) / FILES[1])
        if not isinstance(config, dict):
            raise Refusal(f"{Path(folder) / FILES[1]} is no JSON object")
        jinja = Path(folder) / "chat_template.jinja"
        if jinja.is_file():
            try:
                config["chat_template"] = jinja.read_text("utf-8")
            except UnicodeDecodeError as error:
                raise Refusal(f"{jinja} is not UTF-8: {error.reason} at byte {error.start}") from None
        tokenizer = cls(backend, config)
        _check_embedding(Path(folder) / "config.json", tokenizer.size)
        return tokenizer

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json into an existing or new folder."""
        write_text(Path(folder) / FILES[0], self._backend.to_str(pretty=True))
        write_json(Path(folder) / FILES[1], self.config)

    @property
    def size(self) -> int:
        """Rows an embedding needs: the highest id + 1."""
        return len(self._bytes)

    def id(self, special: str) -> int:
        """The id of a special token such as ``<|im_end|>``; raises Refusal where there is none."""
        found = self._backend.token_to_id(special)
        if found is None:
            raise Refusal(f"the tokenizer has no token {special}: chat needs {', '.join(SPECIALS)}")
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; no start token is added, special tokens are not recognised."""
        return list(self._backend.encode(whole_characters(text), add_special_tokens=False).ids)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` for several texts, on all cores."""
        batch = [whole_characters(text) for text in texts]
        return [list(one.ids) for one in self._backend.encode_batch_fast(batch, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens and ids past the vocabulary are dropped, broken UTF-8 becomes U+FFFD."""
        return b"".join(self.token_bytes(token) for token in ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; none for special tokens and ids past the vocabulary."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def spell(self, token: int) -> str:
        """A token as one reads it: special ones by name, bytes that are no whole character as ``bytes:\\xf0\\x9f``."""
        spelt = self.token_bytes(token)
        if not spelt:
            return self._backend.id_to_token(token) or f"token_id:{token}"
        try:
            return spelt.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelt)


class Stream:
    """Turns tokens into text as they come, never splitting a character.

    The pieces together are ``tokenizer.decode`` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that is certain after this token, possibly empty."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


def train(documents: Iterable[Document], vocab_size: int) -> Tokenizer:
    """Learn byte-level BPE merges; the same documents give the same tokenizer.

    The vocabulary is smaller than ``vocab_size`` where the text has no more pairs to merge.
    Documents are streamed; memory grows with the number of distinct words.
    """
    if vocab_size < SMALLEST:
        raise Refusal(
            f"a vocabulary of {vocab_size} is too small: 256 bytes and {len(SPECIALS)} special tokens are {SMALLEST}"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenization()
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = _Counted(documents)
    backend.train_from_iterator(iter(texts), trainer)
    if not texts.count:
        raise Refusal("no text to train a tokenizer on: every document is empty")
    return Tokenizer(backend, _config())


def pre_tokenization() -> pre_tokenizers.PreTokenizer:
    """Digits one by one, then GPT-2's pattern: llama.cpp's ``command-r``."""
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return pre_tokenizers.Sequence(split)


def whole_characters(text: str) -> str:
    """Text without lone surrogates, which JSON can smuggle in and UTF-8 cannot write (→ U+FFFD)."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class _Counted:
    """Texts of documents, counting those that are not blank."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = documents
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for document in self._documents:
            if document.text.strip():
                self.count += 1
                yield whole_characters(document.text)


def _config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHATML,
    }


def _check_embedding(path: Path, size: int) -> None:
    """Raise Refusal where the model whose config.json lies beside the tokenizer has no row for its last ids."""
    config = read_json(path) if path.is_file() else None
    rows = config.get("vocab_size") if isinstance(config, dict) else None
    if isinstance(rows, int) and size > rows:
        raise Refusal(
            f"{path.parent}: the tokenizer has ids up to {size - 1}, but the model's embedding ends at {rows - 1} "
            "(vocab_size in config.json): they do not belong together"
        )


def _token_bytes(backend: tokenizers.Tokenizer) -> list[bytes]:
    """The bytes of every id. Byte-level BPE writes each byte as one printable character."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    vocabulary = backend.get_vocab(with_added_tokens=True)
    added = backend.get_added_tokens_decoder()
    table = [b""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        if number in added:
            table[number] = b"" if added[number].special else token.encode()
        elif all(character in byte_of for character in token):
            table[number] = bytes(byte_of[character] for character in token)
        else:
            raise Refusal(f"token {token!r} of the tokenizer is not made of bytes: it is no byte-level BPE")
    return table


def _start(backend: tokenizers.Tokenizer) -> list[int]:
    """What the post-processor of tokenizer.json puts before a text; transformers heeds that file alone too."""
    around = backend.encode("a")
    added = next((place for place, special in enumerate(around.special_tokens_mask) if not special), 0)
    return list(around.ids[:added])


def _fingerprint(backend: tokenizers.Tokenizer) -> str:
    """The post-processor, which adds tokens around a text, is left out: it never stands in a conversation."""
    around = backend.post_processor
    backend.post_processor = None
    digest = hashlib.sha256(backend.to_str().encode()).hexdigest()
    backend.post_processor = around
    return digest
